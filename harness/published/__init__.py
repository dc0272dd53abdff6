"""Reads what others published about their runs: logs, pages and configurations become records."""

from harness.published import (
    axlearn_config,
    event_file,
    maxtext_log,
    maxtext_metrics,
    maxview_page,
    megatron_log,
)
from harness.published.document import Document, Imported
from harness.terminal.errors import UserError

__all__ = ["document", "read"]

# In the order in which they are tried: a page holds logs.
_TEXTS = (axlearn_config, maxtext_metrics, megatron_log, maxview_page, maxtext_log)


def read(document: Document) -> Imported:
    """The records of a document; raises UserError when it is of no known kind, or broken."""
    if document.events:
        return event_file.read(document)
    for kind in _TEXTS:
        if kind.SIGN.search(document.text):
            return kind.read(document)
    kinds = ", ".join([*(kind.KIND for kind in reversed(_TEXTS)), event_file.KIND])
    raise UserError(f"{document.name}: is none of what can be read: {kinds}")

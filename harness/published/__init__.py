"""Reads what others published about their runs: logs, pages and configurations become records."""

from harness.errors import UserError
from harness.published import axlearn_config, maxtext_log, maxview_page, megatron_log
from harness.published.document import Document, Imported

__all__ = ["document", "read"]

# In the order in which they are tried: a page holds logs.
_KINDS = (axlearn_config, megatron_log, maxview_page, maxtext_log)


def read(document: Document) -> Imported:
    """The records of a document; raises UserError when it is of no known kind, or broken."""
    for kind in _KINDS:
        if kind.SIGN.search(document.text):
            return kind.read(document)
    raise UserError(f"{document.name}: none of {', '.join(kind.KIND for kind in reversed(_KINDS))}")

"""What JAX has of a program, as text that tells programs apart."""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from harness.hlo.kernels import kernel_digest

if TYPE_CHECKING:  # programs are read and compared without JAX
    from jax.stages import Compiled, Lowered

_BODY = re.compile(r"(\\22body\\22: \\22)([^\\]*)")
_LOCATIONS = re.compile(r"(\\22debug_locations\\22: \\22)[^\\]*")


def text(compiled: "Compiled") -> str:
    """The program's text with every constant in full; `as_text()` elides arrays as {...}.

    Two programs that differ only in an array compiled into them (an attention mask) look
    alike otherwise. Falls back to `as_text()` where this JAX does not offer more.
    """
    try:
        options = _print_options()
        options.print_large_constants = True
        modules = compiled.runtime_executable().hlo_modules()  # type: ignore[union-attr]
    except (ImportError, AttributeError, NotImplementedError):
        return compiled.as_text() or ""
    return "\n\n".join(module.to_string(options) for module in modules)


def _print_options() -> Any:
    try:
        from jaxlib._hlo import HloPrintOptions
    except ImportError:  # before JAX 0.10.2
        from jaxlib._jax import HloPrintOptions
    return HloPrintOptions()


def stablehlo_sha256(lowered: "Lowered") -> str:
    """The sha256 of the lowered program's text, in which names count but source lines do not."""
    text = _LOCATIONS.sub(r"\1", lowered.as_text())
    text = _BODY.sub(lambda body: body[1] + kernel_digest(body[2]), text)
    return hashlib.sha256(text.encode()).hexdigest()

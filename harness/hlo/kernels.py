"""Pallas kernels as they stand in a TPU program, without their source locations."""

import base64
import binascii
import hashlib
from functools import lru_cache


@lru_cache(maxsize=1024)
def kernel_digest(body: str) -> str:
    """The sha256 of a kernel's operations, from the base64 text of its MLIR bytecode.

    JAX 0.10 stores with each operation the file, line and name stack it was written in (0.12 keeps
    them beside the kernel), so that the bytes depend on where JAX is installed: only the operations
    are hashed. Bytes that this JAX cannot read as MLIR are hashed as they are.
    """
    from jax.extend.mlir import ir  # imports JAX, which no other reader of programs needs

    try:
        from jaxlib.mosaic.python import tpu
    except ImportError:  # a JAX without Mosaic reads no kernels: they count byte for byte
        tpu = None  # type: ignore[assignment]
    try:
        content = base64.b64decode(body, validate=True)
        with ir.Context() as context:
            context.allow_unregistered_dialects = True
            if tpu is not None:
                tpu.register_dialect(context)
            module = ir.Module.parse(content)
            assembly = str(module.operation.get_asm(enable_debug_info=False))
    except (binascii.Error, ir.MLIRError):
        assembly = body
    return hashlib.sha256(assembly.encode()).hexdigest()

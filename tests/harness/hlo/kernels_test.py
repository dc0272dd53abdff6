import base64
import hashlib

from harness.hlo.kernels import kernel_digest


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kernel(operation: str, location: str) -> str:
    return encoded(f'module {{ "test.{operation}"() : () -> () loc("{location}":3:4) }}')


def test_a_kernel_counts_by_its_operations_and_not_by_its_lines() -> None:
    one = kernel_digest(kernel("first", "here.py"))
    assert one == kernel_digest(kernel("first", "elsewhere.py"))
    assert one != kernel_digest(kernel("second", "here.py"))
    assert len(one) == 64


def test_bytes_that_are_no_kernel_count_as_they_are() -> None:
    for text in ("not base64!", encoded("no kernel")):
        assert kernel_digest(text) == hashlib.sha256(text.encode()).hexdigest()

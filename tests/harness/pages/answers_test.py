import pytest
from compared_records import make

from harness.comparing import comparison
from harness.pages import answers
from harness.pages.gathering import Pair
from harness.pages.sources import Run


def compiled(impl: str, fingerprint: str | None, error: str | None = None) -> Run:
    made = make(impl=impl) | {"status": "preflight", "steps": [], "error": error}
    made["program"]["optimized_sha256"] = fingerprint
    return Run(made, "", None)


@pytest.mark.parametrize(
    ("prints", "outcome", "words", "number"),
    [
        (("a", "a"), "same", "one program", "1 of 1"),
        (("a", "b"), "different", "different programs", "1 of 1"),
        (("a", None), "unknown", "not known", ""),
    ],
)
def test_programs_that_never_ran(
    prints: tuple[str | None, str | None], outcome: str, words: str, number: str
) -> None:
    a, b = (
        compiled(impl, known and known * 64, "does not fit")
        for impl, known in zip(("linen", "nnx"), prints, strict=True)
    )
    pair = Pair(comparison.compare([a.record], [b.record]), (a,), (b,))
    found = answers.of_programs({"v6e-8": pair}, {"v6e-8": {"linen": a, "nnx": b}})
    assert found is not None
    assert (found.outcome, found.words, found.number) == (outcome, words, number)
    assert "does not fit: v6e-8" in found.about
    assert answers.of_programs({}, {}) is None


def test_a_slice_compiled_for_one_side_alone_leaves_it_open() -> None:
    a, b = compiled("linen", "a" * 64), compiled("nnx", "a" * 64)
    pair = Pair(comparison.compare([a.record], [b.record]), (a,), (b,))
    slices = {"v6e-8": {"linen": a, "nnx": b}, "v6e-32": {"linen": a}}
    found = answers.of_programs({"v6e-8": pair}, slices)
    assert found is not None
    assert (found.outcome, found.number) == ("unclear", "1 of 2")

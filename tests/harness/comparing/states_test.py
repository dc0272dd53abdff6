"""Which arrays of two final states differ, and what they are."""

from compared_records import Record, make

from harness.comparing import comparison
from harness.comparing.model import Comparison, Verdict

USUAL = {"params/a": "float32[8]:1", "params/b": "float32[8]:2", "opt_state/0/mu/a": "float32:3"}


def ending(changes: dict[str, str] | None = None) -> Record:
    """A run that tells the digest of each array of its final state."""
    made = make()
    digests = USUAL | (changes or {})
    made["checkpoint"] |= {"digests": digests, "digest": str(sorted(digests.items()))}
    return made


def numbers(found: Comparison) -> Verdict:
    return found.verdicts[0]


def test_random_state_that_one_side_has_more_is_not_other_parameters() -> None:
    keys = {f"model_state/rngs/{n}": "uint32[2]:7" for n in range(30)}
    found = comparison.compare([ending()], [ending(keys)])
    assert numbers(found).words.endswith(
        "the same final state, only B has 30 arrays more (random state)"
    )
    assert (numbers(found).outcome, found.regressed) == ("same", False)


def test_arrays_that_differ_are_named_by_their_part() -> None:
    found = comparison.compare([ending()], [ending({"params/b": "float32[8]:9"})])
    assert found.regressed
    assert numbers(found).words.endswith(
        "different final states: optimizer state equal, 1 of 2 arrays of parameters differ"
        " (params/b)"
    )


def test_parameters_of_one_side_alone_are_another_state() -> None:
    found = comparison.compare([ending({"params/c": "float32[1]:1"})], [ending()])
    assert found.regressed
    assert "only A has 1 array more (parameters)" in numbers(found).words


def test_records_that_tell_no_arrays_tell_of_the_whole() -> None:
    older = make()
    older["checkpoint"]["digest"] = "e" * 64
    found = comparison.compare([ending()], [older])
    assert numbers(found).words.endswith("different final states")

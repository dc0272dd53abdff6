"""A comparison for readers."""

from compared_records import CONFIG, imported

from harness.comparing import comparison, comparison_text


def test_what_is_unknown_is_never_zero() -> None:
    shown = comparison_text.terminal(comparison.compare([imported()], [imported()]))
    assert " 0 " not in shown
    assert CONFIG.keys().isdisjoint(shown.split())

"""A record's figures as plain numbers."""

import numpy as np
import pytest

from harness.records.figures import summarise


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_a_summary_has_numpys_quantiles(count: int) -> None:
    samples = np.random.default_rng(count).uniform(size=count).tolist()
    summary = summarise(samples)
    assert summary.pop("samples") == count
    expected = np.percentile(samples, [50, 10, 90])
    assert [summary[key] for key in ("median", "p10", "p90")] == pytest.approx(expected)


def test_a_summary_of_nothing_is_null() -> None:
    assert summarise([]) == {"median": None, "p10": None, "p90": None, "samples": 0}

"""The histogram of latencies against exact quantiles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.quantiles import ERROR, LAST_BIN, Bins, add, bin_of, middle_ms, quantile

LATENCIES = st.floats(0.001, 86_400_000, allow_nan=False)


def histogram(latencies: list[float]) -> Bins:
    """All of them."""
    bins: Bins = {}
    for ms in latencies:
        add(bins, {bin_of(ms): 1})
    return bins


@given(st.lists(LATENCIES, min_size=1, max_size=300), st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_off_by_two_per_cent_at_most(latencies: list[float], share: float) -> None:
    """Whatever the latencies are, the estimate is that close to the exact one of the same rank."""
    exact = sorted(latencies)[max(1, math.ceil(share * len(latencies))) - 1]
    found = quantile(histogram(latencies), share)
    assert found is not None
    assert abs(found - exact) <= ERROR * exact * (1 + 1e-9)


@given(st.lists(LATENCIES, max_size=50), st.lists(LATENCIES, max_size=50))
def test_what_is_added_can_be_taken_away(one: list[float], two: list[float]) -> None:
    """Two histograms add up to that of both lists, and one taken away leaves the other."""
    bins = histogram(one)
    add(bins, histogram(two))
    assert bins == histogram(one + two)
    add(bins, histogram(one), -1)
    assert bins == histogram(two)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0))
def test_there_are_only_so_many_bins(ms: float) -> None:
    """Any latency has a bin, and there are fewer than a thousand."""
    assert 0 <= bin_of(ms) <= LAST_BIN < 1000


def test_nothing_measured_has_no_quantile() -> None:
    """None, and no zero that would read as very fast."""
    assert quantile({}, 0.99) is None


@pytest.mark.parametrize("index", [0, 1, 300, LAST_BIN])
def test_the_middle_of_a_bin_lies_in_it(index: int) -> None:
    """What is said of a bin would be counted in it."""
    assert bin_of(middle_ms(index)) == index

"""Measured results: what they keep of each time, and the file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crank.slo.measured import BadResults, Measured, decode, encode, merged, read, rounded
from tests.slo.conftest import HELLO, measured

_TIMES = st.lists(st.floats(0.001, 3_600_000), min_size=1, max_size=300)
_ONE = '{"format": "crank-measured/1", "capabilities": {"a:b": %s}}'


@given(_TIMES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_the_exact_one_to_half_a_percent(times: list[float], share: float) -> None:
    """However many requests there were, and however far apart their times are."""
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    assert measured(map(rounded, times)).quantile(share) == pytest.approx(exact, rel=0.005)


@given(_TIMES, _TIMES)
def test_parts_say_together_what_one_measurement_of_both_says(some: list[float], others: list[float]) -> None:
    """Added up, written to a file and read again."""
    parts = [{HELLO: measured(map(rounded, times), failed=1)} for times in (some, others)]
    assert decode(encode(merged(parts))) == {HELLO: measured(map(rounded, some + others), failed=2)}


def test_a_time_within_a_bucket_is_found_by_proportion_and_beyond_the_last_one_it_has_none() -> None:
    """As Prometheus does it, but for the last bucket, whose beginning would look like a time."""
    found = Measured(100, 0, ((100, 50), (200, 40), (None, 10)), (100, 200, 400))
    assert found.quantile(0.5) == 100
    assert found.quantile(0.7) == 150
    assert found.quantile(0.99) == math.inf
    assert decode(encode({HELLO: found})) == {HELLO: found}
    assert Measured(0, 0).quantile(0.5) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "truncated"),
        ('{"format": "crank-measured/9", "capabilities": {}}', "crank-measured/9"),
        ('{"format": "crank-measured/1", "capabilities": {"a b": {"requests": 1, "failed": 0}}}', "'a b' is not VERB"),
        (_ONE % '{"requests": 1, "failed": 2}', "a:b: of all requests"),
        (_ONE % '{"requests": 1, "failed": 0, "took": []}', "took"),
        (_ONE % '{"requests": 2, "failed": 0, "took_ms": [[2, 1], [1, 1]]}', "ascending"),
        (_ONE % '{"requests": 2, "failed": 0, "took_ms": [[null, 1], [1, 1]]}', "ascending"),
        (_ONE % '{"requests": 2, "failed": 0, "took_ms": [[1, -1]]}', "below 0"),
        (_ONE % '{"requests": 2, "failed": 0, "took_ms": [[1, 1]], "bounds_ms": [2, 1]}', "bounds_ms"),
        (_ONE % '{"requests": 1e999, "failed": 0}', "out of range"),
    ],
)
def test_a_file_that_holds_no_results_is_told_with_its_name(tmp_path: Path, text: str, told: str) -> None:
    """And with what is wrong in it, and what writes such files."""
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(BadResults, match=r"m\.json holds no measured results .*--metrics-output") as caught:
        read(file)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_told_with_its_name(tmp_path: Path) -> None:
    """Nothing else is known of it."""
    with pytest.raises(BadResults, match=r"m\.json cannot be read: No such file"):
        read(tmp_path / "m.json")

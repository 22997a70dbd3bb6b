"""The gate's verdicts: what is met, what is broken, what is worse than before, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.objectives import Objective
from crank.slo.gate import Check, judge, needed
from crank.slo.measured import Measured
from subjects.tokens import CapabilityId
from tests.slo.conftest import HELLO, OBJECTIVE, measured

FAST = measured([10.0] * 600)


def _checks(
    found: Measured | None, before: Measured | None = None, objective: Objective = OBJECTIVE
) -> dict[str, Check]:
    judged = judge({HELLO: objective}, _results(found), _results(before))
    return {check.what: check for check in judged.checks}


def _results(found: Measured | None) -> dict[CapabilityId, Measured]:
    return {} if found is None else {HELLO: found}


def _verdicts(checks: Mapping[str, Check]) -> dict[str, str]:
    return {what: check.verdict for what, check in checks.items()}


def test_every_line_of_an_objective_is_a_check() -> None:
    """With what was asked, what was found, and from how many requests."""
    checks = _checks(measured([10.0] * 597, failed=3))
    assert set(_verdicts(checks).values()) == {"met"}
    assert [(check.what, check.asked) for check in checks.values()] == [
        ("p50", 50), ("p95", 100), ("p99", 200), ("availability", 0.995), ("budget", 1),
    ]  # fmt: skip
    assert (checks["p99"].found, checks["p99"].requests) == (10, 597)
    assert (checks["availability"].found, checks["budget"].found) == (pytest.approx(0.995), pytest.approx(1.0))


def test_one_bad_request_more_than_is_allowed_breaks_it() -> None:
    """Of 600, three may fail, and of 597, five may be slower than the 99th percentile's bound."""
    checks = _checks(measured([10.0] * 590 + [201.0] * 6, failed=4))
    assert _verdicts(checks) == {
        "p50": "met", "p95": "met", "p99": "violated", "availability": "violated", "budget": "violated",
    }  # fmt: skip
    assert (checks["p99"].why, checks["availability"].why) == ("6 of 596 were slower", "4 of 600 failed")


def test_too_few_requests_are_no_pass() -> None:
    """For as long as all of them could be good by chance."""
    assert [needed(allowed) for allowed in (0.5, 0.05, 0.01, 0.005, 0.0001)] == [5, 59, 299, 598, 3000]
    checks = _checks(measured([10.0] * 298))
    assert _verdicts(checks) == {
        "p50": "met", "p95": "met", "p99": "not measured", "availability": "not measured", "budget": "not measured",
    }  # fmt: skip
    assert checks["p99"].why == "298 of 299 requests"
    assert set(_verdicts(_checks(None)).values()) == {"not measured"}


def test_of_too_few_requests_too_many_can_be_bad() -> None:
    """Whatever the missing ones would have been: 4 of 299 are too many, and 4 of 598 failures."""
    checks = _checks(measured([10.0] * 10 + [300.0] * 4, failed=4))
    assert (checks["p99"].verdict, checks["availability"].verdict) == ("violated", "violated")
    checks = _checks(measured([10.0] * 10 + [300.0] * 2, failed=2))
    assert (checks["p99"].verdict, checks["availability"].verdict) == ("not measured", "not measured")


@given(st.integers(1, 700), st.data())
def test_a_bad_request_in_the_place_of_a_good_one_never_helps(total: int, data: st.DataObject) -> None:
    """What is broken stays so, and what nobody can tell is not met by it."""
    slow = data.draw(st.integers(0, total - 1))
    fewer, more = (_checks(measured([10.0] * (total - bad) + [300.0] * bad)) for bad in (slow, slow + 1))
    order = ("met", "not measured", "violated")
    assert all(order.index(more[what].verdict) >= order.index(fewer[what].verdict) for what in ("p50", "p95", "p99"))


def test_what_is_a_quarter_slower_than_before_has_regressed() -> None:
    """Though it is well within its objective; a step of less than a hundredth of that is noise."""
    slower = _checks(measured([12.6] * 600), FAST)
    assert (slower["p50"].verdict, slower["p50"].why) == ("regressed", "it was 10 ms")
    assert _checks(measured([12.5] * 600), FAST)["p50"].verdict == "met"
    assert _checks(measured([0.9] * 600), measured([0.5] * 600))["p50"].verdict == "met"
    assert _checks(measured([51.0] * 600), FAST)["p50"].verdict == "violated"


def test_failures_have_regressed_when_more_than_a_quarter_of_the_allowance_is_gone() -> None:
    """One failure alone says nothing."""
    assert _checks(measured([10.0] * 598, failed=2), FAST)["availability"].verdict == "regressed"
    assert _checks(measured([10.0] * 599, failed=1), FAST)["availability"].verdict == "met"
    assert _checks(measured([10.0] * 598, failed=2), measured([10.0] * 598, failed=2))["availability"].verdict == "met"


def test_a_baseline_of_too_few_requests_is_none() -> None:
    """Nothing can be worse than what nobody knows."""
    assert set(_verdicts(_checks(measured([40.0] * 598, failed=2), measured([1.0] * 4))).values()) == {"met"}


def test_where_nothing_was_measured_the_build_fails() -> None:
    """A gate that saw nothing is not open; one that saw some of it is, unless it has to see all."""
    assert len(judge({HELLO: OBJECTIVE}, {}, {}).failures(require_all=False)) == 5
    some = judge({HELLO: OBJECTIVE}, {HELLO: measured([10.0] * 298)}, {})
    assert some.failures(require_all=False) == []
    assert [check.what for check in some.failures(require_all=True)] == ["p99", "availability", "budget"]
    assert judge({}, {HELLO: FAST}, {}).failures(require_all=True) == []
    assert judge({}, {HELLO: FAST}, {}).unasked == (HELLO,)


def test_a_histogram_tells_only_what_its_buckets_tell() -> None:
    """A bound that no bucket ends at cannot be met, and is broken when the buckets beyond it hold too many."""
    bounds = (50.0, 100.0, 250.0, 500.0)
    checks = _checks(Measured(600, 0, ((50, 560), (250, 40)), bounds))
    assert (checks["p50"].verdict, checks["p95"].verdict, checks["p99"].verdict) == ("met", "violated", "not measured")
    assert checks["p99"].why == "no bucket of the histogram ends at 200 ms"
    for slowest in (500.0, None):
        assert _checks(Measured(600, 0, ((50, 560), (slowest, 40)), bounds))["p99"].verdict == "violated"
    beyond = Objective(HELLO, p99_ms=1000)
    assert _checks(Measured(600, 0, ((None, 600),), bounds), objective=beyond)["p99"].verdict == "not measured"

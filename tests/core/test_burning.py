"""What counts mean: burn rates, what is left of a month, how a capability stands, and who is told of a change."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.burn import FEWEST, FEWEST_BAD, PAIRS, Pair, Standing, burn_rate, left_pct, standing
from controller.core.commands import Alert, Publish
from controller.core.compliance import Measured
from controller.core.objective_states import CALM_S, changes, remaining_pct, settle, thresholds
from controller.core.objectives import AlertAt, Objective
from controller.core.windows import MINUTES_A_DAY, Counts, Windows
from subjects.slo_counts import Totals
from subjects.tokens import CapabilityId

HELLO = CapabilityId("greet:hello")
DAY = 20_437  # 2025-12-15
NOON = DAY * MINUTES_A_DAY + 720
WALL_S = NOON * 60.0
FAILING = Objective(HELLO, availability=0.99, budget=0.01)
SLOW = Objective(HELLO, p99_ms=100)
BOTH = Objective(HELLO, p95_ms=100, availability=0.9, budget=0.1)


def counted(*minutes: tuple[int, Totals]) -> Windows:
    """Windows at noon, with totals of so many minutes ago."""
    windows = Windows()
    windows.advance(NOON)
    for ago, totals in minutes:
        windows.add_minute(NOON - ago, totals)
        windows.add_day((NOON - ago) // MINUTES_A_DAY, totals)
    return windows


def spread(minutes: int, share: float, each: int = 100) -> list[tuple[int, Totals]]:
    """So many requests in each of the last minutes, of which this share is bad."""
    bad = round(share * each)
    return [(ago, Totals(each, bad, each - bad, bad)) for ago in range(minutes)]


def quiet(days: int) -> list[tuple[int, Totals]]:
    """A day of many good requests, days ago: a month's budget that a short burst does not spend."""
    return [(days * MINUTES_A_DAY, Totals(10_000_000, 0, 10_000_000, 0))]


def test_nothing_measured_is_no_figure() -> None:
    """No requests: no burn rate, nothing left and nothing spent, and a standing of its own."""
    for objective in (FAILING, SLOW, BOTH):
        assert burn_rate(objective, Counts()) is None
        assert set(left_pct(objective, Counts()).values()) == {None}
        assert standing(objective, counted(), WALL_S) is Standing.UNMEASURED


def test_the_worse_of_both_indicators_is_told() -> None:
    """Half of the failures and twice the slow answers that are allowed burn at 2."""
    counts = Counts(requests=1000, bad=50, served=900, slow=90)
    assert burn_rate(BOTH, counts) == pytest.approx(2.0)
    assert left_pct(BOTH, counts) == pytest.approx({"availability": 50.0, "latency": -100.0})
    assert burn_rate(Objective(HELLO), counts) is None


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_left_is_never_below_what_can_be_shown(good: int, bad: int) -> None:
    """From 100 down to -100 per cent, and nothing else, whatever was counted."""
    left = left_pct(FAILING, Counts(good + bad, bad))["availability"]
    assert left is None if not good + bad else left is not None and -100 <= left <= 100


@pytest.mark.parametrize(
    ("pair", "long", "short", "after"),
    [
        (PAIRS[0], 60, 5, Standing.OK),
        (PAIRS[1], 360, 30, Standing.OK),
        (PAIRS[2], 1440, 120, Standing.TICKET),  # the slower pair still burns
        (PAIRS[3], 4320, 360, Standing.OK),
    ],
)
def test_both_windows_of_a_pair_must_burn(pair: Pair, long: int, short: int, after: Standing) -> None:
    """A little over the threshold for the long window is worth what the pair says; over for a while it is not."""
    bad = round(1000 * 1.1 * pair.rate * FAILING.budget)  # type: ignore[operator]

    def history(quiet_for: int) -> Windows:
        failing = Totals(1000, bad, 1000 - bad)
        calm = Totals(1000, 0, 1000)
        rows = [(ago, failing if quiet_for <= ago < long else calm) for ago in range(4320)]
        return counted(*quiet(10), *rows)

    assert standing(FAILING, history(0), WALL_S) is pair.standing
    assert standing(FAILING, history(short + 10), WALL_S) is after


def test_one_error_in_a_quiet_hour_pages_nobody() -> None:
    """However large a share of the hour it is; nor do few requests, all of which fail."""
    assert standing(FAILING, counted((1, Totals(FEWEST, 1, FEWEST - 1))), WALL_S) is Standing.OK
    assert standing(FAILING, counted((1, Totals(FEWEST - 1, FEWEST - 1))), WALL_S) is Standing.OK
    enough = (1, Totals(FEWEST, FEWEST_BAD, FEWEST - FEWEST_BAD))
    assert standing(FAILING, counted(*quiet(10), enough), WALL_S) is Standing.PAGE
    assert standing(FAILING, counted(enough), WALL_S) is Standing.EXHAUSTED


def test_a_spent_budget_comes_first_and_ends_with_the_month() -> None:
    """More than the month allows: exhausted, however calm it is now; on the first of the next month it is new."""
    windows = counted((3 * MINUTES_A_DAY, Totals(1000, 20, 980)))
    assert standing(FAILING, windows, WALL_S) is Standing.EXHAUSTED
    next_month = (DAY + 17) * MINUTES_A_DAY
    windows.advance(next_month)
    assert standing(FAILING, windows, next_month * 60.0) is Standing.UNMEASURED


def test_slow_answers_burn_as_failures_do() -> None:
    """A latency objective without a word on availability has a budget, too."""
    assert standing(SLOW, counted(*quiet(10), *spread(60, 0.2, each=1000)), WALL_S) is Standing.PAGE


# Standing -----------------------------------------------------------------------------


def stands(measured: Measured, now_stands: Standing, now: float) -> list[str]:
    """What is told when it stands so at ``now``."""
    settle(measured, now_stands, now)
    return [each.name for each in changes(measured, WALL_S, "c-1") if isinstance(each, Publish)]


def test_it_gets_worse_at_once_and_better_when_it_stays_so() -> None:
    """What hovers about a threshold is told once, and recovers after a minute of doing better."""
    measured = Measured(FAILING, counted())
    assert stands(measured, Standing.OK, 0) == []
    assert stands(measured, Standing.TICKET, 5) == ["burning"]
    assert stands(measured, Standing.PAGE, 10) == ["burning"]
    assert stands(measured, Standing.OK, 15) == []
    assert stands(measured, Standing.PAGE, 20) == []
    assert stands(measured, Standing.EXHAUSTED, 25) == ["exhausted"]
    assert stands(measured, Standing.TICKET, 30) == []
    assert stands(measured, Standing.OK, 30 + CALM_S) == ["recovered"]
    assert measured.standing is Standing.OK


@given(st.lists(st.sampled_from(list(Standing)), max_size=30))
def test_what_is_told_adds_up(history: list[Standing]) -> None:
    """Whatever happens, no standing is told twice in a row, and nothing recovers that was not told to burn."""
    measured, told = Measured(FAILING, counted()), []
    for at, each in enumerate(history):
        settle(measured, each, at * CALM_S)
        told += [c.body["standing"] for c in changes(measured, WALL_S, "c-1") if isinstance(c, Publish)]
    assert told[:1] != ["ok"]
    assert all(before != after for before, after in pairwise(told))


def test_a_change_goes_to_every_channel_that_the_objective_names() -> None:
    """One event, and an alert for each channel; where none is named, for the log. All are about one affair."""
    for alerts, channels in (((), ["log"]), ((AlertAt(0.5, "slack"), AlertAt(0.9, "slack")), ["slack"])):
        measured = Measured(Objective(HELLO, budget=0.01, alerts=alerts), counted(*spread(5, 0.2)))
        settle(measured, Standing.PAGE, 0)
        event, *sent = changes(measured, WALL_S, "c-1")
        assert isinstance(event, Publish)
        assert (event.kind, event.name, event.body["capability"]) == ("slo", "burning", HELLO)
        assert event.body["burn"]["5m"] == 20.0
        assert [each.channel for each in sent if isinstance(each, Alert)] == channels
        measured.standing = Standing.OK
        _, *ended = changes(measured, WALL_S, "c-1")
        assert {each.key for each in (*sent, *ended)} == {HELLO}  # type: ignore[union-attr]


def test_each_threshold_is_told_once_a_month() -> None:
    """Half and nine tenths of the budget, each when it is reached, once; in a new month again."""
    objective = Objective(HELLO, budget=0.01, alerts=(AlertAt(0.5, "slack"), AlertAt(0.9, "pagerduty")))
    measured = Measured(objective, counted((0, Totals(10_000, 60, 9940))))

    def told(month: int, wall_s: float = WALL_S) -> list[str]:
        return [each.channel for each in thresholds(measured, wall_s, month, "c-1") if isinstance(each, Alert)]

    assert told(1) == ["slack"]
    assert told(1) == []
    measured.windows.add_day(DAY, Totals(100, 40, 60))
    assert remaining_pct(objective, measured, WALL_S) == pytest.approx(0.99)
    assert told(1) == ["pagerduty"]
    assert told(1) == []
    assert told(2) == ["slack", "pagerduty"]
    assert {month for month, _ in measured.alerted} == {2}

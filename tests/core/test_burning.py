"""What counts mean: burn rates, what is left of a month, how a capability stands, and who is told of a change."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.burn import FEWEST, FEWEST_BAD, PAIRS, Pair, Standing, burn_rate, judged, left_pct, standing
from controller.core.commands import Alert, Publish
from controller.core.compliance import Measured
from controller.core.objective_states import CALM_S, changes, month_begins, remaining_pct, retire, settle, thresholds
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
def test_what_is_left_is_at_most_everything_and_what_is_owed_is_told_whole(good: int, bad: int) -> None:
    """100 per cent where nothing failed; below zero from where more failed than may, however much that is."""
    left = left_pct(FAILING, Counts(good + bad, bad))["availability"]
    if left is None:
        assert not good + bad
    else:
        assert left <= 100
        assert (left < -0.001) <= (bad > 0.01 * (good + bad))
        assert left == pytest.approx(100 - 100 * bad / (0.01 * (good + bad)))


def test_a_budget_is_judged_when_enough_was_counted() -> None:
    """Not by a few requests, nor where a single bad one of more would have spent it."""
    assert not judged(FAILING, Counts(FEWEST - 1, 0, FEWEST - 1))
    assert not judged(FAILING, Counts(FEWEST, 1, FEWEST - 1))
    assert judged(FAILING, Counts(FEWEST, 0, FEWEST))
    assert judged(FAILING, Counts(FEWEST, FEWEST_BAD, FEWEST - FEWEST_BAD))
    assert judged(FAILING, Counts(1000, 1, 999))


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


def test_enough_of_one_indicator_does_not_judge_the_other() -> None:
    """Most requests fail and the few that were served were slow: what burns is what enough was counted of."""
    objective = Objective(HELLO, p99_ms=100, availability=0.01, budget=0.99)
    few_slow = [(ago, Totals(100, 98, 2, 2)) for ago in range(5)]
    windows = counted(*quiet(10), *few_slow)
    assert standing(objective, windows, WALL_S) is Standing.OK
    windows.add_minute(NOON, Totals(10, 0, 10, 10))
    assert standing(objective, windows, WALL_S) is Standing.PAGE


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
    assert stands(measured, Standing.OK, 89) == [], "not for a minute yet"
    assert stands(measured, Standing.OK, 90) == ["recovered"]
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


def test_of_several_thresholds_a_channel_is_told_the_highest() -> None:
    """Whatever is passed at once is one message, and one affair with all else of the capability."""
    alerts = (AlertAt(0.9, "slack"), AlertAt(0.5, "slack"), AlertAt(0.5, "ops"))
    measured = Measured(Objective(HELLO, p99_ms=100, alerts=alerts), counted((0, Totals(1000, 0, 1000, 95))))
    sent = [each for each in thresholds(measured, WALL_S, 1, "c-1") if isinstance(each, Alert)]
    assert {(each.channel, each.body["threshold"]) for each in sent} == {("slack", 0.9), ("ops", 0.5)}
    assert {each.key for each in sent} == {HELLO}
    assert sent[0].body["cause"] == {"indicator": "latency", "over": "month", "bad": 95, "counted": 1000}
    assert thresholds(measured, WALL_S, 1, "c-1") == []


def test_with_a_new_month_the_shares_that_were_told_are_over() -> None:
    """Who was told of one is told so, once; what still burns is not over."""
    objective = Objective(HELLO, budget=0.01, alerts=(AlertAt(0.5, "slack"), AlertAt(0.9, "pagerduty")))
    measured = Measured(objective, counted((0, Totals(10_000, 60, 9940))))
    thresholds(measured, WALL_S, 1, "c-1")
    assert month_begins(measured, WALL_S, 1, "c-1") == []
    (sent,) = month_begins(measured, WALL_S, 2, "c-1")
    assert isinstance(sent, Alert)
    assert (sent.channel, sent.event, sent.key) == ("slack", "recovered", HELLO)
    assert month_begins(measured, WALL_S, 2, "c-1") == []
    thresholds(measured, WALL_S, 2, "c-1")
    measured.told = Standing.EXHAUSTED
    assert month_begins(measured, WALL_S, 3, "c-1") == []


def test_an_alert_says_how_much_why_and_what_to_do_next() -> None:
    """So many of so many failed, or were slow, over which time; and the command that shows more."""
    measured = Measured(FAILING, counted(*quiet(10), *spread(60, 0.2)))
    settle(measured, Standing.PAGE, 0)
    _, sent = changes(measured, WALL_S, "c-1")
    assert isinstance(sent, Alert)
    assert "1,200 of 6,000 requests failed in the last 1h. See: crank slo status greet:hello" in sent.text
    measured = Measured(SLOW, counted(*spread(5, 0.2)))
    settle(measured, Standing.EXHAUSTED, 0)
    event, sent = changes(measured, WALL_S, "c-1")
    assert isinstance(sent, Alert)
    assert isinstance(event, Publish)
    assert "100 of 400 answers took longer than 100 ms this month." in sent.text
    assert event.body["cause"]["indicator"] == "latency"


def test_an_objective_that_is_removed_burns_no_more() -> None:
    """Who was told that it burns is told that it is gone; else nobody is."""
    measured = Measured(FAILING, counted(*spread(5, 0.2)))
    assert retire(measured, WALL_S, "c-1") == []
    settle(measured, Standing.EXHAUSTED, 0)
    changes(measured, WALL_S, "c-1")
    event, sent = retire(measured, WALL_S, "c-1")
    assert isinstance(sent, Alert)
    assert isinstance(event, Publish)
    assert (event.name, sent.event, measured.standing) == ("recovered", "recovered", Standing.UNMEASURED)
    assert "its objective was removed" in sent.text

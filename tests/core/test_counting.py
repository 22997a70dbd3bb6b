"""Counts that controllers tell each other: everybody sees one budget, and one of them speaks of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from harness import HELLO, House, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.burn import Standing, month
from controller.core.commands import Alert, Publish, WriteCounts
from controller.core.counting import EVERY_S, TURNS
from controller.core.events import ClockSet, CountingBegins, CountingEnds, CountsKnown, PeerCounts, RulesChanged
from controller.core.objectives import AlertAt, Objective, Rules
from controller.core.peers import LIVES_S, Peers
from controller.core.views import Query
from controller.core.windows import MINUTES_A_DAY, Counts, Windows
from subjects.answers import Fault
from subjects.slo_counts import CountsMessage, Period, Totals
from subjects.tokens import CapabilityId

ASKED = Objective(HELLO, budget=0.1, alerts=(AlertAt(0.5, "slack"),))
NOON_S = 20_437 * 86_400 + 43_200.0


@dataclass
class Store:
    """The stream: the last message of each subject, in order; ``houses`` hear what is written at once."""

    houses: list[House] = field(default_factory=list)
    kept: dict[Period, CountsMessage] = field(default_factory=dict)

    def start(self, name: str, *objectives: Objective) -> House:
        """A controller starts, and reads what is stored."""
        house = House(name=name, seed=len(self.houses))
        house.world.wall_offset_s = NOON_S - house.now
        house.register("w-1", spec(max_concurrency=100))
        house.beating.add("w-1")
        house.feed(RulesChanged(Rules({each.capability: each for each in objectives or (ASKED,)})))
        house.feed(CountingBegins())
        self.houses.append(house)
        self.exchange()
        for period, message in self.kept.items():
            house.feed(PeerCounts(period, message, live=False))
        house.feed(CountsKnown())
        return house

    def exchange(self) -> None:
        """Everybody hears what anybody wrote."""
        written = [
            (house, command) for house in self.houses for command in house.log if isinstance(command, WriteCounts)
        ]
        for house, command in written:
            house.log.remove(command)
            self.kept.pop(command.period, None)
            self.kept[command.period] = command.message
            for other in self.houses:
                other.feed(PeerCounts(command.period, command.message, live=True))

    def advance(self, seconds: float) -> None:
        """Time passes for all, and what is written is heard."""
        for _ in range(round(seconds / EVERY_S)):
            for house in self.houses:
                house.advance(EVERY_S)
            self.exchange()

    def kill(self, house: House) -> None:
        """Gone, without a word."""
        self.houses.remove(house)


def ask(house: House, good: int, bad: int = 0) -> None:
    """So many requests end."""
    for _ in range(good):
        house.answers(house.request())
    for _ in range(bad):
        house.answers(house.request(), Fault(500, "no"))


def counts(house: House) -> Counts:
    """The month's, as this controller sees them."""
    return month(house.world.compliance.measured[HELLO].windows, house.world.wall_s)


def told(house: House) -> list[str]:
    """Names of the events, and channels of the alerts, since the last time."""
    said = [each for each in house.log if isinstance(each, Publish | Alert) and getattr(each, "kind", "slo") == "slo"]
    for each in said:
        house.log.remove(each)
    return [each.name if isinstance(each, Publish) else f"{each.channel} {each.event}" for each in said]


def test_all_controllers_see_one_budget_and_a_new_one_too() -> None:
    """What each counted is counted once by all; when all are killed, the next one starts with what was."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    ask(one, 30, 2)
    ask(two, 15, 3)
    store.advance(10)
    ask(one, 10)
    store.advance(200)
    assert counts(one) == counts(two) == Counts(60, 5, 55, 0)
    assert one.world.controllers == two.world.controllers == 2
    assert one.world.compliance.measured[HELLO].windows.hour == two.world.compliance.measured[HELLO].windows.hour
    store.kill(one)
    store.kill(two)
    three = store.start("c-3")
    assert counts(three) == Counts(60, 5, 55, 0)


def test_who_lives_is_known_and_who_says_goodbye_is_gone_at_once() -> None:
    """A controller counts while it is heard; a kill is noticed after two messages that do not come."""
    store = Store()
    one, two, three = (store.start(name) for name in ("c-1", "c-2", "c-3"))
    store.advance(5)
    assert [house.world.controllers for house in store.houses] == [3, 3, 3]
    two.feed(CountingEnds())
    store.exchange()
    store.kill(two)
    assert [house.world.controllers for house in store.houses] == [2, 2]
    store.kill(three)
    store.advance(LIVES_S + EVERY_S)
    assert one.world.controllers == 1


def test_one_controller_speaks_and_the_next_one_says_again_what_still_burns() -> None:
    """The first by name tells of the change; when it is gone, the next does."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    store.advance(5)
    ask(two, 80, 30)
    store.advance(10)
    assert one.world.compliance.burning(HELLO) is two.world.compliance.burning(HELLO) is Standing.EXHAUSTED
    assert told(one) == ["exhausted", "slack exhausted"], "which says that its half is spent, too"
    assert told(two) == []
    store.kill(one)
    store.advance(LIVES_S + EVERY_S)
    assert told(two) == ["exhausted", "slack exhausted"], "the share of the budget was told"
    store.kill(two)
    three = store.start("c-3")
    store.advance(30)
    assert told(three) == ["exhausted", "slack exhausted"]
    three.feed(RulesChanged(Rules()))
    assert told(three) == ["recovered", "slack recovered"]


def test_nobody_is_told_anything_before_all_that_was_stored_is_read() -> None:
    """A controller that knows only a part does not speak of it."""
    house = House()
    house.world.wall_offset_s = NOON_S - house.now
    house.register("w-1", spec(max_concurrency=100))
    house.feed(RulesChanged(Rules({HELLO: ASKED})))
    house.feed(CountingBegins())
    ask(house, 10, 30)
    house.advance(20)
    assert house.world.compliance.burning(HELLO) is Standing.EXHAUSTED
    assert told(house) == []
    house.feed(CountsKnown())
    assert "exhausted" in told(house)


def test_without_a_store_an_objective_is_kept_all_the_same() -> None:
    """Where counts are not exchanged, one controller's own decide, and nothing is written."""
    house = House()
    house.register("w-1", spec(max_concurrency=100))
    house.feed(RulesChanged(Rules({HELLO: ASKED})))
    ask(house, 10, 30)
    house.advance(6)
    assert "exhausted" in told(house)
    assert not [each for each in house.log if isinstance(each, WriteCounts)]
    house.feed(RulesChanged(Rules()))
    house.advance(6)
    assert house.router.timers.next_due() is None or "counting" not in house.router.timers


def test_what_others_count_before_it_is_asked_here_is_not_lost() -> None:
    """Two controllers get a new file at different times, and agree."""
    store = Store()
    other = Objective(CapabilityId("a:b"), budget=0.1)
    one, two = store.start("c-1"), store.start("c-2", other)
    ask(one, 20, 1)
    store.advance(200)
    ask(one, 20, 1)
    store.advance(10)
    two.feed(RulesChanged(Rules({HELLO: ASKED})))
    ask(two, 1)
    store.advance(10)
    assert counts(two) == counts(one) == Counts(43, 2, 41, 0)


def test_counts_stay_when_an_objective_is_taken_away_and_comes_back() -> None:
    """Whoever ran meanwhile, and whoever started then, sees what was counted before; nothing is written less."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    ask(one, 20, 1)
    ask(two, 10)
    store.advance(10)
    ask(one, 3)
    for house in store.houses:
        house.feed(RulesChanged(Rules()))
    ask(one, 7)  # nobody asks anything of these
    store.advance(200)
    late = store.start("c-3", Objective(CapabilityId("a:b"), budget=0.1))
    for house in store.houses:
        house.feed(RulesChanged(Rules({HELLO: ASKED})))
    store.advance(10)
    assert counts(one) == counts(two) == counts(late) == Counts(34, 1, 33, 0)
    assert counts(store.start("c-4")) == Counts(34, 1, 33, 0)
    assert one.world.compliance.measured[HELLO].windows.hour == late.world.compliance.measured[HELLO].windows.hour


def test_what_is_kept_of_objectives_that_are_gone_is_bounded() -> None:
    """Files that come and go under ever new names leave no more than so many counts behind."""
    house = Store().start("c-1")
    for at in range(3):
        names = [CapabilityId(f"x:n{at}-{number}") for number in range(400)]
        house.feed(RulesChanged(Rules({name: Objective(name, budget=0.1) for name in names})))
    assert len(house.world.compliance.retired) == 500


def test_what_enforcement_would_have_refused_is_known_to_all_and_after_a_restart() -> None:
    """Two controllers agree on it, and so does the next one when both were killed."""
    store = Store()
    slow = Objective(HELLO, p99_ms=1, timeout_ms=10)
    one, two = store.start("c-1", slow), store.start("c-2", slow)
    proven = one.offer("w-1")
    for _ in range(20):
        one.world.health.answered(proven, 500.0, one.now)
    ask(one, 12)
    ask(two, 3)
    store.advance(10)
    assert counts(one) == counts(two)
    would = counts(one).would
    assert would >= 12
    store.kill(one)
    store.kill(two)
    assert counts(store.start("c-3", slow)).would == would


def test_a_clock_that_is_set_moves_on_and_waits_when_it_is_set_back_a_little() -> None:
    """A machine that slept goes on in the present; one whose clock is set back by minutes waits for it."""
    store = Store()
    house = store.start("c-1")
    ask(house, 5)
    house.advance(5)
    house.feed(ClockSet(house.world.wall_offset_s + 7200))
    house.advance(5)
    windows = house.world.compliance.measured[HELLO].windows
    assert windows.minutes.last(60) == Counts()
    assert windows.minutes.last(125).requests == 5
    newest = windows.minutes.newest
    house.feed(ClockSet(house.world.wall_offset_s - 200))
    ask(house, 1)
    house.log.clear()
    house.advance(5)
    written = [each.period.number for each in house.log if isinstance(each, WriteCounts) and not each.period.is_day]
    assert set(written) == {newest}, "what was counted is written where it was counted"
    assert windows.minutes.newest == newest
    assert windows.minutes.last(1).requests == 1


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("ahead_s", [1800.0, 864_000.0])
def test_a_clock_that_was_ahead_for_a_moment_is_right_again_with_all_that_is_counted(
    both: bool, ahead_s: float
) -> None:
    """Windows start again at the true minute, without what was counted in the future; the day is what it was."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    ask(one, 10)
    ask(two, 5)
    store.advance(10)
    set_ones = [one, two] if both else [one]
    for house in set_ones:
        house.feed(ClockSet(house.world.wall_offset_s + ahead_s))
    store.advance(5)
    ask(one, 2)
    store.advance(5)
    for house in set_ones:
        house.feed(ClockSet(house.world.wall_offset_s - ahead_s))
    ask(one, 3)
    ask(two, 1)
    store.advance(200)
    ask(one, 3)
    store.advance(400)
    ask(two, 4)
    store.advance(10)
    lost = 2 if ahead_s > MINUTES_A_DAY * 60 else 0  # of a day that has not come
    for house in store.houses:
        windows = house.world.compliance.measured[HELLO].windows
        assert windows.minutes.newest == house.world.wall_s // 60
        assert windows.minutes.last(5).requests == 4
        assert counts(house) == Counts(28 - lost, 0, 28 - lost, 0)
    assert counts(store.start("c-3")) == Counts(28 - lost, 0, 28 - lost, 0)


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "own"]),
        st.integers(0, 3),
        st.booleans(),
        st.dictionaries(st.sampled_from(["x:x", "y:y"]), st.integers(1, 5), max_size=2),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(MESSAGES, st.randoms(use_true_random=False))
def test_the_newest_of_each_subject_counts_and_nothing_twice(messages: list, random: object) -> None:  # type: ignore[type-arg]
    """Every process writes its times in order, each as often as it likes; a replay from the start changes nothing."""
    all_windows = {name: Windows() for name in ("x:x", "y:y")}
    minute = 1000 * MINUTES_A_DAY + 700
    peers = Peers(("own", "boot"), lambda name: all_windows[name])
    newest: dict[Period, dict[str, int]] = {}
    stored: list[tuple[Period, CountsMessage]] = []
    at = dict.fromkeys(("a", "b", "own"), 0)
    for who, step, is_day, said in messages:
        at[who] += step
        period = Period(who, "boot", 1000 if is_day else minute + at[who], is_day)
        newest[period] = said
        counted = {CapabilityId(name): Totals(n, 0, n, 0, {n: n} if not is_day else {}) for name, n in said.items()}
        stored.append((period, CountsMessage(0.0, counted)))
    for windows in all_windows.values():
        windows.advance(minute + 200)
    for _ in range(2):
        for period, message in stored:
            peers.read(period, message, minute + 200, 0.0, 100.0)
        last = {period: at for at, (period, _) in enumerate(stored)}
        stored = [stored[at] for at in sorted(last.values())]
    for name, windows in all_windows.items():
        theirs = {period: said.get(name, 0) for period, said in newest.items() if period.controller != "own"}
        recent = sum(n for period, n in theirs.items() if not period.is_day and period.number > minute + 200 - 125)
        assert windows.minutes.last(125).requests == recent
        assert windows.tens.last(432).requests == sum(n for period, n in theirs.items() if not period.is_day)
        assert windows.days.last(1).requests == sum(n for period, n in theirs.items() if period.is_day)


def test_strangers_and_wrong_clocks_are_bounded() -> None:
    """Thousands of capabilities that nobody asked for, and minutes that are years ahead, leave no more than so much."""
    store = Store()
    house = store.start("c-1")
    for at in range(5):
        many = {CapabilityId(f"x:n{at}-{number}"): Totals(1, 0, 1) for number in range(200)}
        house.feed(PeerCounts(Period(f"z-{at}", "b", int(NOON_S // 60)), CountsMessage(NOON_S, many), live=True))
    kept = list(house.router.counting._strangers)
    assert len(kept) == 500
    many = {CapabilityId(f"y:n{number}"): Totals(1, 0, 1) for number in range(700)}
    house.feed(PeerCounts(Period("z-8", "b", int(NOON_S // 60)), CountsMessage(NOON_S, many), live=True))
    kept = list(house.router.counting._strangers)
    assert (len(kept), kept[-1]) == (500, "y:n499"), "one message brings no more"
    for at in range(3):
        shares = tuple((at * 100 + number) / 400 for number in range(1, 100))
        again = {name: Totals(2, 0, 2, told=shares) for name in kept}
        day = Period(f"y-{at}", "b", int(NOON_S // 86_400), is_day=True)
        house.feed(PeerCounts(day, CountsMessage(NOON_S, again), live=True))
    assert list(house.router.counting._strangers) == kept, "nobody new was told of"
    assert max(len(each.alerted) for each in house.router.counting._strangers.values()) == 100
    ahead = Period("z-9", "b", int(NOON_S // 60) + 10**6)
    house.feed(PeerCounts(ahead, CountsMessage(NOON_S, {HELLO: Totals(7, 0, 7)}), live=True))
    assert counts(house) == Counts()


@pytest.mark.parametrize("period_s", [60, 86_400])
def test_what_was_looked_at_in_a_last_second_is_written_all_the_same(period_s: int) -> None:
    """A look, or other rules, between the last write of a minute or a day and its end take nothing from it."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    store.advance(period_s - 5 - one.world.wall_s % period_s)
    one.advance(4.4)
    ask(one, 10)
    if period_s == 60:
        one.router.counting.shown(Query(), 100_000)
    else:
        one.feed(RulesChanged(Rules({HELLO: ASKED})))
    store.advance(10)
    ask(one, 3)
    store.advance(10)
    assert counts(one) == counts(two) == Counts(13, 0, 13, 0)
    minutes = two.world.compliance.measured[HELLO].windows.minutes
    assert (minutes.last(1).requests, minutes.last(2).requests) == (3, 13)
    assert counts(store.start("c-3")) == Counts(13, 0, 13, 0)


def test_of_too_many_that_nobody_asked_for_the_oldest_are_forgotten() -> None:
    """What others count of a capability now is known when it is asked here; whoever is long silent counts anew."""
    house = Store().start("c-1", Objective(CapabilityId("a:b"), budget=0.1))
    minute = int(NOON_S // 60)

    def tell(controller: str, count: int, *names: str) -> None:
        told = {CapabilityId(name): Totals(count, 0, count) for name in names}
        house.feed(PeerCounts(Period(controller, "b", minute), CountsMessage(NOON_S, told), live=True))

    tell("z-1", 7, "x:old")
    for at in range(12):
        tell(f"y-{at}", 1, *(f"x:n{at}-{number}" for number in range(100)))
        if at >= 6:
            tell("z-2", 8 + at, HELLO)
    old = CapabilityId("x:old")
    house.feed(RulesChanged(Rules({name: Objective(name, budget=0.1) for name in (HELLO, old)})))
    measured = house.world.compliance.measured
    assert measured[HELLO].windows.minutes.last(5).requests == 19
    tell("z-1", 9, "x:old")
    assert measured[old].windows.minutes.last(5).requests == 9


def test_a_share_that_was_told_is_written_at_once() -> None:
    """Who told of it and is killed before anything else is written is not repeated by the next one."""
    store = Store()
    one, two = store.start("c-1"), store.start("c-2")
    ask(one, 100, 6)
    while not any(isinstance(each, Alert) for each in one.log):
        one.advance(EVERY_S / TURNS)
    assert told(one) == ["slack budget"]
    store.exchange()
    store.kill(one)
    store.advance(LIVES_S + 2 * EVERY_S)
    assert counts(two).bad == 6
    assert told(two) == []


@pytest.mark.parametrize("knew", [True, False])
def test_a_share_that_was_told_is_not_told_again_when_its_objective_comes_back(knew: bool) -> None:
    """Also where another controller told it while nothing was asked here, or before this one started."""
    store = Store()
    other = Objective(CapabilityId("a:b"), budget=0.1)
    one = store.start("c-1")
    two = store.start("c-2", *((ASKED,) if knew else (other,)))
    two.feed(RulesChanged(Rules({other.capability: other})))
    store.advance(5)
    ask(one, 100, 6)
    store.advance(10)
    assert told(one) == ["slack budget"]
    store.kill(one)
    store.advance(LIVES_S + EVERY_S)
    two.feed(RulesChanged(Rules({HELLO: ASKED})))
    store.advance(2 * EVERY_S)
    assert counts(two).bad == 6
    assert told(two) == []


def test_an_operator_is_shown_a_page_of_what_is_asked() -> None:
    """By capability, with filters; what is not measured is null, and what was counted a moment ago is there."""
    store = Store()
    house = store.start("c-1", ASKED, Objective(CapabilityId("a:b"), p99_ms=100), Objective(CapabilityId("a:c")))
    ask(house, 19, 1)
    page = house.router.counting.shown(Query(limit=2), 100_000)
    assert [row["capability"] for row in page["slo"]] == ["a:b", "a:c"]
    assert page["next"] == "a:c"
    rest = house.router.counting.shown(Query(after="a:c"), 100_000)
    assert [(row["capability"], row["standing"], row["budget_remaining_pct"]) for row in rest["slo"]] == [
        (HELLO, "ok", 50.0)
    ]
    (quiet,) = house.router.counting.shown(Query(verb="a", name="b"), 100_000)["slo"]
    assert (quiet["standing"], quiet["p99_ms"], quiet["availability"]) == ("unmeasured", None, None)
    assert quiet["left_pct"] == {"latency": None}


def test_processes_of_old_are_forgotten_first() -> None:
    """However many there were, only so many are kept apart."""
    peers = Peers(("own", "boot"), lambda name: Windows())
    for number in range(6000):
        peers.read(Period("c", f"b-{number}", 1000), CountsMessage(0.0), 1000, 0.0, 100.0)
    assert len(peers._sources) == 5000
    assert ("c", "b-5999") in peers._sources

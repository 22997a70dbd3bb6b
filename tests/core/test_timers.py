"""The one wheel of deadlines: compared with a dictionary that does the same slowly."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.core.timers import SLOT_S, Timers

KEYS = st.integers(0, 5)
SECONDS = st.floats(0, 100, allow_nan=False)


class TimersLikeADictionary(RuleBasedStateMachine):
    """Any order of setting, moving, cancelling and letting time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[int] = Timers()
        self.model: dict[int, float] = {}
        self.now = 0.0

    @rule(key=KEYS, after=SECONDS)
    def set(self, key: int, after: float) -> None:
        self.timers.set(key, self.now + after)
        self.model[key] = self.now + after

    @rule(key=KEYS)
    def cancel(self, key: int) -> None:
        self.timers.cancel(key)
        self.model.pop(key, None)

    @rule(seconds=SECONDS)
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = self.timers.pop_due(self.now)
        times = [self.model[key] for key in due]
        assert len(due) == len(set(due))
        assert all(time <= self.now for time in times), "too early"
        assert all(b - a > -SLOT_S - 1e-9 for a, b in pairwise(times)), "out of order"
        for key in due:
            del self.model[key]
        assert all(time > self.now - SLOT_S for time in self.model.values()), "too late"

    @rule()
    def pass_time_to_the_next(self) -> None:
        due = self.timers.next_due()
        if due is not None:
            self.now = max(self.now, due)
            popped = self.timers.pop_due(self.now)
            assert popped, "nothing was due when something should have been"
            for key in popped:
                assert self.model.pop(key) <= self.now

    @invariant()
    def knows_the_same_keys(self) -> None:
        assert len(self.timers) == len(self.model)
        assert all((key in self.timers) == (key in self.model) for key in range(6))
        assert self.timers._empty == sum(not keys for keys in self.timers._slots.values())
        due = self.timers.next_due()
        if not self.model:
            assert due is None
        else:
            assert due is not None
            assert 0 <= due - min(self.model.values()) < SLOT_S + 1e-9


TestTimersLikeADictionary = TimersLikeADictionary.TestCase


@given(st.floats(0, 1e7, allow_nan=False))
@example(327.89500000000004)
def test_a_timer_is_never_due_early_and_at_most_a_slot_late(due: float) -> None:
    """Whoever waits until ``next_due`` has waited long enough, to the last bit."""
    timers: Timers[str] = Timers()
    timers.set("a", due)
    at = timers.next_due()
    assert at is not None
    assert due <= at <= due + SLOT_S * 1.001
    assert timers.pop_due(at) == ["a"]
    assert timers.next_due() is None


def test_timers_that_were_cancelled_leave_nothing_behind() -> None:
    """A day's worth of requests that ended early, each with a day of patience, costs no memory."""
    timers: Timers[int] = Timers()
    for number in range(20_000):
        timers.set(number, 86_400 + number * SLOT_S)
        timers.cancel(number)
    assert len(timers) == 0
    assert len(timers._slots) < 200
    assert len(timers._order) < 200


def test_cancelled_timers_are_swept_without_losing_the_others() -> None:
    """Sweeping keeps what is still set, in order."""
    timers: Timers[int] = Timers()
    for number in range(2_000):
        timers.set(number, number * SLOT_S)
    for number in range(2_000):
        if number % 10:
            timers.cancel(number)
    assert timers.pop_due(2_000 * SLOT_S) == list(range(0, 2_000, 10))
    assert timers.next_due() is None

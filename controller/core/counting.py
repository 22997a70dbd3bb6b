"""Owns what happens with counts every few seconds: put into their windows, told to the other controllers, and judged.

Of what changed one controller speaks: the one whose id and boot come first among those that live. Whoever becomes it
says again what still burns: twice is better than never. ``router`` brings the events, and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from controller.core import objective_states
from controller.core.burn import Standing, standing
from controller.core.commands import Command, WriteCounts
from controller.core.compliance import Measured
from controller.core.events import (
    ClockSet,
    CountingBegins,
    CountingEnds,
    CountsKnown,
    PeerCounts,
)
from controller.core.objective_views import objectives
from controller.core.objectives import Objective
from controller.core.peers import Peers
from controller.core.timers import Timers
from controller.core.views import Query
from controller.core.windows import MINUTES_A_DAY, Windows
from subjects.slo_counts import CountsMessage, Period, Totals
from subjects.tokens import CapabilityId

if TYPE_CHECKING:
    from controller.core.world import World

COUNTING = "counting"
"""What is due again and again."""
# A kill loses no more than this. Capabilities are judged in as many turns, so that hundreds of them never take long.
EVERY_S, TURNS = 5.0, 20
# A clock that is set back by less is waited for; so many minutes may also be ahead that others tell of.
_BACK_MIN = 5
# Capabilities of which nothing is asked here: files that are not yet the same everywhere, and those that were removed.
_MOST_STRANGERS = 500
# Nobody reads a message that tells of more shares of one budget.
_MOST_TOLD = 100


class Counting:
    """One controller's; it begins when something is asked, or when counts are exchanged."""

    def __init__(self, world: World, timers: Timers[Hashable], emit: Callable[[Command], None]) -> None:
        self._world = world
        self._compliance = world.compliance
        self._timers = timers
        self._emit = emit
        self._own = (world.controller_id, world.boot)
        self._peers = Peers(self._own, self._windows_of)
        self._strangers: dict[CapabilityId, Measured] = {}
        """What others count and nothing was ever asked of here, the last that was told of last."""
        self._turn = self._latest = self._new = 0
        self._exchanging = False
        self._known = True
        """Whether all that was stored is read: before that nobody is told anything."""
        self._speaks = False
        self._unwritten: int | None = None
        """The minute of what was folded since the last time that counts were written."""
        self._day_written: tuple[int, dict[CapabilityId, Totals]] = (-1, {})

    # Events -----------------------------------------------------------------------

    def begins(self, event: CountingBegins) -> None:
        """Say at once that one more is there."""
        self._exchanging, self._known, self._turn = True, False, 0
        self.step()

    def ruled(self) -> None:
        """Other objectives are in force."""
        objectives, compliance = self._world.rules.objectives, self._compliance
        self._fold()
        for capability, measured in compliance.measured.items():
            if capability not in objectives:
                self._retire(measured)
        compliance.adopt(objectives, self._strangers)
        self._forget(compliance.retired, _MOST_STRANGERS)
        if objectives and COUNTING not in self._timers:
            self._timers.set(COUNTING, self._world.now)

    def _forget(self, kept: dict[CapabilityId, Measured], most: int) -> None:
        """Forget the oldest of what is too many."""
        oldest = list(kept)[:-most]
        for capability in oldest:
            del kept[capability]
        if oldest:
            self._peers.forget(oldest)

    def _retire(self, measured: Measured) -> None:
        """Nothing is asked any more; whoever was told that it burns is told so."""
        ended = objective_states.retire(measured, self._world.wall_s, self._world.controller_id)
        if self._speaks and self._known:
            for command in ended:
                self._emit(command)

    def told(self, event: PeerCounts) -> None:
        """Somebody wrote counts."""
        world, period = self._world, event.period
        self._new = 0
        age_s = 0.0 if event.live else abs(world.wall_s - event.message.at)
        self._peers.read(period, event.message, self._minute, world.now, age_s)
        if period.is_day:
            self._recall(period, event.message)
        if event.message.left or event.live:
            self._count_controllers()

    def known(self, event: CountsKnown) -> None:
        """Everything is known: judge it all."""
        self._known = True
        self._count_controllers()
        for measured in self._compliance.measured.values():
            self._judge(measured)

    def ends(self, event: CountingEnds) -> None:
        """Say goodbye."""
        if self._exchanging:
            self._fold()
            self._write(left=True)
            self._exchanging = False

    def clock_set(self, event: ClockSet) -> None:
        """The day and the minute are others than thought. A clock that was ahead by more than a little starts again."""
        self._world.wall_offset_s = event.wall_offset_s
        minute = int(self._world.wall_s // 60)
        if minute >= self._latest - _BACK_MIN:
            return
        self._latest, self._unwritten = minute, None
        for kept in (self._compliance.measured, self._compliance.retired, self._strangers):
            for measured in kept.values():
                measured.start_again(minute)
        self._peers.start_again(minute)

    # Time -------------------------------------------------------------------------

    def step(self) -> None:
        """A turn: in the first of each round everything is counted and told, and in each some are judged."""
        measured = self._compliance.measured
        if not self._turn:
            self._fold()
            self._count_controllers()
            if self._exchanging:
                self._write()
        for each in islice(list(measured.values()), self._turn, None, TURNS):
            self._judge(each)
        self._turn = (self._turn + 1) % TURNS
        if measured or self._exchanging:
            self._timers.set(COUNTING, self._world.now + EVERY_S / TURNS)

    def shown(self, query: Query, max_bytes: int) -> dict[str, Any]:
        """What an operator is shown: ``{"slo": […], "next": …}``."""
        self._fold()
        return objectives(self._compliance, query, self._world.wall_s, max_bytes)

    @property
    def _minute(self) -> int:
        """The present one; where the clock is set back, time waits for it."""
        self._latest = max(self._latest, int(self._world.wall_s // 60))
        return self._latest

    def _fold(self) -> None:
        minute = self._minute
        if self._exchanging and self._unwritten not in (None, minute):
            self._write()  # before the next minute, and the next day, take its place
        for measured in self._compliance.measured.values():
            measured.fold(minute)
        self._unwritten = minute

    def _write(self, *, left: bool = False) -> None:
        minute = self._minute
        if self._unwritten is not None and self._unwritten != minute:
            self._write_minute(self._unwritten)
        self._write_minute(minute, left=left)
        self._unwritten = None

    def _write_minute(self, minute: int, *, left: bool = False) -> None:
        """And the day that it is of, where that is other than it was written."""
        day = minute // MINUTES_A_DAY
        at = self._world.wall_s
        # What is not said again of a day counts no more, so that those whose objective is gone are among them.
        measured = {**self._compliance.measured, **self._compliance.retired}
        days = {name: self._day_of(each, day) for name, each in measured.items()}
        days = {name: totals for name, totals in days.items() if totals.requests or totals.told}
        if (day, days) != self._day_written:
            self._day_written = (day, days)
            self._emit(WriteCounts(Period(*self._own, day, is_day=True), CountsMessage(at, days)))
        minutes = {name: each.minute[1] for name, each in measured.items() if each.minute[0] == minute}
        self._emit(WriteCounts(Period(*self._own, minute), CountsMessage(at, minutes, left)))

    def _day_of(self, measured: Measured, day: int) -> Totals:
        totals = measured.day[1] if measured.day[0] == day else Totals()
        if self._speaks and measured.alerted:
            told = tuple(sorted(share for month, share in measured.alerted if month == _month(day)))
            return msgspec.structs.replace(totals, told=told)
        return totals

    def _judge(self, measured: Measured) -> None:
        world = self._world
        measured.windows.advance(self._minute)
        settled = standing(measured.objective, measured.windows, world.wall_s)
        objective_states.settle(measured, settled, world.now)
        if not self._known:
            return
        month = _month(self._minute // MINUTES_A_DAY)
        begun = objective_states.month_begins(measured, world.wall_s, month, world.controller_id)
        if not self._speaks:
            measured.told = measured.standing
            return
        changed = objective_states.changes(measured, world.wall_s, world.controller_id)
        passed = objective_states.thresholds(measured, world.wall_s, month, world.controller_id)
        # A change goes to every channel and says what is left, so that the shares need not be told besides.
        for command in (*begun, *(changed or passed)):
            self._emit(command)
        if passed and self._exchanging:
            self._write()  # so that whoever speaks next does not say it again

    # Others -----------------------------------------------------------------------

    def _asked(self, capability: CapabilityId) -> Measured | None:
        """What is kept where something is asked, or was."""
        return self._compliance.measured.get(capability) or self._compliance.retired.get(capability)

    def _windows_of(self, capability: CapabilityId) -> Windows | None:
        measured = self._asked(capability) or self._stranger(capability)
        if measured is None:
            return None
        measured.windows.advance(self._minute)
        return measured.windows

    def _stranger(self, capability: CapabilityId) -> Measured | None:
        """None where one message tells of too many that are new."""
        measured = self._strangers.pop(capability, None)
        if measured is None:
            if self._new >= _MOST_STRANGERS:
                return None
            self._new += 1
            measured = Measured(Objective(capability))
        if len(self._strangers) >= _MOST_STRANGERS:  # half, since each time all that was told is looked through
            self._forget(self._strangers, _MOST_STRANGERS // 2)
        self._strangers[capability] = measured
        return measured

    def _recall(self, period: Period, message: CountsMessage) -> None:
        """Whoever spoke before said so of these shares of the month's budget."""
        month = _month(period.number)
        if month != _month(self._minute // MINUTES_A_DAY):
            return
        for capability, totals in message.counts.items():
            measured = self._asked(capability) or self._strangers.get(capability)
            if measured is not None and totals.told:
                room = max(0, _MOST_TOLD - len(measured.alerted))
                measured.alerted |= {(month, share) for share in totals.told[:room]}

    def _count_controllers(self) -> None:
        others = self._peers.alive(self._world.now)
        self._compliance.controllers = 1 + len(others)
        speaks = min((*others, self._own)) == self._own
        if speaks and not self._speaks:
            for measured in self._compliance.measured.values():
                measured.told = Standing.UNMEASURED
        self._speaks = speaks


def _month(day: int) -> int:
    """A number for the month of a day, UTC."""
    date = datetime.fromtimestamp(day * MINUTES_A_DAY * 60, UTC)
    return date.year * 12 + date.month

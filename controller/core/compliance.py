"""Owns what every request's end counts for: each objective's counts, and how each capability stands with it.

A request costs a few additions here, and nothing where nothing is asked. ``lives`` calls ``Measured.count``; what the
counts come to is found every few seconds by ``counting``, and read by whoever decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from controller.core import quantiles
from controller.core.burn import Standing
from controller.core.objectives import Objective
from controller.core.quantiles import Bins, bin_of
from controller.core.windows import MINUTES_A_DAY, Windows
from subjects.answers import Frame, Result
from subjects.errors import ErrorKind, Refusal
from subjects.slo_counts import Totals
from subjects.tokens import CapabilityId

if TYPE_CHECKING:
    from controller.core.world import Life, Outcome

# Whose fault it is not the caller's. A worker that says 4xx means the caller, too.
_BAD = frozenset(
    {
        ErrorKind.WORKER_ERROR,
        ErrorKind.WORKER_PROTOCOL,
        ErrorKind.WORKER_LOST,
        ErrorKind.NO_WORKER,
        ErrorKind.OVERLOADED,
        ErrorKind.STORE_UNAVAILABLE,
        ErrorKind.POLICY_UNAVAILABLE,
        ErrorKind.DEADLINE,
    }
)
_NEVER = float("inf")


class Measured:
    """One capability with an objective. Its counts since the last ``fold`` are plain numbers."""

    __slots__ = (
        "_asked_ms",
        "_bad",
        "_bins",
        "_day_before",
        "_objective",
        "_requests",
        "_served",
        "_slow",
        "_target_ms",
        "_would",
        "alerted",
        "better_at",
        "day",
        "minute",
        "standing",
        "told",
        "windows",
    )

    def __init__(self, objective: Objective, windows: Windows | None = None) -> None:
        self.windows = windows if windows is not None else Windows()
        self.standing = self.told = Standing.UNMEASURED
        """How it stands, and how everybody was told that it does."""
        self.better_at: float | None = None
        """Since when it does better than ``standing``."""
        self.alerted: set[tuple[int, float]] = set()
        """Month, and share of its budget that an alert was sent for."""
        self.minute = self.day = (-1, Totals())
        """What this process counted in the present minute and on this day."""
        self._day_before = self.day
        self._requests = self._bad = self._served = self._slow = self._would = 0
        self._bins: Bins = {}
        self.objective = objective

    @property
    def objective(self) -> Objective:
        """What is asked; counts stay when it changes."""
        return self._objective

    @objective.setter
    def objective(self, objective: Objective) -> None:
        self._objective = objective
        self._target_ms = objective.target_ms or _NEVER
        self._asked_ms = objective.target_ms or objective.timeout_ms or 0

    def count(self, life: Life, outcome: Outcome, now: float) -> None:
        """Count a request that ends now and that the objective speaks of, unless it says nothing of the capability."""
        kind = type(outcome)
        if kind is Result or kind is Frame:
            took_ms = (now - life.arrived_at) * 1000
            self._requests += 1
            self._served += 1
            if life.would:
                self._would += 1
            if took_ms > self._target_ms:
                self._slow += 1
            index = bin_of(took_ms)
            self._bins[index] = self._bins.get(index, 0) + 1
        elif kind is Refusal and not life.request.headers.dry_run:
            self._refused(life, outcome)  # type: ignore[arg-type]  # it is one

    def _refused(self, life: Life, refusal: Refusal) -> None:
        headers = life.request.headers
        impatient = headers.latency_ms is not None and headers.latency_ms < self._asked_ms
        unmet = bool(life.would) and refusal.kind is ErrorKind.NO_MATCH  # nobody is as quick as was asked
        # Making room while it burns must not keep it burning.
        if life.yields or (refusal.kind not in _BAD and not unmet) or (life.would and impatient):
            return
        self._requests += 1
        if refusal.kind is ErrorKind.WORKER_ERROR and 400 <= (refusal.worker_code or 0) < 500:
            return
        patience_ms = headers.timeout_ms
        if refusal.kind is ErrorKind.DEADLINE and patience_ms is not None and patience_ms < self._asked_ms:
            self._requests -= 1  # it asked for more than the objective promises
            return
        self._bad += 1

    def fold(self, minute: int) -> None:
        """Put what was counted since the last time into ``minute``, and into its day."""
        self.windows.advance(minute)
        minute = self.windows.minutes.newest
        if not self._requests:
            return
        new = Totals(self._requests, self._bad, self._served, self._slow, self._bins, would=self._would)
        self._requests = self._bad = self._served = self._slow = self._would = 0
        self._bins = {}
        day = minute // MINUTES_A_DAY
        self.windows.add_minute(minute, new)
        self.windows.add_day(day, new)
        self.minute = (minute, _sum(self.minute[1], new) if self.minute[0] == minute else new)
        if self.day[0] != day:
            self._day_before, self.day = self.day, (day, Totals())
        self.day = (day, _sum(self.day[1], new, histogram=False))

    def start_again(self, minute: int) -> None:
        """The clock was ahead: it is ``minute``."""
        self.windows.start_again(minute)
        if self.minute[0] > minute:
            self.minute = (-1, Totals())
        if self.day[0] > minute // MINUTES_A_DAY:
            self.day, self._day_before = self._day_before, (-1, Totals())


def _sum(before: Totals, new: Totals, *, histogram: bool = True) -> Totals:
    bins: Bins = {}
    if histogram:
        bins = dict(before.ms)
        quantiles.add(bins, new.ms)
    return Totals(
        before.requests + new.requests,
        before.bad + new.bad,
        before.served + new.served,
        before.slow + new.slow,
        bins,
        would=before.would + new.would,
    )


class Compliance:
    """Every capability with an objective, and how it stands."""

    def __init__(self) -> None:
        self.measured: dict[CapabilityId, Measured] = {}
        self.retired: dict[CapabilityId, Measured] = {}
        """Whose objectives were taken away, the latest last: their counts stay for when one comes back."""
        self.controllers = 1
        """Controllers that live, this one included."""

    def burning(self, capability: CapabilityId) -> Standing:
        """How a capability stands; ``UNMEASURED`` where nothing is asked of it."""
        measured = self.measured.get(capability)
        return measured.standing if measured is not None else Standing.UNMEASURED

    def adopt(self, objectives: Mapping[CapabilityId, Objective], strangers: dict[CapabilityId, Measured]) -> None:
        """Ask this from now on. ``strangers`` are what others counted where nothing was ever asked here."""
        for capability in [each for each in self.measured if each not in objectives]:
            self.retired[capability] = self.measured.pop(capability)
        for capability, objective in objectives.items():
            measured = self.measured.get(capability) or self.retired.pop(capability, None)
            measured = measured or strangers.pop(capability, None) or Measured(objective)
            if measured.objective != objective:
                measured.objective = objective
            self.measured[capability] = measured

"""Owns what counts mean for an objective: how fast its budget burns, what is left of it, how the capability stands.

Two things are measured against what is allowed: failures against ``budget``, slow answers against ``slow_share``; where
one number is told it is the worse of both. Pages and tickets are those of the SRE Workbook, chapter 5: four pairs of
windows, of which both must burn. Nothing measured is None, and never 100 %.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from controller.core.objectives import Objective
from controller.core.windows import Counts, Windows


class Standing(Enum):
    """How a capability stands with its objective; the values are what people read."""

    UNMEASURED = "unmeasured"
    OK = "ok"
    TICKET = "ticket"
    PAGE = "page"
    EXHAUSTED = "exhausted"


class Pair(NamedTuple):
    """What it is worth when both windows burn this fast."""

    standing: Standing
    rate: float
    long: str
    short: str


PAIRS = (
    Pair(Standing.PAGE, 14.4, "1h", "5m"),
    Pair(Standing.PAGE, 6.0, "6h", "30m"),
    Pair(Standing.TICKET, 3.0, "1d", "2h"),
    Pair(Standing.TICKET, 1.0, "3d", "6h"),
)
# How many cells of which ring.
_MINUTES = {"5m": 5, "30m": 30, "1h": 60, "2h": 120}
_TENS = {"6h": 36, "1d": 144, "3d": 432}
WINDOWS = (*_MINUTES, *_TENS)
# One error in a quiet hour is no news, whatever share of the hour it is: so many requests and so many bad ones must be
# in the short window of a pair, and in the month for a budget to be spent.
FEWEST, FEWEST_BAD = 20, 2


class Spent(NamedTuple):
    """One indicator over some time: how many counted, how many of them were bad, and which share may be."""

    counted: int
    bad: int
    allowed: float

    @property
    def rate(self) -> float | None:
        """How many times faster than allowed the budget burns."""
        return self.bad / (self.allowed * self.counted) if self.counted else None

    @property
    def enough(self) -> bool:
        """Whether there were enough to say that something is wrong."""
        return self.counted >= FEWEST and self.bad >= FEWEST_BAD


def spent(objective: Objective, counts: Counts) -> dict[str, Spent]:
    """By ``availability`` and ``latency``, as far as the objective asks for them."""
    found = {}
    if objective.budget is not None:
        found["availability"] = Spent(counts.requests, counts.bad, objective.budget)
    if objective.target_ms is not None:
        found["latency"] = Spent(counts.served, counts.slow, objective.slow_share)
    return found


def window(windows: Windows, name: str) -> Counts:
    """The counts of one of ``WINDOWS``."""
    cells = _MINUTES.get(name)
    return windows.minutes.last(cells) if cells is not None else windows.tens.last(_TENS[name])


def month(windows: Windows, wall_s: float) -> Counts:
    """The counts of this calendar month, UTC."""
    return windows.days.last(datetime.fromtimestamp(wall_s, UTC).day)


def burn_rate(objective: Objective, counts: Counts) -> float | None:
    """The worse of both indicators."""
    return max((each.rate for each in spent(objective, counts).values() if each.rate is not None), default=None)


def left_pct(objective: Objective, counts: Counts) -> dict[str, float | None]:
    """What is left of each indicator's budget in per cent, below zero when overspent; ``counts`` are the month's."""
    return {
        name: None if each.rate is None else 100 * (1 - each.rate) for name, each in spent(objective, counts).items()
    }


def worst(objective: Objective, counts: Counts) -> str | None:
    """The indicator that burns fastest."""
    rates = {name: each.rate for name, each in spent(objective, counts).items() if each.rate is not None}
    return max(rates, key=rates.__getitem__, default=None)


def judged(objective: Objective, counts: Counts) -> bool:
    """Whether the month's ``counts`` are enough for every indicator to be judged by them."""
    found = spent(objective, counts).values()
    return all(each.counted >= FEWEST and (each.enough or (each.rate or 0.0) < 1) for each in found)


def share_spent(objective: Objective, counts: Counts) -> float:
    """The share of the month's budget that is spent, 0 while too little was counted to say so."""
    return max((each.rate or 0.0 for each in spent(objective, counts).values() if each.enough), default=0.0)


def standing(objective: Objective, windows: Windows, wall_s: float) -> Standing:
    """How the capability stands at this moment."""
    this_month = month(windows, wall_s)
    if share_spent(objective, this_month) >= 1:
        return Standing.EXHAUSTED
    if not this_month.requests and not window(windows, "3d").requests:
        return Standing.UNMEASURED
    found = burning(objective, windows)
    return found[0].standing if found is not None else Standing.OK


def burning(objective: Objective, windows: Windows) -> tuple[Pair, str] | None:
    """The most urgent pair of windows that burns, and which indicator it is that does."""
    for pair in PAIRS:
        short = spent(objective, window(windows, pair.short))
        if not any(each.enough for each in short.values()):
            continue
        long = spent(objective, window(windows, pair.long))
        for name, each in short.items():
            if each.enough and _burns(each, pair) and _burns(long[name], pair):
                return pair, name
    return None


def _burns(each: Spent, pair: Pair) -> bool:
    return each.rate is not None and each.rate > pair.rate

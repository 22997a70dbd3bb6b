"""Owns what is asked and when, and what came of it: an open loop, in which nobody waits before asking again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import msgspec

from simulation.dice import Dice


class Asked(msgspec.Struct):
    """One request, ``at`` seconds after the beginning, and what came of it."""

    at: float
    priority: str = "normal"
    latency_ms: int | None = None
    caller: str = "anonymous"
    took_ms: float = 0.0
    outcome: str = ""
    """``answered``, or how it was refused."""
    workers: tuple[str, ...] = ()
    """Who was given it, in order."""
    tokens: float = 0.0
    """What all of these cost."""

    def within(self, ms: float) -> bool:
        """Whether it was answered in time."""
        asked = ms if self.latency_ms is None else min(ms, self.latency_ms)
        return self.outcome == "answered" and self.took_ms <= asked


def poisson(seed: int, per_s: float, count: int, *, begin_s: float = 0.0) -> Iterator[Asked]:
    """So many requests, so many a second on average, each at its own time."""
    dice, at = Dice(seed, 1), begin_s
    for _ in range(count):
        at += dice.spread(1.0 / per_s)
        yield Asked(at)


def with_priorities(seed: int, arrivals: Iterator[Asked]) -> Iterator[Asked]:
    """One in five is urgent, and one in five is not at all."""
    dice = Dice(seed, 2)
    for asked in arrivals:
        drawn = dice.random()
        asked.priority = "high" if drawn < 0.2 else "low" if drawn < 0.4 else "normal"
        yield asked


def share(asked: Sequence[Asked], within_ms: float) -> float:
    """How many of these, 0 to 1, were answered in time."""
    return sum(each.within(within_ms) for each in asked) / len(asked)


def quantile_ms(asked: Sequence[Asked], quantile: float) -> float:
    """Of those that were answered, this share took no longer."""
    took = sorted(each.took_ms for each in asked if each.outcome == "answered")
    return took[ceil(quantile * len(took)) - 1]

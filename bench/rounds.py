"""Owns the order of measurements and what is made of them: interleaved rounds, medians, ratios within a round.

A machine that is busy for a second slows one round; so each round measures every path, in turns, the median of the
rounds counts, and two paths are compared within a round.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from statistics import median

import msgspec

from bench.machine import busy_seconds
from bench.parts import Parts
from bench.paths import SUBJECTS

MANY = 64


class Plan(msgspec.Struct, frozen=True):
    """How long to measure: rounds, and the seconds of each measurement at one and at many requests in flight."""

    rounds: int
    alone_s: float
    many_s: float
    warm_up_s: float
    plain_ends: bool = False
    """Whether client and worker parse the headers that they do not look at."""


# Six rounds: each path is measured twice first, twice second and twice last.
FULL = Plan(rounds=6, alone_s=1.0, many_s=1.2, warm_up_s=1.0)
QUICK = Plan(rounds=3, alone_s=0.35, many_s=0.5, warm_up_s=0.3)


class Sample(msgspec.Struct, frozen=True):
    """One path in one round. CPU is microseconds a request, by process, while ``MANY`` are in flight.

    ``others`` is the part of one core that the rest of the machine used meanwhile: 0 on a quiet one.
    """

    path: str
    round: int
    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_us: dict[str, float] | None
    others: float | None


class Ratio(msgspec.Struct, frozen=True):
    """Crank against the pass-through: the median of the rounds' ratios, the least and the greatest, and the goal."""

    what: str
    median: float
    least: float
    greatest: float
    goal: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        return self.median <= self.goal if self.at_most else self.median >= self.goal


async def measure(parts: Parts, plan: Plan) -> AsyncGenerator[Sample, None]:
    """Warm up, then every path in every round.

    Raises:
        BenchError: a path gave a wrong answer.

    """
    order = list(SUBJECTS)
    for path in order:
        await parts.measure(path, MANY, plan.warm_up_s)
    for number in range(plan.rounds):
        for path in order:
            yield await _sample(parts, plan, path, number)
        order.append(order.pop(0))


async def _sample(parts: Parts, plan: Plan, path: str, number: int) -> Sample:
    alone = await parts.measure(path, 1, plan.alone_s)
    before, busy = parts.cpu_seconds(), busy_seconds()
    many = await parts.measure(path, MANY, plan.many_s)
    after, busy_after = parts.cpu_seconds(), busy_seconds()
    cpu_us = others = None
    if before is not None and after is not None and busy is not None and busy_after is not None:
        used = {name: after[name] - before[name] for name in after}
        cpu_us = {name: seconds * 1e6 / many.count for name, seconds in used.items()}
        others = max(0.0, busy_after - busy - sum(used.values())) / many.seconds
    return Sample(path, number, alone.p50_ms, alone.p99_ms, many.count / many.seconds, cpu_us, others)


def middle(samples: list[Sample], path: str, what: str) -> float:
    """The median over the rounds of one figure of one path."""
    found: float = median(getattr(sample, what) for sample in samples if sample.path == path)
    return found


def others(samples: list[Sample]) -> float | None:
    """How much of one core the rest of the machine used, on average over the whole run."""
    seen = [sample.others for sample in samples if sample.others is not None]
    return sum(seen) / len(seen) if seen else None


def middle_cpu_us(samples: list[Sample], path: str, process: str) -> float | None:
    """The median over the rounds of a process's CPU time for a request on ``path``; None where it has no part."""
    seen = [s.cpu_us[process] for s in samples if s.path == path and s.cpu_us is not None and process in s.cpu_us]
    return median(seen) if seen else None


def ratios(samples: list[Sample]) -> list[Ratio]:
    """Crank against the pass-through, with the goals."""
    by_place = {(sample.round, sample.path): sample for sample in samples}
    pairs = [(by_place[n, "crank"], by_place[n, "pass-through"]) for n in sorted({n for n, _ in by_place})]
    found = []
    for what, field, goal, at_most in (("p50", "p50_ms", 1.25, True), ("throughput", "per_second", 0.55, False)):
        each = [getattr(crank, field) / getattr(bare, field) for crank, bare in pairs]
        found.append(Ratio(what, median(each), min(each), max(each), goal, at_most))
    return found

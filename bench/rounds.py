"""Owns the order of measurements: interleaved rounds, each lane in each, at one, 64 and 512 in flight.

A machine that is busy for a second slows one round; so each round measures every lane, in turns. What is made of the
samples is ``bench.figures``'.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from bench.machine import busy_seconds
from bench.parts import Parts
from bench.paths import Lane

ALONE, MANY, FLOOD = LOADS = (1, 64, 512)


class Plan(msgspec.Struct, frozen=True):
    """How long to measure: the rounds, and the seconds of each measurement and of each lane's warm-up."""

    rounds: int
    seconds: float
    warm_up_s: float
    plain_ends: bool = False
    """Whether client and worker parse the headers that they do not look at."""


FULL = Plan(rounds=7, seconds=0.8, warm_up_s=1.0)
QUICK = Plan(rounds=3, seconds=0.15, warm_up_s=0.15)


class Sample(msgspec.Struct, frozen=True):
    """One lane in one round, at one load. CPU is microseconds a request, by process.

    ``others`` is the part of one core that the rest of the machine used meanwhile: 0 on a quiet one.
    """

    lane: str
    in_flight: int
    round: int
    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_us: dict[str, float] | None
    others: float | None
    took_ms: tuple[tuple[float | None, float], ...] = ()
    """How many took how long."""


async def measure(parts: Parts, plan: Plan) -> AsyncGenerator[Sample, None]:
    """Warm up, then every lane in every round; who is first changes from round to round.

    Raises:
        BenchError: a lane gave a wrong answer.

    """
    order = list(parts.lanes)
    for lane in order:
        await parts.measure(lane, MANY, plan.warm_up_s)
    for number in range(plan.rounds):
        for in_flight in LOADS:
            for lane in order:
                # What one worker does is seen where a router would have many requests out.
                if lane.by == "client" or in_flight == MANY:
                    yield await _sample(parts, plan, lane, in_flight, number)
        order.append(order.pop(0))


async def _sample(parts: Parts, plan: Plan, lane: Lane, in_flight: int, number: int) -> Sample:
    before, busy = parts.cpu_seconds(), busy_seconds()
    seen = await parts.measure(lane, in_flight, plan.seconds)
    after, busy_after = parts.cpu_seconds(), busy_seconds()
    cpu_us = others = None
    if before is not None and after is not None and busy is not None and busy_after is not None:
        used = {name: after[name] - before[name] for name in after}
        cpu_us = {name: seconds * 1e6 / seen.count for name, seconds in used.items()}
        others = max(0.0, busy_after - busy - sum(used.values())) / seen.seconds
    per_second = seen.count / seen.seconds
    return Sample(lane.name, in_flight, number, seen.p50_ms, seen.p99_ms, per_second, cpu_us, others, seen.took_ms)

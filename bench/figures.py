"""Owns what is made of the samples: medians over the rounds, and ratios within a round with their goals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import msgspec

from bench.paths import Lane
from bench.rounds import ALONE, MANY, Sample


class Row(NamedTuple):
    """One lane at one load: medians of the rounds. CPU is microseconds a request; None where unknown or nobody."""

    lane: Lane
    in_flight: int
    p50_ms: float
    p99_ms: float
    per_second: float
    router_us: float | None
    worker_us: float | None
    nats_us: float | None
    sender_us: float | None


def rows(samples: Sequence[Sample], lanes: Sequence[Lane], in_flight: int) -> list[Row]:
    """The table of one load."""
    found = []
    for lane in lanes:
        seen = [sample for sample in samples if sample.lane == lane.name and sample.in_flight == in_flight]
        if seen:
            found.append(
                Row(
                    lane,
                    in_flight,
                    median(sample.p50_ms for sample in seen),
                    median(sample.p99_ms for sample in seen),
                    median(sample.per_second for sample in seen),
                    *(_cpu_us(seen, process) for process in (lane.router, lane.worker, "nats", lane.by)),
                )
            )
    return found


def _cpu_us(seen: Sequence[Sample], process: str | None) -> float | None:
    found = [sample.cpu_us[process] for sample in seen if sample.cpu_us is not None and process in sample.cpu_us]
    return median(found) if found else None


def others(samples: Sequence[Sample]) -> float | None:
    """How much of one core the rest of the machine used, on average over the whole run."""
    seen = [sample.others for sample in samples if sample.others is not None]
    return sum(seen) / len(seen) if seen else None


class Ratio(msgspec.Struct, frozen=True):
    """One against another: the median of the rounds' ratios, the least and the greatest, and the goal."""

    who: str
    what: str
    median: float
    least: float
    greatest: float
    goal: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal, to the digits that are shown."""
        shown = round(self.median, 2)
        return shown <= self.goal if self.at_most else shown >= self.goal


def ratio(who: str, what: str, each: Sequence[float], goal: float, *, at_most: bool) -> Ratio:
    """The ratio of ``each`` round, with its goal."""
    return Ratio(who, what, median(each), min(each), max(each), goal, at_most)


class Goal(NamedTuple):
    """What is promised: ``of`` at ``in_flight`` requests, of ``lane`` against ``against``."""

    lane: str
    against: str
    what: str
    in_flight: int
    of: Callable[[Sample], float | None]
    limit: float
    at_most: bool


def _router_us(sample: Sample) -> float | None:
    return sample.cpu_us[sample.lane] if sample.cpu_us is not None else None


GOALS = (
    Goal("crank", "pass-through", "p50 at 1 in flight", ALONE, lambda sample: sample.p50_ms, 1.20, True),
    Goal("crank", "pass-through", "throughput at 64", MANY, lambda sample: sample.per_second, 0.60, False),
    Goal("crank", "pass-through", "router CPU a request at 64", MANY, _router_us, 2.0, True),
    Goal("crank, keyed", "pass-through", "p50 at 1 in flight", ALONE, lambda sample: sample.p50_ms, 1.90, True),
    Goal("crank, keyed", "pass-through", "throughput at 64", MANY, lambda sample: sample.per_second, 0.35, False),
    Goal("crank, again", "pass-through", "throughput at 64", MANY, lambda sample: sample.per_second, 0.80, False),
    Goal("SDK, bytes", "bare nats-py", "throughput at 64", MANY, lambda sample: sample.per_second, 0.80, False),
)


def ratios(samples: Sequence[Sample]) -> list[Ratio]:
    """Every goal that was measured."""
    at = {(sample.round, sample.lane, sample.in_flight): sample for sample in samples}
    found = []
    for goal in GOALS:
        each = []
        for number in sorted({sample.round for sample in samples}):
            ours, theirs = (goal.of(at[number, lane, goal.in_flight]) for lane in (goal.lane, goal.against))
            if ours is not None and theirs:
                each.append(ours / theirs)
        if each:
            found.append(ratio(f"{goal.lane} / {goal.against}", goal.what, each, goal.limit, at_most=goal.at_most))
    return found

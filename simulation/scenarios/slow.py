"""Scenarios of a worker that takes ten times as long as the others: from the beginning, or for a while."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controller.core.objectives import Rules
from simulation.scenarios.arrivals import Asked, poisson, quantile_ms
from simulation.scenarios.at_random import at_random
from simulation.scenarios.fleet import Kind, Worker, capacity_per_s, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.rules import NOTHING, asked
from simulation.scenarios.stage import Stage

FAST, SLOW = Kind(20.0), Kind(200.0)
TARGET_MS = 60.0
"""Three times what the fast ones usually take: they keep to it, and a slow one never does."""
LOAD, TAIL_GOAL = 0.4, 1.5


def mixed(seed: int) -> list[Worker]:
    """Five workers, of which one is slow."""
    return fleet(seed, fast=(4, FAST), slow=(1, SLOW))


def one_slow(seed: int, requests: int) -> list[Found]:
    """One of five is ten times slower, under 40 % of what the five can do."""
    per_s = LOAD * capacity_per_s(mixed(seed))

    def played(workers: list[Worker], rules: Rules) -> float:
        return quantile_ms(Stage(seed, workers, rules).play(poisson(seed, per_s, requests)), 0.99)

    all_fast_ms = played(fleet(seed, fast=(5, FAST)), asked(TARGET_MS))
    steered = Stage(seed, mixed(seed), asked(TARGET_MS)).play(poisson(seed, per_s, requests))
    random = at_random(seed, mixed(seed), poisson(seed, per_s, requests))
    to_slow = sum("slow-1" in each.workers for each in steered) / requests
    return [
        Found("p99, all fast", all_fast_ms, unit="ms"),
        Found("p99, one slow / all fast", quantile_ms(steered, 0.99) / all_fast_ms, TAIL_GOAL, unit="×"),
        Found("p99.9, one slow", quantile_ms(steered, 0.999), unit="ms"),
        Found("went to the slow one", 100 * to_slow, unit="%"),
        Found("without an objective", played(mixed(seed), NOTHING) / all_fast_ms, unit="×"),
        Found("drawn at random", quantile_ms(random, 0.99) / all_fast_ms, unit="×"),
    ]


_PER_S = 400.0
_MISSED_GOAL_PCT = 1.0
# It is tried twice in a thousand requests, which is how it is noticed that it was mended.
_AFTER_S, _BACK_GOAL_S = 60.0, 60.0


def slow_for_a_while(seed: int, requests: int) -> list[Found]:
    """One of five becomes ten times slower in the middle, and is mended after a while."""
    stage = Stage(seed, fleet(seed, fast=(5, FAST)), asked(TARGET_MS))
    worker = stage.workers["fast-3"]
    stage.play(poisson(seed, _PER_S, requests // 4))
    worker.slower, slow_s = 10.0, stage.elapsed_s
    slow = stage.play(poisson(seed + 1, _PER_S, requests // 2, begin_s=slow_s))
    worker.slower, mended_s = 1.0, stage.elapsed_s
    after = stage.play(poisson(seed + 2, _PER_S, int(_AFTER_S * _PER_S), begin_s=mended_s))
    sound_s = next((each.at - mended_s for at, each in enumerate(after) if _has_its_share(after, at, worker)), None)
    at_first = [each for each in slow if each.at < slow_s + 1.0]
    return [
        Found("missed in its first second", _missed(at_first), unit="requests"),
        Found("missed while it is slow", 100 * _missed(slow) / len(slow), _MISSED_GOAL_PCT, unit="%"),
        Found("missed afterwards", 100 * _missed(after) / len(after), _MISSED_GOAL_PCT, unit="%"),
        Found("has its share again after", math.inf if sound_s is None else sound_s, _BACK_GOAL_S, unit="s"),
    ]


def _missed(got: Sequence[Asked]) -> int:
    return sum(not each.within(TARGET_MS) for each in got)


def _has_its_share(got: Sequence[Asked], at: int, worker: Worker) -> bool:
    """Whether of the next hundred it does a tenth, where a fifth is fair."""
    return sum(worker.id in each.workers for each in got[at : at + 100]) >= 10

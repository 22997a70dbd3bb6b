"""The scenario of twice as many requests as can be done, under an objective that is enforced."""

from __future__ import annotations

from simulation.scenarios.arrivals import Asked, poisson, quantile_ms, share, with_priorities
from simulation.scenarios.fleet import Kind, capacity_per_s, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.rules import enforced
from simulation.scenarios.stage import Stage

WORKER = Kind(20.0)
TARGET_MS, TIMES = 200.0, 2.0
GOODPUT_GOAL_PCT, HIGH_GOAL_PCT, _LATE_GOAL_PCT = 90.0, 99.0, 0.5
_AT_ONCE_MS = 2.0


def overload(seed: int, requests: int) -> list[Found]:
    """One request in five is urgent, and one in five is not at all."""
    workers = fleet(seed, w=(5, WORKER))
    capacity = capacity_per_s(workers)
    arrivals = with_priorities(seed, poisson(seed, TIMES * capacity, requests))
    got = Stage(seed, workers, enforced(TARGET_MS)).play(arrivals)
    until_s = got[-1].at  # what comes after the last one was asked is done with nobody new in the way
    goodput = sum(e.within(TARGET_MS) and e.at + e.took_ms / 1000 <= until_s for e in got) / until_s / capacity
    by = {p: [each for each in got if each.priority == p] for p in ("high", "normal", "low")}
    answered = [each for each in got if each.outcome == "answered"]
    refused = [each for each in got if each.outcome == "overloaded"]
    return [
        Found("goodput, of capacity", 100 * goodput, GOODPUT_GOAL_PCT, at_most=False, unit="%"),
        Found("high, in time", 100 * share(by["high"], TARGET_MS), HIGH_GOAL_PCT, at_most=False, unit="%"),
        Found("normal, in time", 100 * share(by["normal"], TARGET_MS), unit="%"),
        Found("low, in time", 100 * share(by["low"], TARGET_MS), unit="%"),
        Found("answered late", 100 * sum(not e.within(TARGET_MS) for e in answered) / len(answered), unit="%"),
        Found("p99 of what is answered", quantile_ms(got, 0.99), unit="ms"),
        Found("refused at once", 100 * sum(e.took_ms < _AT_ONCE_MS for e in refused) / len(refused), unit="%"),
        Found("refused too late to be any use", 100 * _late(refused) / len(refused), _LATE_GOAL_PCT, unit="%"),
    ]


def _late(refused: list[Asked]) -> int:
    """Whoever waited for as long as the answer was to take."""
    return sum(each.took_ms > TARGET_MS for each in refused)

"""Scenarios of cheap workers and dear ones: the objective is met, and costs what it has to."""

from __future__ import annotations

from simulation.scenarios.arrivals import Asked, poisson, quantile_ms, share
from simulation.scenarios.fleet import Kind, Worker, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.rules import asked
from simulation.scenarios.stage import Stage

CHEAP, TOO_SLOW, DEAR = Kind(60.0, price=1.0), Kind(300.0, price=1.0), Kind(20.0, price=5.0)
TARGET_MS = 200.0
MET_GOAL_PCT, COST_GOAL_PCT = 99.0, 60.0
# A fifth more than the cheap ones can do that are quick enough, and a third of what all can.
_PER_S = 320.0
# One request in ten asks for what only dear ones do.
_OWN_MS, _OWN_EVERY = 80, 10


def too_few_cheap(seed: int, requests: int) -> list[Found]:
    """The cheap ones are quick enough, and cannot carry the load alone."""
    return _told(seed, fleet(seed, cheap=(4, CHEAP), dear=(4, DEAR)), list(poisson(seed, _PER_S, requests)))


def some_too_slow(seed: int, requests: int) -> list[Found]:
    """Half of the cheap ones would miss the objective."""
    workers = fleet(seed, cheap=(4, CHEAP), idle=(4, TOO_SLOW), dear=(4, DEAR))
    return _told(seed, workers, list(poisson(seed, _PER_S, requests)))


def some_in_a_hurry(seed: int, requests: int) -> list[Found]:
    """One request in ten asks for an answer that only dear workers give in time."""
    arrivals = list(poisson(seed, _PER_S, requests))
    for each in arrivals[::_OWN_EVERY]:
        each.latency_ms = _OWN_MS
    return _told(seed, fleet(seed, cheap=(4, CHEAP), dear=(4, DEAR)), arrivals)


def _told(seed: int, workers: list[Worker], arrivals: list[Asked]) -> list[Found]:
    got = Stage(seed, workers, asked(TARGET_MS)).play(arrivals)
    cost = sum(each.tokens for each in got) / (DEAR.price * len(got))
    found = [
        Found("objective met", 100 * share(got, TARGET_MS), MET_GOAL_PCT, at_most=False, unit="%"),
        Found("cost, of all dear", 100 * cost, COST_GOAL_PCT, unit="%"),
        Found("p99", quantile_ms(got, 0.99), unit="ms"),
    ]
    hurried = [each for each in got if each.latency_ms is not None]
    if hurried:
        found.append(Found("met in a hurry", 100 * share(hurried, TARGET_MS), MET_GOAL_PCT, at_most=False, unit="%"))
    return found

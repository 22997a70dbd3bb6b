"""The scenario of workers that nobody knows: they get little until they have shown what they can do."""

from __future__ import annotations

from simulation.scenarios.arrivals import poisson, quantile_ms
from simulation.scenarios.fleet import Kind, Worker, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.rules import asked
from simulation.scenarios.stage import Stage

KNOWN, NEW, TOO_SLOW = Kind(20.0), Kind(20.0, price=0.5), Kind(200.0, price=0.1)
TARGET_MS = 60.0
SHARE_GOAL_PCT, TAIL_GOAL = 6.0, 1.5
_PER_S = 400.0
_WINDOW = 500


def newcomers(seed: int, requests: int) -> list[Found]:
    """Five are known; ten cheaper ones join, of which every other one is ten times too slow."""
    stage = Stage(seed, fleet(seed, known=(5, KNOWN)), asked(TARGET_MS))
    before = stage.play(poisson(seed, _PER_S, requests // 4))
    for worker in fleet(seed, new=(5, NEW), slow=(5, TOO_SLOW)):
        stage.join(worker)
    got = stage.play(poisson(seed + 1, _PER_S, requests, begin_s=stage.elapsed_s))
    unproven = [_unproven(each.workers, stage.workers, seen) for seen in [dict[str, int]()] for each in got]
    most = max(sum(unproven[at : at + _WINDOW]) for at in range(0, len(unproven) - _WINDOW, 50)) / _WINDOW
    last = got[-_WINDOW:]
    cheap = sum(each.workers[0].startswith("new") for each in last) / len(last)
    return [
        Found(f"to the unproven, of any {_WINDOW}", 100 * most, SHARE_GOAL_PCT, unit="% at most"),
        Found("p99, with newcomers / before", quantile_ms(got, 0.99) / quantile_ms(before, 0.99), TAIL_GOAL, unit="×"),
        Found("to the cheap and quick in the end", 100 * cheap, 90.0, at_most=False, unit="%"),
    ]


def _unproven(went_to: tuple[str, ...], workers: dict[str, Worker], seen: dict[str, int]) -> bool:
    """Whether a request went to one that had answered fewer than five."""
    name = went_to[0]
    seen[name] = seen.get(name, 0) + 1
    return not name.startswith("known") and seen[name] <= 5

"""The scenario of a caller that asks for three times its rate, of several controllers, one of which goes."""

from __future__ import annotations

from controller.core.objectives import Rate, Rates, Rules
from simulation.scenarios.arrivals import Asked, poisson
from simulation.scenarios.fleet import Kind, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.stage import Stage

CONTROLLERS = 3
_RATE = Rate(per_s=100.0, burst=30.0)
_TIMES = 3.0
# Whoever has died is missed by the others within this time.
_MISSED_S = 20.0
_OFF_PCT = 5.0


def shared_rate(seed: int, requests: int) -> list[Found]:
    """All together grant what one of them would."""
    rules = Rules(rates=Rates(callers={"greedy": _RATE}))
    stage = Stage(seed, fleet(seed, w=(4, Kind(20.0))), rules, controllers=CONTROLLERS)
    before = _play(stage, seed, requests)
    stage.controllers[0].up = False
    _play(stage, seed + 1, int(_MISSED_S * _TIMES * _RATE.per_s))
    after = _play(stage, seed + 2, requests)
    return [
        Found("granted by three, off by", _off_pct(before, _RATE.burst), _OFF_PCT, unit="%"),
        Found("granted by two, off by", _off_pct(after, 0.0), _OFF_PCT, unit="%"),
    ]


def _play(stage: Stage, seed: int, requests: int) -> list[Asked]:
    arrivals = list(poisson(seed, _TIMES * _RATE.per_s, requests, begin_s=stage.elapsed_s))
    for each in arrivals:
        each.caller = "greedy"
    return list(stage.play(arrivals))


def _off_pct(got: list[Asked], burst: float) -> float:
    """How far from its rate what it was granted is."""
    granted = sum(each.outcome == "answered" for each in got) - burst
    return 100 * abs(granted / (got[-1].at - got[0].at) / _RATE.per_s - 1.0)

"""Scenarios of workers that fail: one of them half of the time, all but one always, and all of them now and then."""

from __future__ import annotations

from collections.abc import Sequence

from simulation.scenarios.arrivals import Asked, poisson
from simulation.scenarios.fleet import Kind, fleet
from simulation.scenarios.found import Found
from simulation.scenarios.rules import asked, enforced
from simulation.scenarios.stage import Stage

WORKER = Kind(20.0)
TARGET_MS = 100.0
DEMOTED_GOAL, ERRORS_GOAL_PCT, NEXT = 100, 2.0, 1000
_PER_S = 400.0
_LOOK_S = 0.001
_TIMES, _BEFORE = 10, 200
# Longer than any of this is held against anybody: who was shut out again and again waits five minutes.
_MENDED_S, _BACK_S, _QUIET_PER_S = 90.0, 700.0, 10.0


def one_fails(seed: int, requests: int) -> list[Found]:
    """One of five begins to fail half of its requests, which may be tried elsewhere; later it is mended.

    When it is found out is chance as well: it may get few requests, and do well in those. So it is tried a few times.
    """
    times = sorted(_found_out(100 * seed + number) for number in range(_TIMES))
    stage = Stage(seed, fleet(seed, w=(5, WORKER)), asked(TARGET_MS))
    stage.play(poisson(seed, _PER_S, requests))
    worker = stage.workers["w-3"]
    worker.fails = 0.5
    got = stage.play(poisson(seed + 1, _PER_S, 2 * NEXT, begin_s=stage.elapsed_s))
    told, following = got[:DEMOTED_GOAL], got[DEMOTED_GOAL : DEMOTED_GOAL + NEXT]
    worker.fails, mended_s = 0.0, stage.elapsed_s
    stage.play(poisson(seed + 2, _PER_S / 10, int(_MENDED_S * _PER_S / 10), begin_s=mended_s))
    back = stage.play(poisson(seed + 3, _PER_S, NEXT, begin_s=stage.elapsed_s))
    return [
        Found("demoted after, in nine of ten", times[-2], DEMOTED_GOAL, unit="requests"),
        Found("demoted after, at most", times[-1], unit="requests"),
        Found(f"callers saw fail in the first {DEMOTED_GOAL}", _failed_pct(told), ERRORS_GOAL_PCT, unit="%"),
        Found(f"callers saw fail in the next {NEXT}", _failed_pct(following), ERRORS_GOAL_PCT, unit="%"),
        Found("its share when mended", 100 * _share_of(back, "w-3"), 10.0, at_most=False, unit="%"),
    ]


def _found_out(seed: int) -> int:
    """After how many requests of the fleet a worker that begins to fail half of its own is demoted."""
    stage = Stage(seed, fleet(seed, w=(5, WORKER)), asked(TARGET_MS))
    stage.play(poisson(seed, _PER_S, _BEFORE))
    offer, begun = stage.controller.offer("w-3"), len(stage.asked)
    stage.workers["w-3"].fails = 0.5
    demoted: list[int] = []

    def look() -> None:
        if offer.demoted:
            demoted.append(len(stage.asked) - begun)
        else:
            stage.clock.after(_LOOK_S, look)

    look()
    stage.play(poisson(seed + 1, _PER_S, 4 * DEMOTED_GOAL, begin_s=stage.elapsed_s))
    return demoted[0] if demoted else 4 * DEMOTED_GOAL


def all_but_one(seed: int, requests: int) -> list[Found]:
    """Four of five fail always; later they are mended."""
    stage = Stage(seed, fleet(seed, w=(5, WORKER)), asked(TARGET_MS))
    stage.play(poisson(seed, _PER_S / 4, requests // 4))
    bad = [worker for name, worker in stage.workers.items() if name != "w-1"]
    for worker in bad:
        worker.fails = 1.0
    group = stage.controller.world.registry.groups[stage.controller.offer("w-1").capability]
    least = [group.eligible]

    def look() -> None:
        least[0] = min(least[0], group.eligible)
        stage.clock.after(0.05, look)

    look()
    # Half of what the sound one can do; then half as much again as it can, so that the others are not left alone.
    got = stage.play(poisson(seed + 1, _PER_S / 4, requests, begin_s=stage.elapsed_s))
    stage.play(poisson(seed + 4, _PER_S * 3 / 4, requests // 2, begin_s=stage.elapsed_s))
    for worker in bad:
        worker.fails = 0.0
    stage.play(poisson(seed + 2, _QUIET_PER_S, int(_BACK_S * _QUIET_PER_S), begin_s=stage.elapsed_s))
    back = stage.play(poisson(seed + 3, _PER_S, NEXT, begin_s=stage.elapsed_s))
    settled = got[len(got) // 4 :]
    return [
        Found("left in the set, at least", least[0], 3, at_most=False, unit="of 5"),
        Found("were shut out", sum(name == "ejected" for _, name, _ in stage.told), 1, at_most=False, unit="times"),
        Found("callers saw fail", _failed_pct(settled), unit="%"),
        Found("least share when mended", 100 * min(_share_of(back, name) for name in stage.workers), 10.0, False, "%"),
    ]


def all_fail_a_little(seed: int, requests: int) -> list[Found]:
    """All of them fail one request in seven, where the objective is enforced: no reason to refuse the others."""
    stage = Stage(seed, fleet(seed, w=(5, WORKER)), enforced(TARGET_MS))
    for worker in stage.workers.values():
        worker.fails = 1 / 7
    got = stage.play(poisson(seed, _PER_S, requests))
    answered = sum(each.outcome == "answered" for each in got) / len(got)
    return [Found("answered", 100 * answered, 90.0, at_most=False, unit="%")]


def _failed_pct(got: Sequence[Asked]) -> float:
    return 100 * sum(each.outcome != "answered" for each in got) / len(got) if got else 0.0


def _share_of(got: Sequence[Asked], name: str) -> float:
    return sum(name in each.workers for each in got) / len(got)

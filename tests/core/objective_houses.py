"""Houses with an objective in force, and workers of whom it is known how long they take."""

from __future__ import annotations

from typing import Any

from harness import DONE, HELLO, Call, House, spec

from controller.core.events import RulesChanged
from controller.core.fleet import Offer
from controller.core.health import PROVEN
from controller.core.objectives import Objective, Rates, Rules


def rule(house: House, *, rates: Rates | None = None, **asked: Any) -> None:
    """Ask this of ``greet:hello`` from now on; nothing when nothing is named."""
    objectives = {HELLO: Objective(HELLO, **asked)} if asked else {}
    house.feed(RulesChanged(Rules(objectives, rates or Rates())))


def proven(house: House, worker_id: str, latency_ms: float, *, times: int = PROVEN, **fields: Any) -> Offer:
    """A worker that has answered so many times after so long."""
    house.register(worker_id, spec(**{"max_concurrency": 100, **fields}))
    offer = house.offer(worker_id)
    for _ in range(times):
        house.world.health.answered(offer, latency_ms, house.now)
    return offer


def served(house: House, count: int, takes_s: float = 0.0, **headers: Any) -> list[Call]:
    """So many requests one after the other, each answered after so long by whoever got it."""
    calls = []
    for _ in range(count):
        call = house.request(**headers)
        calls.append(call)
        if call.dispatches:
            house.advance(takes_s)
            house.answers(call, DONE)
    return calls


def went_to(calls: list[Call]) -> set[str]:
    """The workers that were asked."""
    return {worker for call in calls for worker in call.workers}

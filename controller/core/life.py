"""Owns a request's life, from arrival to its one terminal reply, as a generator that reads from top to bottom.

It yields what it needs (a ``Step``) and is sent what came of it. It awaits nothing and touches nothing: ``router``
runs it in production, in the simulation and in a replay alike. A caller over its rate is refused first, 429; then
refusals come in the contract's order: policy 403, offered 404, input 400 or 422, key, match 412, availability 503.
"""

from __future__ import annotations

from collections.abc import Callable

from controller.core import accepting, jobs, resolving
from controller.core.dispatching import dispatch
from controller.core.events import Held
from controller.core.front import front, judged, limited
from controller.core.keyed import keyed
from controller.core.model import Action
from controller.core.world import Life, Steps, World


def live(life: Life, world: World) -> Steps:
    """Run one request; returns how it ended. At most one dispatch is out at any time."""
    request = life.request
    over = limited(life, world)
    if over is not None:
        return over
    verdict = world.verdicts.get(request.caller, request.capability, world.now)
    # Nearly always it is known, and then nothing has to be waited for.
    refusal = judged(life, world, verdict) if verdict is not None else (yield from front(life, world))
    if refusal is not None:
        return refusal
    group = world.registry.groups[request.capability]
    key = request.headers.idempotency_key
    if key is None or request.headers.dry_run:
        outcome = yield from dispatch(life, group, world)
        assert not isinstance(outcome, Held), "it has no key"
        return outcome
    return (yield from keyed(life, key, group, world))


LIVES: dict[Action, Callable[[Life, World], Steps]] = {
    "request": live,
    "submit": accepting.submit,
    "job": jobs.deliver,
    "result": jobs.result,
    "cancel": jobs.cancel,
    "retry": accepting.retry,
    "resolve": resolving.resolve,
}

"""Owns what comes before any choice: the policy's verdict, whether it is offered at all, whether the input fits.

Every kind of life that has work done begins with it; ``dispatching`` goes on from there.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import crowd_refusals, refusals
from controller.core.commands import Ask, Step
from controller.core.events import LifeEvent, VerdictReached
from controller.core.model import Verdict
from controller.core.world import Life, World
from subjects.errors import Refusal

ASK = Ask()


def limited(life: Life, world: World) -> Refusal | None:
    """Why its caller has to wait before it asks for more, or None."""
    rates, caller = world.rules.rates, life.request.caller
    short = world.buckets.take(caller, rates, world.controllers, world.now)
    return crowd_refusals.rate_limited(caller, *short) if short is not None else None


def front(life: Life, world: World) -> Generator[Step, LifeEvent | None, Refusal | None]:
    """Why the request goes no further, or None."""
    request = life.request
    verdict = world.verdicts.get(request.caller, request.capability, world.now)
    if verdict is None:
        event = yield ASK
        if not isinstance(event, VerdictReached):
            return refusals.interrupted(event, life, world, "waiting for the policy engine")
        verdict = event.verdict
    return judged(life, world, verdict)


def judged(life: Life, world: World, verdict: Verdict) -> Refusal | None:
    """The same, once the policy has spoken."""
    request = life.request
    life.verdict = verdict
    if not verdict.allow:
        return refusals.denied(request, verdict)
    group = world.registry.groups.get(request.capability)
    if group is None:
        return refusals.never_offered(request, world)
    pool = group.pool(request.headers.version, request.headers.constraints)
    # With nobody who fits the constraints the input is checked all the same: what is wrong with it comes first.
    newest = pool.newest() or group.pool(request.headers.version, None).newest()
    if newest is not None and newest.input_schema is not None and is_json(request.headers.content_type):
        mismatch = world.check(newest.input_schema, request.body)
        if mismatch is not None:
            return refusals.bad_input(request, mismatch)
    return None


def is_json(content_type: str) -> bool:
    """Whether a media type says JSON."""
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")

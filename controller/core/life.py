"""Owns a request's life, from arrival to its one terminal reply, as a generator that reads from top to bottom.

It yields what it needs (a ``Step``) and is sent what came of it. It awaits nothing and touches nothing: ``router``
runs it in production, in the simulation and in a replay alike. Refusals come in the contract's order: policy 403,
offered 404, input 400 or 422, key, match 412, availability 503.
"""

from __future__ import annotations

from collections.abc import Generator

from controller.core import refusals
from controller.core.commands import Ask, Forward, GiveUp, Protect, Send, Step, Wait
from controller.core.events import (
    WOKEN,
    Cancelled,
    ClaimAnswered,
    DeadlinePassed,
    GivenUp,
    LifeEvent,
    VerdictReached,
    WorkerLost,
)
from controller.core.fleet import Offer
from controller.core.pools import Group
from controller.core.selection import choose
from controller.core.world import Life, Outcome, Steps, World, WouldDispatch
from subjects.answers import Fault, Frame, Garbage, NoResponders, NotRun, Result
from subjects.errors import Refusal

ASK, PROTECT, GIVE_UP, WOULD_DISPATCH = Ask(), Protect(), GiveUp(), WouldDispatch()
_NOBODY: frozenset[str] = frozenset()


def live(life: Life, world: World) -> Steps:
    """Run one request; returns how it ended. At most one dispatch is out at any time."""
    request = life.request
    verdict = world.verdicts.get(request.caller, request.capability, world.now)
    if verdict is None:
        event = yield ASK
        if not isinstance(event, VerdictReached):
            return _interrupted(event, life, world, "waiting for the policy engine")
        verdict = event.verdict
    life.verdict = verdict
    if not verdict.allow:
        return refusals.denied(request, verdict)
    group = world.registry.groups.get(request.capability)
    if group is None:
        return refusals.never_offered(request, world)
    pool = group.pool(request.headers.version, request.headers.constraints)
    # With nobody who fits the constraints the input is checked all the same: what is wrong with it comes first.
    newest = pool.newest() or group.pool(request.headers.version, None).newest()
    if newest is not None and newest.input_schema is not None and _is_json(request.headers.content_type):
        mismatch = world.check(newest.input_schema, request.body)
        if mismatch is not None:
            return refusals.bad_input(request, mismatch)
    return (yield from _dispatch(life, group, world))


def _dispatch(life: Life, group: Group, world: World) -> Steps:
    headers = life.request.headers
    protected = headers.idempotency_key is None
    last: Refusal | None = None
    while True:
        pool = group.pool(headers.version, headers.constraints, headers.budget_tokens)
        # Nobody is overtaken: a worker that is free now is one that nobody who waits can use; ``router`` sees to that.
        offer = choose(pool, life.tried or _NOBODY, world.now, world.chance)
        if offer is None:
            refusal = refusals.nobody(life, group, pool, world)
            if refusal is not None:
                return last or refusal
            event = yield Wait(pool)
            if event is not WOKEN:
                return _interrupted(event, life, world, "waiting for a free worker")
            continue
        life.chosen = offer
        if headers.dry_run:
            return WOULD_DISPATCH
        if not protected:
            event = yield PROTECT
            if not isinstance(event, ClaimAnswered):
                return _interrupted(event, life, world, "claiming the key")
            if event.lost is not None:
                return refusals.unprotected(event.lost)
            protected = True
            continue  # time has passed: choose among those who are free now
        left_ms = int((life.deadline - world.now) * 1000)
        if left_ms < 1:
            return refusals.deadline(life, "before a worker was found", world.now)
        event = yield Send(offer, len(life.flights) + 1, left_ms)
        outcome = yield from _follow(life, offer, event, world)
        if not isinstance(outcome, Again):
            return outcome
        last = outcome.last or last


class Again:
    """A dispatch ended without an outcome: another worker is tried. ``last`` is the error if none succeeds."""

    def __init__(self, last: Refusal | None = None) -> None:
        self.last = last


def _follow(
    life: Life, offer: Offer, event: LifeEvent | None, world: World
) -> Generator[Step, LifeEvent | None, Outcome | Again]:
    """What comes back from one dispatch."""
    frames = 0
    while isinstance(event, Frame):
        broken = _broken_frame(offer, event, frames, world)
        if broken is not None:
            life.executed += 1
            if event.kind != "end":
                yield GIVE_UP
            return refusals.protocol(offer, broken)
        frames += 1
        if event.kind == "end":
            if event.fault is None:
                life.executed += 1
                return _checked(event, offer, world) if event.body else event
            event = event.fault
            break
        event = yield Forward(event)
    match event:
        case Result() if not frames:
            life.executed += 1
            return _checked(event, offer, world)
        case Result() | NotRun() | NoResponders() if frames:
            life.executed += 1
            return refusals.protocol(offer, "after frames it sent something else than a frame")
        case NotRun(reason):
            if reason == "deadline":
                life.try_not_again(offer)
            return Again()
        case NoResponders():
            return Again()
        case Fault():
            life.executed += 1
            return _again_or(refusals.worker_error(offer, event), life, offer, world, retryable=event.retryable)
        case Garbage(detail):
            life.executed += 1
            return refusals.protocol(offer, detail)
        case WorkerLost(reason):
            life.executed += 1
            return _again_or(refusals.worker_lost(offer, reason), life, offer, world, retryable=True)
        case DeadlinePassed() if world.now < life.deadline:
            life.executed += 1
            yield GIVE_UP
            return _again_or(refusals.hung(offer), life, offer, world, retryable=True)
        case _:
            life.executed += 1
            yield GIVE_UP
            return _interrupted(event, life, world, f"at worker {offer.worker.id}")


def _again_or(refusal: Refusal, life: Life, offer: Offer, world: World, *, retryable: bool) -> Refusal | Again:
    """Another worker after work that may have run: only where running twice is safe, and the budget allows it."""
    allowed = retryable and offer.spec.idempotent and not life.frames and life.executed < world.limits.max_attempts
    if not allowed or not world.retries.take(world.now):
        return refusal
    life.try_not_again(offer)
    return Again(refusal)


def _checked(result: Result | Frame, offer: Offer, world: World) -> Outcome:
    too_large = _too_large(result, offer, world)
    if too_large is not None:
        return refusals.protocol(offer, too_large)
    if offer.output_schema is not None and _is_json(result.content_type or "application/json"):
        mismatch = world.check(offer.output_schema, result.body)
        if mismatch is not None:
            return refusals.protocol(offer, f"its answer does not fit its output schema: {mismatch.message}")
    return result


def _broken_frame(offer: Offer, frame: Frame, expected: int, world: World) -> str | None:
    if not offer.spec.streaming:
        return "it sends frames, and did not declare streaming"
    if frame.seq != expected:
        return f"frame {frame.seq} came where {expected} was due"
    return _too_large(frame, offer, world)


def _too_large(answer: Result | Frame, offer: Offer, world: World) -> str | None:
    size = len(answer.body)
    if offer.max_output_bytes is not None and size > offer.max_output_bytes:
        return f"its answer of {size} bytes is over its own max_output_bytes of {offer.max_output_bytes}"
    if size + len(answer.passed) > world.max_answer_bytes:
        return f"its answer of {size} bytes is more than one message carries, which is {world.max_answer_bytes}"
    return None


def _interrupted(event: LifeEvent | None, life: Life, world: World, where: str) -> Refusal:
    if isinstance(event, Cancelled):
        return refusals.cancelled(life)
    if isinstance(event, GivenUp):
        return refusals.closing(life)
    assert isinstance(event, DeadlinePassed), event
    return refusals.deadline(life, where, world.now)


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == "application/json" or media.endswith("+json")

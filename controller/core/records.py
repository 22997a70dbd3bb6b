"""Owns what is told about a request when it ends: the reply's particulars, the decision record, a dry run's answer."""

from __future__ import annotations

from controller.core.admission import due_at, objective_of
from controller.core.commands import Answer, Refuse
from controller.core.model import Aim, Attempt, DecisionRecord, Status, Timings
from controller.core.selection import Candidate, explain
from controller.core.world import Kept, Life, Outcome, Silent, Told, World, WouldDispatch
from subjects.answers import Frame
from subjects.errors import Refusal
from subjects.messages import encode
from subjects.replies import ReplyMeta
from subjects.trace import traceparent

_SERVER_FAULTS = frozenset({"worker_error", "worker_protocol", "worker_lost", "deadline", "cancelled"})


def meta_of(life: Life, world: World, *, cost: bool) -> ReplyMeta:
    """Who did the work, for the reply's headers. ``cost``: whether the work is paid for."""
    offer = life.chosen if life.flights else None
    return ReplyMeta(
        life.request.request_id,
        world.controller_id,
        _parent(life),
        offer.worker.id if offer is not None else None,
        offer.spec.version if offer is not None else None,
        len(life.flights),
        life.price if cost and offer is not None else 0.0,
    )


def _parent(life: Life) -> str:
    trace = life.request.headers.trace
    return traceparent(life.trace_id, life.span_id, trace is not None and trace.sampled)


def record_of(life: Life, outcome: Outcome, world: World, candidates: tuple[Candidate, ...] = ()) -> DecisionRecord:
    """The decision record of a life that has ended now."""
    request, start, now = life.request, life.arrived_at, world.now
    chosen = life.chosen
    status, name, detail = _ending(outcome)
    worker_ms = 0.0
    attempts = []
    for flight in life.flights:
        sent_ms, ended_ms = (flight.sent_at - start) * 1000, (flight.ended_at - start) * 1000
        worker_ms += ended_ms - sent_ms
        attempts.append(Attempt(flight.offer.worker.id, flight.dispatch_id, sent_ms, ended_ms, flight.end))
    return DecisionRecord(
        request.request_id,
        request.capability,
        request.caller,
        world.controller_id,
        status,
        name,
        chosen.worker.id if chosen is not None else None,
        chosen.spec.version if chosen is not None else None,
        life.verdict,
        tuple(attempts),
        Timings((now - start) * 1000, life.queued_s * 1000, worker_ms),
        detail,
        _aim(life, world),
        candidates,
    )


def _aim(life: Life, world: World) -> Aim | None:
    group = world.registry.groups.get(life.request.capability)
    objective_ms = objective_of(life, group) if group is not None else None
    if objective_ms is None and not life.price:
        return None
    return Aim(objective_ms, round(life.expected_ms, 3), life.price, life.would)


def _ending(outcome: Outcome) -> tuple[Status, str, str | None]:
    match outcome:
        case Refusal(kind, detail):
            return ("error" if kind.suffix in _SERVER_FAULTS else "rejected"), kind.suffix, detail
        case Kept(answer, status):
            error = answer.error
            return (
                "success" if error is None else "error",
                status or "replayed",
                error.text if error is not None else None,
            )
        case Told(body):
            return "success", str(body.get("status", "told")), None
        case Silent(why):
            return "rejected", "not_run", why
        case _:
            return "success", "would_dispatch" if isinstance(outcome, WouldDispatch) else "answered", None


def reply_of(life: Life, outcome: Outcome, world: World) -> Answer | Refuse:
    """The one terminal reply of a life that has ended; a stream that began ends with an ``end`` frame."""
    request = life.request
    if request.headers.dry_run or isinstance(outcome, WouldDispatch):
        return _dry_run_answer(life, outcome, world)
    if isinstance(outcome, Refusal):
        meta = meta_of(life, world, cost=outcome.worker_code is not None)
        return Refuse(request.reply, meta, outcome, "end" if life.frames else "", life.frames)
    if isinstance(outcome, Kept):
        return _kept_answer(life, outcome, world)
    if isinstance(outcome, Told):
        meta = ReplyMeta(request.request_id, world.controller_id, _parent(life), job_status=outcome.job_status)
        return Answer(request.reply, meta, "application/json", "", encode(outcome.body))
    assert not isinstance(outcome, Silent), "nobody is told"
    frame, seq = ("end", life.frames) if isinstance(outcome, Frame) else ("", 0)
    meta = meta_of(life, world, cost=True)
    return Answer(request.reply, meta, outcome.content_type, outcome.passed, outcome.body, frame, seq)


def frame_of(life: Life, frame: Frame, world: World) -> Answer:
    """A frame on its way to the caller, before the last one."""
    meta = meta_of(life, world, cost=False)
    return Answer(life.request.reply, meta, frame.content_type, frame.passed, frame.body, frame.kind, life.frames)


def _kept_answer(life: Life, outcome: Kept, world: World) -> Answer:
    """What was answered before, byte for byte, at no cost; whoever had a stream begun gets it as the stream's end."""
    kept = outcome.answer
    meta = ReplyMeta(
        life.request.request_id,
        world.controller_id,
        _parent(life),
        kept.worker or None,
        kept.version,
        kept.attempts,
        replayed=True,
        job_status=outcome.job_status,
    )
    frame, seq = ("end", life.frames) if life.frames else ("", 0)
    reply = life.request.reply
    return Answer(reply, meta, kept.content_type, kept.passed, kept.body, frame, seq, kept.error)


def _dry_run_answer(life: Life, outcome: Outcome, world: World) -> Answer:
    """The decision record with every candidate, as the answer to a request that ran nothing."""
    request = life.request
    candidates: tuple[Candidate, ...] = ()
    group = world.registry.groups.get(request.capability)
    if group is not None and life.verdict is not None and life.verdict.allow:
        headers = request.headers
        pool = group.pool(headers.version, headers.constraints, headers.budget_tokens)
        within_ms = (due_at(life, group) - world.now) * 1000
        candidates = explain(group, pool, life.tried or (), world.now, within_ms)
    record = record_of(life, outcome, world, candidates)
    meta = meta_of(life, world, cost=False)
    return Answer(request.reply, meta, "application/json", "", encode(record))

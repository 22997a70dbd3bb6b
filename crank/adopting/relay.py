"""Owns one dispatch on its way to an endpoint and the answer on its way back, as NATS's services protocol has both.

``crank.adopting.adoption`` makes a handler per endpoint with it; the SDK runs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bus import Bus, BusUnavailable, NoResponder, Unanswered
from subjects import headers as h
from subjects.answers import NO_RESPONDERS, Fault, Garbage, NotRun, Result, parse_answer
from subjects.headers import Block, build_block, parse_block
from subjects.trace import traceparent
from workers import Context

Handler = Callable[[bytes, Context], Awaitable[Any]]

_NOT_SENT = NotRun("busy")
# The controller says when the time is over, and the SDK ends the handler a moment later; this ends it in any case.
_BEYOND_S = 1.0
_MAX_CODE_CHARS = 32


def relay(bus: Bus, subject: str) -> Handler:
    """A handler that asks the endpoint on ``subject``."""

    async def ask(body: bytes, ctx: Context) -> Any:
        try:
            answer = await bus.request(subject, body, _headers(ctx), ctx.time_left_s() + _BEYOND_S)
        except NoResponder:
            return NO_RESPONDERS
        except BusUnavailable:
            return _NOT_SENT
        except Unanswered:
            return Fault(504, "The service did not answer in time; the work may have run")
        return read(answer.headers, answer.body)

    return ask


def _headers(ctx: Context) -> bytes:
    pairs = [(h.CONTENT_TYPE, ctx.content_type)]
    if ctx.trace is not None:
        pairs.append((h.TRACEPARENT, traceparent(ctx.trace.trace_id, ctx.trace.span_id, ctx.trace.sampled)))
        if ctx.tracestate is not None:
            pairs.append((h.TRACESTATE, ctx.tracestate))
    if ctx.idempotency_key is not None:
        pairs.append((h.IDEMPOTENCY_KEY, ctx.idempotency_key))
    # For the service's own log, and for one that wants to know how long its work is wanted.
    pairs += [(h.REQUEST_ID, ctx.request_id), (h.TIMEOUT_MS, str(int(ctx.time_left_s() * 1000)))]
    return build_block(pairs, ctx.header_lines)


def read(raw: bytes | None, body: bytes) -> Result | Fault:
    """An endpoint's answer, in the contract's words.

    The protocol lets an error's code be any number, and some services send other text; ours are 100 to 599.
    """
    answer = parse_answer(raw, body)
    if isinstance(answer, Result | Fault):
        return answer
    block = parse_block(raw)
    if isinstance(block, Block):
        code, text = block.ours.get("nats-service-error-code", ""), block.ours.get("nats-service-error", "")
        if code or text:
            return Fault(500, ": ".join(filter(None, (code[:_MAX_CODE_CHARS], text))))
    why = answer.detail if isinstance(answer, Garbage) else "it is not a service's but a worker's"
    return Fault(502, f"The service's answer cannot be passed on: {why}")

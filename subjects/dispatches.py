"""Owns the headers of a dispatch, controller to worker: written once per attempt, read once by the worker."""

from __future__ import annotations

import msgspec

from subjects import headers as h
from subjects.errors import Refusal, malformed
from subjects.headers import Block
from subjects.tokens import DispatchId, RequestId, is_token
from subjects.trace import TraceContext, parse_traceparent


class DispatchHeaders(msgspec.Struct, frozen=True, gc=False):
    """What a worker is told beside the payload. ``timeout_ms`` is what is left, counted from arrival."""

    request_id: RequestId
    dispatch_id: DispatchId
    attempt: int
    timeout_ms: int
    version: str
    caller: str
    priority: str = "normal"
    content_type: str = h.DEFAULT_CONTENT_TYPE
    idempotency_key: str | None = None
    trace: TraceContext | None = None
    tracestate: str | None = None


def build_dispatch(  # flat arguments, one f-string: this runs once for every dispatch
    *,
    traceparent: str,
    request_id: str,
    dispatch_id: str,
    attempt: int,
    timeout_ms: int,
    version: str,
    caller: str,
    priority: str,
    content_type: str,
    idempotency_key: str | None,
    tracestate: str | None,
    passed: str,
) -> bytes:
    """The header block's bytes. Every value was parsed before and holds no control characters."""
    more = f"Idempotency-Key: {idempotency_key}\r\n" if idempotency_key else ""
    if tracestate:
        more += f"tracestate: {tracestate}\r\n"
    return (
        f"NATS/1.0\r\ntraceparent: {traceparent}\r\nCrank-Request-Id: {request_id}\r\n"
        f"Crank-Dispatch-Id: {dispatch_id}\r\nCrank-Attempt: {attempt}\r\nCrank-Timeout-Ms: {timeout_ms}\r\n"
        f"Crank-Version: {version}\r\nCrank-Caller: {caller}\r\nCrank-Priority: {priority}\r\n"
        f"Content-Type: {content_type}\r\n{more}{passed}\r\n"
    ).encode()


def parse_dispatch(block: Block) -> DispatchHeaders | Refusal:
    """A worker's reading of a dispatch, or a 400: something other than a controller wrote to its subject."""
    ours = block.ours
    request_id, dispatch_id = ours.get("crank-request-id", ""), ours.get("crank-dispatch-id", "")
    attempt, timeout = ours.get("crank-attempt", ""), ours.get("crank-timeout-ms", "")
    if not (is_token(request_id) and is_token(dispatch_id) and _small(attempt) and _small(timeout)):
        return malformed(
            "This is not a dispatch: send requests to the request subject, and the router brings them here."
        )
    return DispatchHeaders(
        request_id=RequestId(request_id),
        dispatch_id=DispatchId(dispatch_id),
        attempt=int(attempt),
        timeout_ms=int(timeout),
        version=ours.get("crank-version", ""),
        caller=ours.get("crank-caller", ""),
        priority=ours.get("crank-priority", "normal"),
        content_type=ours.get("content-type", h.DEFAULT_CONTENT_TYPE),
        idempotency_key=ours.get("idempotency-key"),
        trace=parse_traceparent(ours.get("traceparent", "")),
        tracestate=ours.get("tracestate"),
    )


def _small(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9

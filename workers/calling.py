"""Owns what a dispatch gives to the requests that its handler makes: the trace, the priority, what is left of the time.

And the one client, over the worker's own connection, that all handlers share. ``workers.context`` calls it. It refuses
to know what a request is beyond that: asking is ``callers.client``'s.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from callers.asking import Options
from callers.failures import CrankError
from subjects import headers as h
from subjects.dispatches import DispatchHeaders
from subjects.errors import ErrorKind, Refusal, problem_of
from subjects.trace import traceparent

if TYPE_CHECKING:
    from bus import Bus
    from callers.client import Client

# What was called answers, or says why it cannot, this much before the handler's own time is over, so that the handler
# can still tell it.
_MARGIN_S = 0.02
_MOST_MARGIN = 0.1
# Codes after which trying again may help: too much at once, nobody there, out of time.
_TRANSIENT = (429, 503, 504)


class Calls:
    """One worker's client, made when the first handler calls."""

    def __init__(self, bus: Bus, prefix: str) -> None:
        self._bus = bus
        self._prefix = prefix
        self._made: asyncio.Task[Client] | None = None

    async def client(self) -> Client:
        """The client."""
        from callers.client import Client  # NATS is imported by those who serve, not by those who look at a worker

        if self._made is None or (self._made.done() and (self._made.cancelled() or self._made.exception())):
            self._made = asyncio.create_task(Client.on(self._bus, self._prefix))
        # The first handler may be cancelled while others wait for the same.
        return await asyncio.shield(self._made)


def bounded(capability: str, dispatch: DispatchHeaders, left_s: float, given: Options) -> Options:
    """What is said of a call: ``given``, within what is left, in the dispatch's trace and with its priority.

    Raises:
        CrankError: 504, there is no time left.
        ValueError: ``given`` has a time-out among its headers, where it would go past the deadline.

    """
    names = {name.lower(): value for name, value in (given.get("headers") or {}).items()}
    if h.TIMEOUT_MS.lower() in names:
        raise ValueError("the time-out of a call is said with timeout_ms=…, so that it ends with the dispatch")
    room_ms = int((left_s - min(_MARGIN_S, left_s * _MOST_MARGIN)) * 1000)
    if room_ms < 1:
        raise call_failed(ErrorKind.DEADLINE, "No time was left to call it.", capability)
    headers = dict(given.get("headers") or {})
    if (trace := dispatch.trace) is not None and h.TRACEPARENT not in names:
        headers[h.TRACEPARENT] = traceparent(trace.trace_id, trace.span_id, trace.sampled)
        if dispatch.tracestate is not None and h.TRACESTATE not in names:
            headers[h.TRACESTATE] = dispatch.tracestate
    options: Options = {"priority": dispatch.priority, **given, "headers": headers}  # type: ignore[typeddict-item]
    wanted_ms = given.get("timeout_ms")
    options["timeout_ms"] = room_ms if wanted_ms is None else min(wanted_ms, room_ms)
    return options


def call_failed(kind: ErrorKind, detail: str, capability: str) -> CrankError:
    """The error of a call that nobody answered: it never left, or nobody waits for it."""
    error = CrankError(problem_of(Refusal(kind, detail), None))
    error.capability = capability
    return error


def told_of(error: CrankError) -> tuple[int, str, bool]:
    """``(code, message, whether trying again may help)`` of a failed call that its handler let through."""
    problem, said = error.problem, error.problem.worker_code
    code = said or problem.status
    transient = code in _TRANSIENT or problem.retry_after_ms is not None
    what = f"Calling {error.capability} failed" if error.capability else "A request of the handler failed"
    if said is not None:  # without the words around it, which would pile up along a chain of calls
        why = problem.worker_message or problem.title
    else:
        why = " ".join(filter(None, (str(code), error.kind))) + f": {problem.detail or problem.title}"
    # Of 4xx codes only a worker's own is the caller's fault: the others are about what this handler asked for.
    if code not in _TRANSIENT and (said is None or not 400 <= said < 500):
        code = 503 if transient else 500
    return code, f"{what}: {why}", transient

"""Owns one dispatch from its start to its one terminal answer, and to the return of its handler.

    running ── answer ──────────────────────────► answered ── handler returns ──► over
       └────── cancel, time out, shutdown: the fault goes out at once, ─┘
               then the handler is interrupted; its place is free when it returns

``workers.dispatching`` starts runs and stops them. Nothing of an unforeseen error reaches the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from callers.codecs import Encode, encode_any
from callers.failures import CrankError
from subjects.answers import Fault, Frame, FrameKind, NoResponders, NotRun, Result
from subjects.dispatches import DispatchHeaders
from workers.calling import Calls, told_of
from workers.context import Context
from workers.declarations import Offer
from workers.errors import DeclarationError, Failure, PermanentError
from workers.outbox import Outbox, lost
from workers.response import Response

log = logging.getLogger("crank.worker")

# A stream waits for the server after this much: enough to fill the pipe, little enough to hold for each stream.
_PACE_BYTES = 256 * 1024
# What a frame weighs beside its body.
_FRAME_BYTES = 128
# *Not run*, after frames that say otherwise.
_BEGUN = Fault(503, "The worker could not go on", retryable=True)

Terminal = Result | Fault | NotRun | NoResponders


class Run:
    """One dispatch. ``task`` and ``timer`` are set by who started it."""

    __slots__ = (
        "_outbox",
        "_unpaced",
        "answered",
        "context",
        "deadline",
        "headers",
        "offer",
        "reply",
        "seq",
        "task",
        "timer",
    )

    def __init__(
        self,
        offer: Offer,
        headers: DispatchHeaders,
        passed: str,
        reply: str,
        timeout_s: float,
        outbox: Outbox,
        calls: Calls,
    ) -> None:
        self.offer = offer
        self.headers = headers
        self.reply = reply
        self.deadline = time.monotonic() + timeout_s
        self.context = (
            Context(headers, self.deadline, self.progress, passed, calls) if offer.handler.wants_context else None
        )
        self.answered = False
        self.seq = 0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._outbox = outbox
        self._unpaced = 0

    async def work(self, body: bytes) -> None:
        """Run an async handler and answer."""
        try:
            if self.offer.handler.kind == "generator":
                await self._stream(body)
            else:
                self.answer(self.result(await self.offer.handler.call(body, self.context)))
        except asyncio.CancelledError as error:
            if not self.answered:  # the handler's own: something that it waited for was cancelled
                self.answer(self.fault(error))
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever one handler raises, the others go on
            self.answer(self.fault(error))

    def work_plain(self, body: bytes) -> Terminal:
        """Run a plain handler, in a thread; the answer is sent by who called."""
        try:
            return self.result(self.offer.handler.call(body, self.context))
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
            return self.fault(error)

    async def _stream(self, body: bytes) -> None:
        encode = self.offer.handler.encode
        async with contextlib.aclosing(self.offer.handler.call(body, self.context)) as values:
            async for value in values:
                await self._frame("chunk", value, encode)
        self.answer(Result(b""))

    async def progress(self, value: Any) -> None:
        """Send a progress frame; ``Context.progress`` is this."""
        if not self.offer.capability.streaming:
            raise DeclarationError(f"{self.offer.label} must be declared with streaming=True to tell its progress")
        await self._frame("progress", value, encode_any)

    async def _frame(self, kind: FrameKind, value: Any, encode: Encode) -> None:
        if self.answered:
            # Whatever the handler waited for swallowed its cancellation (asyncio.wait_for can, before Python 3.12);
            # one that only yields would never wait again, and nothing else in the process would run.
            raise asyncio.CancelledError
        body, passed, content_type = self._written(value, encode, "frame", own=kind == "chunk")
        if not self._outbox.frame(self.reply, Frame(kind, self.seq, body, passed, content_type)):
            raise lost()
        self.seq += 1
        self._unpaced += len(body) + _FRAME_BYTES
        if self._unpaced > _PACE_BYTES:
            self._unpaced = 0
            await self._outbox.pace()
        else:
            await asyncio.sleep(0)  # so that the frame leaves, and a cancel arrives, though the handler never waits

    def result(self, value: Any) -> Terminal:
        """``value`` as an answer. One in the contract's own words, which a handler that relays returns, stays as it is.

        Raises:
            PermanentError: it is larger than may leave.

        """
        if isinstance(value, Fault | NotRun | NoResponders):
            return value
        if isinstance(value, Result):
            self._check_size(len(value.body), len(value.passed), "answer")
            return value
        body, passed, content_type = self._written(value, self.offer.handler.encode, "answer", own=True)
        return Result(body, passed, content_type)

    def _written(self, value: Any, encode: Encode, what: str, *, own: bool) -> tuple[bytes, str, str | None]:
        """``value`` as body, header lines and media type; ``own``: of the type that the capability declares."""
        label, passed = self.offer.content_type if own else None, ""
        if isinstance(value, Response):
            label, passed, value = value.content_type or label, value.lines(), value.value
        body, content_type = encode(value)
        self._check_size(len(body), len(passed), what)
        return body, passed, label or content_type

    def _check_size(self, size: int, head: int, what: str) -> None:
        limit = self._outbox.max_body_bytes - head
        declared = (self.offer.capability.constraints or {}).get("max_output_bytes")
        if isinstance(declared, int) and declared > 0:
            limit = min(limit, declared)
        if size > limit:
            log.error("%s: %s of %d bytes is over the limit of %d", self.offer.label, what, size, limit)
            raise PermanentError(
                f"The worker's {what} is {size} bytes, and at most {limit} can be sent; ask for less at once",
                code=500,
            )

    def fault(self, error: BaseException) -> Fault:
        """``error`` as the caller may see it; one that the handler did not foresee goes to the log."""
        if isinstance(error, Failure):
            wait = error.retry_after_s
            return Fault(error.code, error.message, error.retryable, None if wait is None else round(wait * 1000))
        request_id = self.headers.request_id
        if isinstance(error, CrankError):
            code, message, retryable = told_of(error)
            if not self.answered:
                log.warning("%s failed, request id %s: %s", self.offer.label, request_id, message)
            return Fault(code, message, retryable, error.problem.retry_after_ms)
        log.error("%s failed, request id %s", self.offer.label, request_id, exc_info=error)
        return Fault(500, f"The worker failed; its log has the details under request id {request_id}")

    def answer(self, answer: Terminal) -> None:
        """Send the terminal answer, once; later ones are dropped."""
        if self.answered:
            return
        self.answered = True
        if self.timer is not None:
            self.timer.cancel()
        # A fault before the first frame is a whole answer, so that another worker can still be tried.
        as_end = self.seq > 0 or (self.offer.handler.kind == "generator" and isinstance(answer, Result))
        self._outbox.answer(self.reply, self._end(answer) if as_end else answer, self.deadline)

    def _end(self, answer: Terminal) -> Frame:
        if isinstance(answer, Result):
            return Frame("end", self.seq, answer.body, answer.passed, answer.content_type)
        return Frame("end", self.seq, fault=answer if isinstance(answer, Fault) else _BEGUN)

    def stop(self, fault: Fault) -> None:
        """Answer with ``fault`` and interrupt the handler; a plain one sees ``Context.cancelled``."""
        self.answer(fault)
        if self.context is not None:
            self.context.stop()
        if self.task is not None:
            self.task.cancel()

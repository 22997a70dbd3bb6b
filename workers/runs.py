"""Owns one dispatch from its start to its one terminal answer, and to the return of its handler.

    running ── answer ──────────────────────────► answered ── handler returns ──► over
       └────── cancel, time out, shutdown: the fault goes out at once, ─┘
               then the handler is interrupted; its place is free when it returns

``workers.dispatching`` starts runs and stops them. Nothing of an unforeseen error reaches the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from callers.codecs import Encode, encode_any
from subjects.answers import Fault, Frame, FrameKind, Result
from subjects.dispatches import DispatchHeaders
from workers.calling import Calls
from workers.context import Context
from workers.declarations import Offer
from workers.errors import DeclarationError
from workers.injection import Injection
from workers.outbox import Outbox, lost
from workers.threads import Bridge
from workers.writing import Terminal, fault_of, result_of, written

# A stream waits for the server after this much: enough to fill the pipe, little enough to hold for each stream.
_PACE_BYTES = 256 * 1024
# What a frame weighs beside its body.
_FRAME_BYTES = 128
# *Not run*, after frames that say otherwise.
_BEGUN = Fault(503, "The worker could not go on", retryable=True)


class Equipment(NamedTuple):
    """What all runs of one capability work with."""

    offer: Offer
    injection: Injection | None
    outbox: Outbox
    calls: Calls
    loop: asyncio.AbstractEventLoop


class Run:
    """One dispatch. ``task`` and ``timer`` are set by who started it."""

    __slots__ = (
        "_bridge",
        "_injection",
        "_outbox",
        "_unpaced",
        "_until",
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
        self, equipment: Equipment, headers: DispatchHeaders, passed: str, reply: str, timeout_s: float, stop_s: float
    ) -> None:
        self.offer, self._injection, self._outbox, calls, loop = equipment
        self.headers = headers
        self.reply = reply
        self.deadline = time.monotonic() + timeout_s
        self._until = time.monotonic() + stop_s
        self._bridge: Bridge | None = None
        self.context: Context | None = None
        if self._injection is not None or self.offer.handler.wants_context:
            if self.offer.handler.kind == "plain":
                self._bridge = Bridge(loop)
            self.context = Context(headers, self.deadline, self.progress, passed, calls, self._bridge)
        self.answered = False
        self.seq = 0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._unpaced = 0

    async def work(self, body: bytes) -> None:
        """Run an async handler and answer."""
        handler = self.offer.handler
        try:
            if self._injection is not None:
                self.answer(await self._injected(body))
            elif handler.kind == "generator":
                self.answer(await self._streamed(handler.call(body, self.context)))
            else:
                self.answer(self.result(await handler.call(body, self.context)))
        except asyncio.CancelledError as error:
            if not self.answered:  # the handler's own: something that it waited for was cancelled
                self.answer(self.fault(error))
            raise
        except (KeyboardInterrupt, GeneratorExit):  # the process ends, or its loop is gone
            raise
        except BaseException as error:  # noqa: BLE001  # whatever one handler raises, the others go on
            self.answer(self.fault(error))

    async def _injected(self, body: bytes) -> Terminal:
        """What a handler with dependencies answers, once they are closed: what they do then may fail too."""
        assert self._injection is not None
        handler = self.offer.handler
        answer: Terminal | None = None
        payload = handler.read(body)
        async with self._injection.opened(self.context) as given:
            called = handler.call_with(payload, self.context, given)
            answer = await self._streamed(called) if handler.kind == "generator" else self.result(await called)
        return _let_out(answer)

    async def _streamed(self, values: AsyncGenerator[Any, None]) -> Result:
        encode = self.offer.handler.encode
        async with contextlib.aclosing(values):
            async for value in values:
                await self._frame("chunk", value, encode)
        return Result(b"")

    def work_plain(self, body: bytes) -> Terminal:
        """Run a plain handler, in a thread; the answer is sent by who called."""
        try:
            if self._injection is not None:
                return self._injected_in_thread(body)
            return self.result(self.offer.handler.call(body, self.context))
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell
            return self.fault(error)

    def _injected_in_thread(self, body: bytes) -> Terminal:
        assert self._injection is not None
        assert self._bridge is not None
        handler = self.offer.handler
        answer: Terminal | None = None
        payload = handler.read(body)
        with self._injection.opened_in_thread(self.context, self._bridge) as given:
            answer = self.result(handler.call_with(payload, self.context, given))
        return _let_out(answer)

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
        body, passed, content_type = written(self.offer, value, encode, "frame", self._outbox.max_body_bytes)
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
        """What a handler returned, as an answer."""
        return result_of(self.offer, value, self._outbox.max_body_bytes)

    def fault(self, error: BaseException) -> Fault:
        """What a handler raised, as an answer."""
        return fault_of(self.offer, error, self.headers.request_id, told=self.answered)

    def answer(self, answer: Terminal) -> None:
        """Send the terminal answer, once; later ones are dropped."""
        if self.answered:
            return
        self.answered = True
        if self.timer is not None:
            self.timer.cancel()
        # A fault before the first frame is a whole answer, so that another worker can still be tried.
        as_end = self.seq > 0 or (self.offer.handler.kind == "generator" and isinstance(answer, Result))
        self._outbox.answer(self.reply, self._end(answer) if as_end else answer, self._until)

    def _end(self, answer: Terminal) -> Frame:
        if isinstance(answer, Result):
            return Frame("end", self.seq, answer.body, answer.passed, answer.content_type)
        return Frame("end", self.seq, fault=answer if isinstance(answer, Fault) else _BEGUN)

    def stop(self, fault: Fault) -> None:
        """Answer with ``fault`` and interrupt the handler; a plain one sees ``Context.cancelled``."""
        self.answer(fault)
        if self.context is not None:
            self.context.cancelled = True
        if self._bridge is not None:
            self._bridge.stop()
        if self.task is not None:
            self.task.cancel()


def _let_out(answer: Terminal | None) -> Terminal:
    if answer is None:
        raise RuntimeError("a dependency caught its handler's error at its `yield` and did not raise it again")
    return answer

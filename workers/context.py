"""Owns what a handler is told about its dispatch, beside the payload, and what it can do within it.

Created per dispatch, for handlers that ask. Refuses to know how anything travels: sending progress is passed in, and
so is the way to other capabilities.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Unpack

from callers.asking import Options
from callers.frames import Answer, Frame
from subjects.dispatches import DispatchHeaders
from subjects.errors import ErrorKind
from subjects.headers import passed_headers
from subjects.tokens import DispatchId, RequestId
from subjects.trace import TraceContext
from workers.calling import Calls, bounded, call_failed
from workers.threads import Bridge


async def _nowhere(value: Any) -> None:
    """Progress of a dispatch that nobody listens to: a handler called by a test."""


class Context:
    """One dispatch, as its handler sees it. ``deadline`` is on ``time.monotonic``'s clock, in seconds."""

    __slots__ = ("_bridge", "_calls", "_deadline", "_headers", "_passed", "_progress", "cancelled")

    def __init__(
        self,
        headers: DispatchHeaders,
        deadline: float,
        progress: Callable[[Any], Awaitable[None]] = _nowhere,
        passed: str = "",
        calls: Calls | None = None,
        bridge: Bridge | None = None,
    ) -> None:
        self._passed = passed
        self._calls = calls
        self._bridge = bridge
        self._headers = headers
        self._deadline = deadline
        self._progress = progress
        self.cancelled = False
        """True once the answer is no longer wanted (cancelled, or out of time). A plain function looks here: a thread
        cannot be interrupted. Async handlers are cancelled instead."""

    @property
    def request_id(self) -> RequestId:
        """The caller's request, the same on every attempt."""
        return self._headers.request_id

    @property
    def dispatch_id(self) -> DispatchId:
        """The attempt's own id, known to the controller and this worker alone."""
        return self._headers.dispatch_id

    @property
    def attempt(self) -> int:
        """1 on the first try."""
        return self._headers.attempt

    @property
    def caller(self) -> str:
        """The caller's verified identity, or ``anonymous``."""
        return self._headers.caller

    @property
    def version(self) -> str:
        """The version of the capability that was meant."""
        return self._headers.version

    @property
    def priority(self) -> str:
        """``low``, ``normal`` or ``high``."""
        return self._headers.priority

    @property
    def content_type(self) -> str:
        """The payload's media type."""
        return self._headers.content_type

    @property
    def idempotency_key(self) -> str | None:
        """The caller's key, or None."""
        return self._headers.idempotency_key

    @property
    def trace(self) -> TraceContext | None:
        """The span of this dispatch: the parent of whatever the handler traces."""
        return self._headers.trace

    @property
    def tracestate(self) -> str | None:
        """The W3C ``tracestate`` that came along, or None."""
        return self._headers.tracestate

    @property
    def headers(self) -> dict[str, str]:
        """The caller's own headers by lower-case name: all that have no meaning to Crank or NATS. A new dict."""
        return passed_headers(self._passed)

    @property
    def header_lines(self) -> str:
        """The same as they came, each ending in CR LF: for who passes them on, since elsewhere the case may count."""
        return self._passed

    def time_left_s(self) -> float:
        """Seconds until the answer is no longer wanted; never below 0."""
        return max(0.0, self._deadline - time.monotonic())

    async def progress(self, value: Any) -> None:
        """Tell the caller how far the work is: bytes, text, or anything that becomes JSON.

        Raises:
            DeclarationError: the capability is not declared with ``streaming=True``.

        """
        await self._progress(value)

    async def call(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Answer:
        """Ask another capability and wait for its whole answer; ``data`` and ``options`` as for ``Client.request``.

        The call belongs to this dispatch: to its trace, with its priority unless another one is given, within what is
        left of its time, and cancelled with it.

        Raises:
            CrankError: refused or failed; 504 at once when there is no time left. A handler that lets it through
                fails with it.

        """
        client = await self._ready().client()
        return await client.request(capability, data, **self._bounded(capability, options))

    async def stream(
        self, capability: str, data: object = b"", **options: Unpack[Options]
    ) -> AsyncGenerator[Frame, None]:
        """As ``call``, for each frame of a streamed answer as it comes; ``frame.kind`` is chunk, progress or end."""
        client = await self._ready().client()
        async with contextlib.aclosing(client.stream(capability, data, **self._bounded(capability, options))) as frames:
            async for frame in frames:
                yield frame

    def call_sync(self, capability: str, data: object = b"", **options: Unpack[Options]) -> Answer:
        """``call`` for a plain handler, which runs in a thread and cannot await.

        Raises:
            CrankError: as ``call``, and 499 when the dispatch is cancelled meanwhile.
            TypeError: the handler is async, and this would block it.

        """
        self._ready()
        if self._bridge is None:
            raise TypeError("call_sync is for plain handlers; in an async one write `await ctx.call(…)`")
        try:
            return self._bridge.run(self.call(capability, data, **options))
        except concurrent.futures.CancelledError:
            raise call_failed(ErrorKind.CANCELLED, "Nobody waits for the answer any more.", capability) from None

    def _ready(self) -> Calls:
        if self._calls is None:
            raise RuntimeError("this context belongs to no running worker; test with crank.testing.serving(…)")
        return self._calls

    def _bounded(self, capability: str, options: Options) -> Options:
        return bounded(capability, self._headers, self.time_left_s(), options)

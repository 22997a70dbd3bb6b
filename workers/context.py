"""Owns what a handler is told about its dispatch, beside the payload. Created per dispatch, for handlers that ask.

Refuses to know how a frame travels: sending progress is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from subjects.dispatches import DispatchHeaders
from subjects.headers import passed_headers
from subjects.tokens import DispatchId, RequestId
from subjects.trace import TraceContext


async def _nowhere(value: Any) -> None:
    """Progress of a dispatch that nobody listens to: a handler called by a test."""


class Context:
    """One dispatch, as its handler sees it. ``deadline`` is on ``time.monotonic``'s clock, in seconds."""

    __slots__ = ("_deadline", "_headers", "_passed", "_progress", "cancelled")

    def __init__(
        self,
        headers: DispatchHeaders,
        deadline: float,
        progress: Callable[[Any], Awaitable[None]] = _nowhere,
        passed: str = "",
    ) -> None:
        self._passed = passed
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

    def time_left_s(self) -> float:
        """Seconds until the answer is no longer wanted; never below 0."""
        return max(0.0, self._deadline - time.monotonic())

    async def progress(self, value: Any) -> None:
        """Tell the caller how far the work is: bytes, text, or anything that becomes JSON.

        Raises:
            DeclarationError: the capability is not declared with ``streaming=True``.

        """
        await self._progress(value)

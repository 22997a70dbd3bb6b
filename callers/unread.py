"""Owns the replies of one request that its caller has not looked at yet: in their order, and no more than fit.

``callers.client`` puts in what comes, and takes out what is asked for.
"""

from __future__ import annotations

import asyncio

from callers.failures import CrankError, failure
from subjects.errors import ErrorKind

Heard = tuple[bytes | None, bytes]
"""Header block and body of a reply."""

# What one request may hold: a worker that never stops, or a caller that never looks, may not fill the memory.
MAX_BYTES = 64 * 1024 * 1024
# What a reply weighs beside its bytes.
_REPLY_BYTES = 256


class Unread:
    """A queue with an end: after an error that was put in, nothing more comes."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Heard | CrankError] = asyncio.Queue()
        self._room = MAX_BYTES
        self._ended = False

    def put(self, headers: bytes | None, body: bytes) -> None:
        """A reply came."""
        self._room -= _weight(headers, body)
        if self._room < 0:
            self.end(too_much("lies unread; read it faster"))
        elif not self._ended:
            self._queue.put_nowait((headers, body))

    def end(self, error: CrankError) -> None:
        """Say why nothing more comes."""
        if not self._ended:
            self._ended = True
            self._queue.put_nowait(error)

    async def next(self) -> Heard:
        """The oldest; waits for one.

        Raises:
            CrankError: what ``end`` was given, or 413 when too much lay here.

        """
        heard = await self._queue.get()
        if isinstance(heard, CrankError):
            raise heard
        self._room += _weight(*heard)
        return heard


def too_much(what: str, capability: str | None = None) -> CrankError:
    """The error of an answer that does not fit."""
    detail = f"More than {MAX_BYTES} bytes of the answer {what}, or ask for less. The work may have run."
    error = failure(ErrorKind.TOO_LARGE, detail)
    error.capability = capability
    return error


def _weight(headers: bytes | None, body: bytes) -> int:
    return len(headers or b"") + len(body) + _REPLY_BYTES

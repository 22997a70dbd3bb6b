"""Owns what is under way on one connection: what was sent, who waits for which reply, and how silence is told.

It refuses to know what is asked for. ``callers.client`` asks through it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator

from bus import Bus
from callers.failures import Silence, Unreachable, failure
from callers.frames import Frame, read_frame
from callers.unread import Unread
from subjects.errors import ErrorKind


class Exchange:
    """Questions and their replies, by an inbox that nobody else can guess."""

    def __init__(self, bus: Bus, prefix: str) -> None:
        self.bus = bus
        self.closed = False
        self._prefix = prefix
        self._inbox = bus.new_inbox()
        self._waiting: dict[str, Unread] = {}

    async def open(self) -> None:
        """Listen for replies."""
        await self.bus.subscribe(f"{self._inbox}.*", self._on_reply)

    async def close(self) -> None:
        """Send what is pending and close; whoever still waits for an answer is told."""
        self.closed = True
        await self.bus.close()
        for unread in self._waiting.values():
            unread.end(Unreachable("the client was closed before the answer came; the work may have run"))

    async def frames(self, subject: str, body: bytes, block: bytes, patience_s: float) -> AsyncGenerator[Frame, None]:
        """Send, and yield each frame of the reply; one that is no stream is one frame ``end``.

        Raises:
            CrankError: the reply tells of a failure, or too much of it lies unread.
            Unreachable: it could not be sent, or nobody listens, or a frame was lost on its way.
            Silence: nothing came for ``patience_s``.

        """
        inbox = f"{self._inbox}.{secrets.token_hex(8)}"
        unread = self._waiting[inbox] = Unread()
        try:
            self._send(subject, body, block, inbox)
            ended, due = False, 0
            while not ended:
                try:
                    heard = await asyncio.wait_for(unread.next(), patience_s)
                except TimeoutError:
                    raise Silence(patience_s) from None
                frame = read_frame(*heard, self._prefix)
                if frame.seq != due:
                    raise Unreachable(f"frame {due} of the answer was lost with a connection; the work may have run")
                ended, due = frame.kind == "end", due + 1
                yield frame
        finally:
            del self._waiting[inbox]

    async def ask(self, subject: str, body: bytes, block: bytes, patience_s: float) -> Frame:
        """Send, and return the first frame of the reply.

        Raises:
            CrankError, Unreachable, Silence: as ``frames``.

        """
        frames = self.frames(subject, body, block, patience_s)
        try:
            return await anext(frames)
        finally:
            await frames.aclose()

    def tell(self, subject: str) -> None:
        """Send what is answered or ignored by those who get it, so it has a reply subject: nobody's."""
        self.bus.publish(subject, b"", reply=f"{self._inbox}.nobody")

    def _send(self, subject: str, body: bytes, block: bytes, inbox: str) -> None:
        if self.closed:
            raise Unreachable("this client is closed; ask inside its `async with`, or connect another one")
        if self.bus.publish(subject, body, block or None, inbox):
            return
        size, most = len(block) + len(body), self.bus.max_payload_bytes
        if size > most:
            raise failure(
                ErrorKind.TOO_LARGE,
                f"The request is {size} bytes with its headers; the NATS server takes at most {most}.",
            )
        raise Unreachable("the connection to the NATS server is gone, or it reads nothing; is it still running?")

    def _on_reply(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        unread = self._waiting.get(subject)
        if unread is not None:
            unread.put(headers, body)

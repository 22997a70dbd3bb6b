"""Owns one caller's connection: a request out, whatever comes back for it, also after its end.

Bytes, as any NATS client sees them: what is compared is what came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from bus import Bus
from subjects.headers import Block, build_block, parse_block


class Reply(NamedTuple):
    """A message that came back; its headers by lower-case name."""

    headers: dict[str, str]
    status: int
    body: bytes

    @property
    def last(self) -> bool:
        """Whether it is a whole answer, or the end of a stream."""
        return self.headers.get("crank-frame") in (None, "end")


class Call:
    """One request, and what came back for it."""

    __slots__ = ("ended", "replies", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.replies: list[Reply] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def about(self) -> str:
        """What was asked and heard, for whoever looks for the reason."""
        return f"{self.subject} heard {self.replies[-1]}"


def _read(raw: bytes | None, body: bytes) -> Reply:
    block = parse_block(raw)
    return Reply(block.ours, block.status, body) if isinstance(block, Block) else Reply({}, 0, raw or b"")


class Line:
    """A caller's connection. What comes after an answer's end is counted, whenever it comes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._inbox = bus.new_inbox()
        self._skip = len(self._inbox) + 1
        self._calls: dict[str, Call] = {}
        self._serial = 0
        self._over: dict[str, str] = {}
        self.too_many: list[str] = []
        """Requests that got something after their terminal reply, and what."""

    @classmethod
    async def connect(cls, url: str, name: str) -> Line:
        """Connect, and reconnect for ever.

        Raises:
            BusUnavailable: nobody is there yet.

        """
        line = cls(await Bus.connect(url, name=name))
        await line._bus.subscribe(f"{line._inbox}.*", line._on_reply)
        return line

    async def close(self) -> None:
        """Disconnect."""
        await self._bus.close()

    def publish(self, subject: str, body: bytes = b"") -> None:
        """Send what needs no answer; it has a reply subject all the same, which nobody reads."""
        self._bus.publish(subject, body, reply=f"{self._inbox}.nobody")

    async def ask(
        self, subject: str, body: bytes, headers: Iterable[tuple[str, str]], patience_s: float
    ) -> list[Reply] | None:
        """Everything that came for a request, up to its last reply or to the end of patience; None: it never left."""
        self._serial += 1
        number = str(self._serial)
        call = Call(subject)
        if not self._bus.publish(subject, body, build_block(headers), f"{self._inbox}.{number}"):
            return None
        self._calls[number] = call
        try:
            async with asyncio.timeout(patience_s):
                await call.ended
        except TimeoutError:
            pass
        finally:
            del self._calls[number]
        if not call.ended.cancelled():
            self._over[number] = call.about
        return call.replies

    def _on_reply(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        number = subject[self._skip :]
        call = self._calls.get(number)
        if call is None or call.ended.done():
            if call is not None and call.ended.cancelled():
                return  # patience is just over
            about = self._over.get(number) if call is None else call.about
            if about is not None:
                self.too_many.append(f"{about}, and then came {_read(raw, body)}")
            return
        found = _read(raw, body)
        call.replies.append(found)
        if found.last:
            call.ended.set_result(None)

"""A peer that speaks the controller's side of the contract, with answers that a test scripts.

For what a real controller never or seldom says: frames out of nowhere, silence, bytes that are no header block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from bus import Bus
from subjects.names import QUEUE_CONTROLLERS


class Asked(NamedTuple):
    """What arrived."""

    subject: str
    headers: str
    body: bytes


Reply = tuple[bytes | None, bytes]
Script = Callable[[Asked], Iterator[Reply]]


class Peer:
    """Answers whatever callers and operators ask with what the script yields."""

    def __init__(self, bus: Bus, script: Script) -> None:
        self.asked: list[Asked] = []
        self._bus = bus
        self._script = script

    @classmethod
    async def start(cls, url: str, script: Script) -> Self:
        bus = await Bus.connect(url, name="peer")
        peer = cls(bus, script)
        for kind in ("request", "submit", "result", "admin", "cancel"):
            await bus.subscribe(f"crank.{kind}.>", peer._on_message, queue=QUEUE_CONTROLLERS)
        await bus.flush()
        return peer

    def _on_message(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if not reply:  # as a controller does: there is nobody to answer
            return
        asked = Asked(subject, (headers or b"").decode(), body)
        self.asked.append(asked)
        for block, answer in self._script(asked):
            self._bus.publish(reply, answer, block)

    async def stop(self) -> None:
        await self._bus.close()


async def in_turn(url: str, *replies: Reply | None) -> Peer:
    """A peer that answers one question after the other, the last reply for ever; None, and to a cancel, is silence."""
    left = list(replies)

    def script(asked: Asked) -> Iterator[Reply]:
        if "cancel" not in asked.subject:
            reply = left.pop(0) if len(left) > 1 else left[0]
            if reply is not None:
                yield reply

    return await Peer.start(url, script)

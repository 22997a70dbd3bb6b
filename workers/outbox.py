"""Owns what leaves a worker: answers and frames, and those that cannot leave because the connection is down.

``workers.runs`` hands it values of the contract. It refuses to know which capability they belong to.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from bus import Bus, BusUnavailable
from subjects.answers import Fault, Frame, NoResponders, NotRun, Result, build_answer
from workers.errors import RetryableError

log = logging.getLogger("crank.worker")


class _Kept(NamedTuple):
    deadline: float
    reply: str
    headers: bytes | None
    body: bytes


class Outbox:
    """The way out, over one connection."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kept: list[_Kept] = []

    @property
    def max_body_bytes(self) -> int:
        """The largest body that can leave."""
        return self._bus.max_body_bytes

    def refuse(self, reply: str, answer: Fault | NotRun) -> None:
        """Send what needs no work; lost when disconnected, as the dispatch would have been."""
        headers, body = build_answer(answer)
        self._bus.publish(reply, body, headers)

    def frame(self, reply: str, frame: Frame) -> bool:
        """Send one frame of a stream; False when there is no connection."""
        headers, body = build_answer(frame)
        return self._bus.publish(reply, body, headers)

    def answer(self, reply: str, answer: Result | Fault | NotRun | NoResponders | Frame, deadline: float) -> None:
        """Send a terminal answer; without a connection keep it until ``deadline`` (``time.monotonic``).

        Work that was done is worth more than a second execution, so it is offered again after a reconnect. That is
        bounded: no work arrives while disconnected, so no more is kept than was running.
        """
        headers, body = build_answer(answer)
        if not self._bus.publish(reply, body, headers):
            self._kept.append(_Kept(deadline, reply, headers, body))

    def send_kept(self) -> None:
        """Send what is still in time; called when a controller is known to listen again."""
        kept, self._kept = self._kept, []
        now = time.monotonic()
        late = [one for one in kept if one.deadline <= now or not self._bus.publish(one.reply, one.body, one.headers)]
        if kept:
            log.warning("%d answers were held back by a lost connection; %d came too late", len(kept), len(late))

    async def pace(self) -> None:
        """Return when the server has read all that was sent: a fast stream may not fill the memory.

        Raises:
            RetryableError: the connection is gone, and the stream with it.

        """
        try:
            await self._bus.flush()
        except BusUnavailable:
            raise lost() from None


def lost() -> RetryableError:
    """The error of a stream whose frames cannot leave."""
    return RetryableError("The worker lost its connection in the middle of the stream")

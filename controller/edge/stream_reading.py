"""Owns reading streams for an operator, and changing nothing: how one is, one message, or the headers of many.

Everything here is bounded by its caller. Readings for requests are ``bus.questions``' and ``bus.Streams``'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from bus import Bus
from bus.answers import Failure, said
from bus.connection import BusError
from controller.edge.jetstream import MESSAGE_NOT_FOUND, STREAM_NOT_FOUND, ask, read_delivery

T = TypeVar("T", bound=msgspec.Struct)

# Handed over in one turn of the event loop or two: a millisecond each.
_BATCH = 500
# The server forgets a reader that has gone.
_FORGOTTEN_S = 10


class State(msgspec.Struct, frozen=True):
    """What is in a stream. The first and last sequences stay when messages go."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamNow(msgspec.Struct, frozen=True):
    """A stream, by its leader's clock."""

    state: State
    ts: datetime


class Message(NamedTuple):
    """A stored message, with the time of storing."""

    seq: int
    subject: str
    headers: bytes | None
    body: bytes
    time: datetime


class _Stored(msgspec.Struct):
    seq: int
    subject: str
    time: datetime
    hdrs: bytes | None = None
    data: bytes = b""


class _Got(msgspec.Struct):
    message: _Stored


class _Reader(msgspec.Struct):
    name: str
    num_pending: int = 0


class _Done(msgspec.Struct):
    success: bool = False


async def stream_now(bus: Bus, stream: str) -> StreamNow | None:
    """How the stream is, or None when there is none.

    Raises:
        BusError: JetStream does not answer.

    """
    return await _asked(bus, stream, f"STREAM.INFO.{stream}", None, StreamNow, STREAM_NOT_FOUND)


async def message_from(bus: Bus, stream: str, seq: int, subject: str) -> Message | None:
    """The first message on ``subject`` from ``seq`` on, or None when there is none.

    Raises:
        BusError: JetStream does not answer.

    """
    return await _message(bus, stream, {"seq": max(1, seq), "next_by_subj": subject})


async def message_at(bus: Bus, stream: str, seq: int) -> Message | None:
    """The message of this sequence, or None.

    Raises:
        BusError: JetStream does not answer.

    """
    return await _message(bus, stream, {"seq": seq}) if seq > 0 else None


async def _message(bus: Bus, stream: str, which: dict[str, int | str]) -> Message | None:
    found = await _asked(bus, stream, f"STREAM.MSG.GET.{stream}", which, _Got, STREAM_NOT_FOUND, MESSAGE_NOT_FOUND)
    if found is None:
        return None
    message = found.message
    return Message(message.seq, message.subject, message.hdrs or None, message.data, message.time)


async def remove(bus: Bus, stream: str, seq: int) -> None:
    """Remove a message; one that is not there is removed.

    Raises:
        BusError: it is not removed, for all that is known.

    """
    found = await ask(bus, f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True}, _Done)
    # One code stands for all that goes wrong, a message that is not there too.
    if isinstance(found, Failure) and await message_at(bus, stream, seq) is not None:
        raise BusError(f"{stream}: {said(found, stream)}")


async def headlines(
    bus: Bus, stream: str, subject: str, after: int, seconds: float, take: Callable[[Message], bool]
) -> bool:
    """Give ``take`` each message on ``subject`` after a sequence, without its body, until it returns False.

    Returns whether it saw all there was: not when it said enough, or ``seconds`` were over.

    Raises:
        BusError: JetStream does not answer.

    """
    config = {
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "filter_subject": subject,
        "headers_only": True,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _FORGOTTEN_S * 10**9,
    }
    question = {"stream_name": stream, "config": config}
    reader = await _asked(bus, stream, f"CONSUMER.CREATE.{stream}", question, _Reader, STREAM_NOT_FOUND)
    if reader is None:
        return True
    reading = _Reading(bus.new_inbox(), reader.num_pending, take)
    subscription = await bus.subscribe(reading.inbox, reading.on_message)
    try:
        async with asyncio.timeout(seconds):
            while not reading.over:
                await reading.more(bus, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{reader.name}")
    except TimeoutError:
        return False
    finally:
        reading.over = True
        await bus.unsubscribe(subscription)
        bus.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{reader.name}", b"")
    return reading.saw_all


class _Reading:
    def __init__(self, inbox: str, pending: int, take: Callable[[Message], bool]) -> None:
        self.inbox = inbox
        self.saw_all = self.over = pending == 0
        self._take = take
        self._left = 0
        self._turn = asyncio.Event()

    async def more(self, bus: Bus, next_: str) -> None:
        """Read a batch."""
        self._turn.clear()
        self._left = _BATCH
        if not bus.publish(next_, msgspec.json.encode({"batch": _BATCH, "no_wait": True}), reply=self.inbox):
            raise BusError("not connected to NATS")
        await self._turn.wait()

    def on_message(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if self.over:
            return
        delivery = read_delivery(reply)
        if delivery is None:  # nothing more, or no such reader
            self.over = True
            self.saw_all = headers is not None and headers.startswith(b"NATS/1.0 404")
        else:
            stored_at = datetime.fromtimestamp(delivery.stored_ns / 1e9, UTC)
            enough = not self._take(Message(delivery.seq, subject, headers, body, stored_at))
            self.saw_all = not enough and delivery.pending == 0
            self.over = enough or self.saw_all
            self._left -= 1
        if self.over or self._left == 0:
            self._turn.set()


async def _asked(
    bus: Bus, stream: str, operation: str, question: dict[str, Any] | None, kind: type[T], *absent: int
) -> T | None:
    """JetStream's answer; None where it says with one of these codes that there is none."""
    found = await ask(bus, operation, question, kind)
    if not isinstance(found, Failure):
        return found
    if found.err_code in absent:
        return None
    raise BusError(f"{stream}: {said(found, stream)}")

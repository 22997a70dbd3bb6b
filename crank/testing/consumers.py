"""Owns the consumers of one stream in memory: pulls, deliveries, and what comes of each.

Like the stream it answers on JetStream's own subjects, as much as controllers ask of it. ``crank.testing.streams``
makes it.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from typing import Any

import msgspec

from bus import Message
from crank.testing.exchange import MemoryBus, pattern
from crank.testing.jetstream import Kept, MemoryStream

_NO_MESSAGES, _EXPIRED = b"NATS/1.0 404 No Messages\r\n\r\n", b"NATS/1.0 408 Request Timeout\r\n\r\n"
_serials = itertools.count(1)


class _Pull:
    def __init__(self, reply: str, batch: int) -> None:
        self.reply, self.left = reply, batch


class _Consumer:
    """Where it is, and what it handed out: until when, and how often, by sequence."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.fits: re.Pattern[str] = pattern(config.get("filter_subject", ">"))
        self.wait_s: float = config.get("ack_wait", 0) / 1e9
        self.asks_for_acks: bool = config.get("ack_policy") == "explicit"
        self.headers_only: bool = config.get("headers_only", False)
        self.next_seq: int = config.get("opt_start_seq", 1)
        self.out: dict[int, float] = {}
        self.times: dict[int, int] = {}
        self.pulls: list[_Pull] = []

    def waiting(self, kept: list[Kept], now: float) -> list[Kept]:
        """What can be handed out now."""
        return [
            one
            for one in kept
            if self.fits.fullmatch(one.entry.subject)
            and (one.entry.seq >= self.next_seq or self.out.get(one.entry.seq, now + 1) <= now)
        ]


class MemoryConsumers:
    """The consumers of ``stream``."""

    def __init__(self, bus: MemoryBus, stream: MemoryStream) -> None:
        self._bus = bus
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._consumers: dict[str, _Consumer] = {}

    async def start(self) -> None:
        """Listen."""
        name = self._stream.name
        for subject, handler in (
            (f"$JS.API.CONSUMER.CREATE.{name}", self._create),
            (f"$JS.API.CONSUMER.CREATE.{name}.>", self._create),
            (f"$JS.API.CONSUMER.DELETE.{name}.*", self._delete),
            (f"$JS.API.CONSUMER.NAMES.{name}", self._names),
            (f"$JS.API.CONSUMER.MSG.NEXT.{name}.*", self._next),
            (f"$JS.ACK.{name}.>", self._acknowledged),
        ):
            await self._bus.subscribe(subject, handler)
        self._stream.followers.append(lambda entry: self._hand_out())

    def _create(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        config = msgspec.json.decode(body)["config"]
        name = config.get("durable_name") or secrets.token_hex(4)
        consumer = self._consumers.setdefault(name, _Consumer(config))
        pending = len(consumer.waiting(self._stream.kept, self._loop.time()))
        self._stream.answer(reply, {"name": name, "num_pending": pending})

    def _delete(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self._consumers.pop(subject.rpartition(".")[2], None)

    def _names(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self._stream.answer(reply, {"consumers": list(self._consumers), "total": len(self._consumers)})

    def _next(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        consumer = self._consumers.get(subject.rpartition(".")[2])
        if consumer is None:
            self._bus.publish(reply, b"", _NO_MESSAGES)
            return
        wanted = msgspec.json.decode(body)
        pull = _Pull(reply, wanted["batch"])
        consumer.pulls.append(pull)
        self._hand_out()
        if wanted.get("no_wait"):
            self._end(consumer, pull, _NO_MESSAGES)
        else:
            self._loop.call_later(wanted["expires"] / 1e9, self._end, consumer, pull, _EXPIRED)

    def _end(self, consumer: _Consumer, pull: _Pull, status: bytes) -> None:
        if pull in consumer.pulls:
            consumer.pulls.remove(pull)
            self._bus.publish(pull.reply, b"", status)

    def _hand_out(self) -> None:
        now = self._loop.time()
        for name, consumer in self._consumers.items():
            if not consumer.pulls:
                continue
            waiting = consumer.waiting(self._stream.kept, now)
            for left, one in zip(reversed(range(len(waiting))), waiting, strict=True):
                if not consumer.pulls:
                    break
                self._deliver(name, consumer, one, left)

    def _deliver(self, name: str, consumer: _Consumer, one: Kept, left: int) -> None:
        entry, pull = one.entry, consumer.pulls[0]
        times = consumer.times[entry.seq] = consumer.times.get(entry.seq, 0) + 1
        consumer.next_seq = max(consumer.next_seq, entry.seq + 1)
        if consumer.asks_for_acks:
            self._again(consumer, entry.seq, consumer.wait_s)
        stored_ns = int(one.at.timestamp() * 1e9)
        ack = f"$JS.ACK.{self._stream.name}.{name}.{times}.{entry.seq}.{next(_serials)}.{stored_ns}.{left}"
        body = b"" if consumer.headers_only else entry.body
        self._bus.deliver(pull.reply, Message(entry.subject, ack, entry.headers, body))
        pull.left -= 1
        if not pull.left:
            consumer.pulls.remove(pull)

    def _again(self, consumer: _Consumer, seq: int, after_s: float) -> None:
        consumer.out[seq] = self._loop.time() + after_s
        self._loop.call_later(after_s, self._hand_out)

    def _acknowledged(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>…
        parts = subject.split(".")
        consumer, seq = self._consumers.get(parts[3]), int(parts[5])
        if consumer is None or seq not in consumer.out:
            return
        if body.startswith(b"-NAK"):
            delay = msgspec.json.decode(body[4:] or b"{}").get("delay", 0)
            self._again(consumer, seq, delay / 1e9)
        elif body == b"+WPI":
            self._again(consumer, seq, consumer.wait_s)
        else:
            del consumer.out[seq]
            self._stream.remove(seq)

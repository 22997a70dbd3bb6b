"""Owns what a NATS server does for its clients, within one event loop: subjects, queue groups, *no responders*.

``Exchange`` is the server, ``MemoryBus`` a connection to it. Messages are handed over in the order in which they were
published, each in a turn of the loop of its own. ``crank.testing.serving`` makes them; nothing of it serves production.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
import secrets
from typing import Any, NamedTuple

from bus import Bus, BusUnavailable, Handler, Message
from crank.natsd import MAX_PAYLOAD_BYTES

log = logging.getLogger("crank.testing")

_NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


class _Subscription(NamedTuple):
    bus: MemoryBus
    fits: re.Pattern[str]
    queue: str
    handler: Handler


class Exchange:
    """The subscriptions of all connections, and the way from a publisher to them."""

    def __init__(self) -> None:
        self._subscriptions: dict[int, _Subscription] = {}
        self._ids = itertools.count(1)
        self._loop = asyncio.get_running_loop()

    def add(self, bus: MemoryBus, subject: str, queue: str, handler: Handler) -> int:
        """Subscribe; the id is what ``remove`` takes."""
        ident = next(self._ids)
        self._subscriptions[ident] = _Subscription(bus, pattern(subject), queue, handler)
        return ident

    def remove(self, ident: int) -> None:
        """Stop delivery; what was published before is still handed over."""
        self._subscriptions.pop(ident, None)

    def remove_all(self, bus: MemoryBus) -> None:
        """A connection is closed."""
        self._subscriptions = {key: one for key, one in self._subscriptions.items() if one.bus is not bus}

    def route(self, message: Message, to: str = "") -> None:
        """Hand ``message`` to every subscription that fits its subject, or ``to``, and to one of each queue group."""
        groups: dict[str, list[_Subscription]] = {}
        found = False
        for one in self._subscriptions.values():
            if one.fits.fullmatch(to or message.subject):
                found = True
                if one.queue:
                    groups.setdefault(one.queue, []).append(one)
                else:
                    self._loop.call_soon(_hand_over, one, message)
        for members in groups.values():
            self._loop.call_soon(_hand_over, random.choice(members), message)
        if not found and message.reply and not to:
            self.route(Message(message.reply, "", _NO_RESPONDERS, b""))


def _hand_over(one: _Subscription, message: Message) -> None:
    if not one.bus.connected:
        return
    try:
        one.handler(*message)
    except Exception:
        log.exception("a message handler failed; the message on %r was dropped", message.subject[:128])


def pattern(subject: str) -> re.Pattern[str]:
    """What a subscription's subject fits: ``*`` is one token; ``>``, which stands at the end, one or more."""
    wild = {"*": r"[^.]+", ">": r".+"}
    return re.compile(r"\.".join(wild.get(token) or re.escape(token) for token in subject.split(".")))


class MemoryBus(Bus):
    """One connection to an exchange, to be used as any other."""

    def __init__(self, exchange: Exchange) -> None:
        # Of the other one only what its requests need: the rest stands on a socket.
        self._loop = asyncio.get_running_loop()
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._waiting = {}
        self._serial = 0
        self._exchange = exchange
        self._open = True
        exchange.add(self, f"{self._inbox}.*", "", self._on_inbox)

    @property
    def connected(self) -> bool:
        """Whether a publish would leave now."""
        return self._open

    @property
    def max_payload_bytes(self) -> int:
        """The largest message, headers included: that of the server which ``crank up`` starts."""
        return MAX_PAYLOAD_BYTES

    @property
    def url(self) -> str:
        """Where this is connected to."""
        return "memory"

    def publish(self, subject: str, body: bytes, headers: bytes | None = None, reply: str = "") -> bool:
        """Hand a message on; False when it is too large, or the connection is closed."""
        if not self._open or len(body) + len(headers or b"") > MAX_PAYLOAD_BYTES:
            return False
        self._exchange.route(Message(subject, reply, headers, bytes(body)))
        return True

    def deliver(self, to: str, message: Message) -> None:
        """Hand on a stored message to whoever subscribed ``to``, under the subject that it was stored on."""
        self._exchange.route(message, to)

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Any:
        """Hand every message on ``subject`` to ``handler``."""
        return self._exchange.add(self, subject, queue, handler)

    async def unsubscribe(self, subscription: Any) -> None:
        """Stop delivery."""
        self._exchange.remove(subscription)

    async def flush(self, timeout_s: float = 2.0) -> None:
        """Return when all that was published before was handled."""
        if not self._open:
            raise BusUnavailable("the connection is closed")
        handled = asyncio.Event()
        self._loop.call_soon(handled.set)
        await handled.wait()

    async def close(self) -> None:
        """Close."""
        self._open = False
        self._exchange.remove_all(self)

"""Owns who of a service is there: pings it, asks what it offers, and says when that changed.

Every answer counts whenever it comes. An instance is given up when it left three pings in a row unanswered, and all of
them at once when the NATS server says that nobody listens. ``crank.adopting.adoption`` asks, and reads ``there``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TypeVar

from bus import Bus
from crank.adopting.described import Info, Ping, read_info, read_ping
from subjects.names import SERVICE_NAME, service
from subjects.tokens import is_token

log = logging.getLogger("crank.adopt")

T = TypeVar("T", Ping, Info)

_MISSED_PINGS = 3
# Endpoints can be added to a service that runs, and it tells nobody: ask again at every fifth ping.
_INFO_EVERY = 5
# Instances answer one after the other; wait for the others before anything is made of the first.
_SETTLE_S = 0.2
# For a list that a person waits for.
_GATHER_S = 0.5
MAX_INSTANCES = 256
_MAX_NAMES = 1000


async def services_there(bus: Bus) -> list[str]:
    """The names of the services that answer within a moment, Crank's own left out."""
    names: set[str] = set()

    def on_ping(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        ping = read_ping(body)
        if isinstance(ping, Ping) and is_token(ping.name) and len(names) < _MAX_NAMES:
            names.add(ping.name)

    inbox = bus.new_inbox()
    subscription = await bus.subscribe(inbox, on_ping)
    bus.publish(service("PING"), b"", reply=inbox)
    await asyncio.sleep(_GATHER_S)
    await bus.unsubscribe(subscription)
    return sorted(names - {SERVICE_NAME})


class Watch:
    """One service, watched. ``changed`` is set when ``there`` may be another than before."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.changed = asyncio.Event()
        self._bus = bus
        self._name = name
        self._inbox = bus.new_inbox()
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, Info] = {}
        self._unanswered: dict[str, int] = {}
        """Pings since an instance was heard."""
        self._asked = 0
        self._informed = False
        """Whether an INFO was asked for since the last ping: instances that nobody knows cannot make us ask more."""
        self._settling: asyncio.TimerHandle | None = None

    @property
    def there(self) -> tuple[Info, ...]:
        """The instances that answer."""
        return tuple(self._known.values())

    async def start(self) -> None:
        """Listen for answers, and ask for the first time."""
        for verb, handler in (("PING", self._on_ping), ("INFO", self._on_info)):
            await self._bus.subscribe(f"{self._inbox}.{verb}", handler)
        self._ask("INFO")

    def ask(self) -> None:
        """Ping; give up whoever did not answer the last three. Called once an interval.

        Pings are counted and not seconds: a process that stood still has missed nothing, and neither has one without
        a connection.
        """
        if not self._ask("PING"):
            return
        self._informed = False
        self._asked += 1
        if self._asked % _INFO_EVERY == 0:
            self._ask("INFO")
        for ident, unanswered in list(self._unanswered.items()):
            if unanswered < _MISSED_PINGS:
                self._unanswered[ident] = unanswered + 1
            else:
                self._forget(ident)

    def _ask(self, verb: str) -> bool:
        return self._bus.publish(service(verb, self._name), b"", reply=f"{self._inbox}.{verb}")

    def _on_ping(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        ping = self._heard(headers, read_ping(body) if body else None)
        if ping is not None and ping.id not in self._known and not self._informed:
            self._informed = True
            self._ask("INFO")

    def _on_info(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        info = self._heard(headers, read_info(body) if body else None)
        if info is None or self._known.get(info.id) == info:
            return
        if info.id not in self._known and len(self._known) >= MAX_INSTANCES:
            log.debug("%s: passed over instance %s, one more than %d", self._name, info.id, MAX_INSTANCES)
            return
        self._known[info.id] = info
        self._unanswered[info.id] = 0
        self._change(_SETTLE_S)

    def _heard(self, headers: bytes | None, answer: T | str | None) -> T | None:
        if answer is None:
            if headers is not None and headers.startswith(b"NATS/1.0 503"):
                self._known.clear()
                self._unanswered.clear()
                self._change(0.0)
            return None
        if isinstance(answer, str):
            log.debug("%s: passed over %s", self._name, answer)
            return None
        if answer.name != self._name:
            return None
        if answer.id in self._unanswered:
            self._unanswered[answer.id] = 0
        return answer

    def _forget(self, ident: str) -> None:
        del self._known[ident], self._unanswered[ident]
        self._change(0.0)

    def _change(self, wait_s: float) -> None:
        if self._settling is not None:
            if wait_s:
                return
            self._settling.cancel()
        self._settling = self._loop.call_later(wait_s, self._settled)

    def _settled(self) -> None:
        self._settling = None
        self.changed.set()

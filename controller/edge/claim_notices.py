"""Owns the notices of claims: telling who asked that nobody holds a key any more, and asking for that.

Whoever waits for a key asks all controllers on ``<prefix>.claims.asked.<key>``, each time before it reads the record;
who then stores a state that ends somebody's hold tells those who asked, once JetStream has acknowledged it. Where
nobody waits, which is nearly always, nothing is sent. A notice is a nudge to read, and one may be missed: whoever wrote
may die, or may hear the question late in a cluster. Whoever starts or was cut off has heard nothing, and says so: then
everybody reads and asks again. The core does so every third of a lease in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bus import Bus, Subscription
from controller.core.stored import ClaimNoticed, StoreEvent, UnwatchClaim, WatchClaim
from subjects.names import Subjects
from subjects.tokens import is_claim_key

# Keys that others asked about, in each of two generations; most belong to other controllers, and are never told of.
MAX_ASKED = 5_000
# Controllers that wait for one key, the last ones that asked.
_MAX_WHO_ASK = 16
# In the place of a key, of whoever wants to be asked again; and together with others who say so within a moment.
_AGAIN = "again"
AGAIN_S = 0.05
# An inbox of ours and a key take half of it.
_MAX_REPLY_CHARS = 256


class ClaimNotices:
    """One controller's. ``tell`` is for whoever stored something, the rest for the core's commands."""

    def __init__(self, bus: Bus, subjects: Subjects, feed: Callable[[StoreEvent], None]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._prefix = subjects.claims_asked.removesuffix("*")
        self._inbox = bus.new_inbox() + "."
        self._feed = feed
        self._watched: set[str] = set()
        self._asked: dict[str, dict[str, None]] = {}
        """Where others want to be told, by key: what was asked lately, and what before that."""
        self._asked_before: dict[str, dict[str, None]] = {}
        self._subscriptions: list[Subscription] = []
        self._again: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen to who asks, and for answers.

        Raises:
            BusUnavailable: the connection is closed, or the server does not read.

        """
        for subject, handler in ((self._prefix + "*", self._on_asked), (self._inbox + "*", self._on_told)):
            self._subscriptions.append(await self._bus.subscribe(subject, handler))
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing was heard for a while, or ever: have everybody ask again, and whoever waits here as well."""
        self._bus.publish(self._prefix + _AGAIN, b"")  # which comes back here too

    async def stop(self) -> None:
        """Listen no more."""
        if self._again is not None:
            self._again.cancel()
        for subscription in self._subscriptions:
            await self._bus.unsubscribe(subscription)

    def watch(self, command: WatchClaim) -> None:
        """Ask with each reading, until ``unwatch``."""
        self._watched.add(command.key)

    def unwatch(self, command: UnwatchClaim) -> None:
        """Ask no more; what was asked already is answered all the same."""
        self._watched.discard(command.key)

    def ask(self, key: str) -> None:
        """If somebody here waits for the key, have whoever ends its hold say so."""
        if key in self._watched:
            self._bus.publish(self._prefix + key, b"", reply=self._inbox + key)

    def tell(self, key: str) -> None:
        """Nobody holds the key any more: those who asked may read what stands there now."""
        for asked in (self._asked, self._asked_before):
            for reply in asked.pop(key, ()):
                self._bus.publish(reply, b"")
        if key in self._watched:
            self._feed(ClaimNoticed(key))

    def _on_asked(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        key = subject.removeprefix(self._prefix)
        if key == _AGAIN:
            if self._again is None:
                self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._read_again)
            return
        if not reply or len(reply) > _MAX_REPLY_CHARS or reply.startswith(self._inbox):
            return
        if not is_claim_key(key) or not self._subjects.may_reply(reply):
            return
        who = self._asked.get(key)
        if who is None:
            who = self._asked_before.pop(key, {})
            if len(self._asked) >= MAX_ASKED:
                self._asked, self._asked_before = {}, self._asked
            self._asked[key] = who
        who.pop(reply, None)
        who[reply] = None
        if len(who) > _MAX_WHO_ASK:
            del who[next(iter(who))]

    def _read_again(self) -> None:
        self._again = None
        for key in list(self._watched):
            self._feed(ClaimNoticed(key))

    def _on_told(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        key = subject.removeprefix(self._inbox)
        if key in self._watched:
            self._feed(ClaimNoticed(key))

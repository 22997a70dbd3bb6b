"""Owns the notices of claims: telling who asked that nobody holds a key any more, and asking for that.

Whoever waits for a key asks all controllers on ``<prefix>.claims.asked.<key>``, each time before it reads the record;
who then stores a state that ends somebody's hold tells those who asked, once JetStream has acknowledged it. Where
nobody waits, which is nearly always, nothing is sent. A notice is a nudge to read, and one may be missed: whoever wrote
may die, may have started after it was asked, or may hear the question late in a cluster. The core reads, and thereby
asks, every third of a lease in any case.
"""

from __future__ import annotations

from collections.abc import Callable

from bus import Bus, Subscription
from controller.core.stored import ClaimNoticed, StoreEvent, UnwatchClaim, WatchClaim
from subjects.names import Subjects
from subjects.tokens import is_claim_key

# Keys that others asked about, in each of two generations; most belong to other controllers, and are never told of.
MAX_ASKED = 5_000
# Controllers that wait for one key, the last ones that asked.
_MAX_WHO_ASK = 16
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

    async def start(self) -> None:
        """Listen to who asks, and for answers.

        Raises:
            BusUnavailable: the connection is closed, or the server does not read.

        """
        for subject, handler in ((self._prefix + "*", self._on_asked), (self._inbox + "*", self._on_told)):
            self._subscriptions.append(await self._bus.subscribe(subject, handler))

    async def stop(self) -> None:
        """Listen no more."""
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

    def _on_told(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        key = subject.removeprefix(self._inbox)
        if key in self._watched:
            self._feed(ClaimNoticed(key))

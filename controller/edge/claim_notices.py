"""Owns the notices of claims that nobody holds any more: telling of them, and hearing of those waited for here.

Whoever wrote says so, once JetStream has acknowledged it: subscribers of the bucket's own subjects see what JetStream
then refuses, and before it is stored. One subscription a key, while it is wanted: listening to all would have every
controller read one more message for each keyed request at any of them. A notice is a nudge to read, and one may be
missed: its writer may die, and in a cluster interest takes a moment to spread. The core reads every third of a lease in
any case.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bus import Bus, Subscription
from bus.connection import BusError
from controller.core.stored import ClaimNoticed, StoreEvent, UnwatchClaim, WatchClaim
from controller.edge.background import Background
from subjects.names import Subjects

log = logging.getLogger("crank.claims")


class ClaimNotices:
    """One controller's. ``handlers`` of ``claims`` call ``watch`` and ``unwatch``."""

    def __init__(
        self, bus: Bus, background: Background, subjects: Subjects, feed: Callable[[StoreEvent], None]
    ) -> None:
        self._bus = bus
        self._background = background
        self._prefix = subjects.claims_notices.removesuffix(">")
        self._feed = feed
        self._heard: dict[str, Subscription | None] = {}
        """By key; None while the server is being told."""

    def tell(self, key: str) -> None:
        """Whoever waits for the key may read what stands there now."""
        self._bus.publish(self._prefix + key, b"")

    def watch(self, command: WatchClaim) -> None:
        """Listen, and say so once it is done: what changed before nobody heard."""
        if command.key not in self._heard:
            self._heard[command.key] = None
            self._background.spawn(self._listen(command.key))

    def unwatch(self, command: UnwatchClaim) -> None:
        """Listen no more."""
        subscription = self._heard.pop(command.key, None)
        if subscription is not None:
            self._background.spawn(self._bus.unsubscribe(subscription))

    async def _listen(self, key: str) -> None:
        def noticed(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
            self._feed(ClaimNoticed(key))

        try:
            subscription = await self._bus.subscribe(self._prefix + key, noticed)
        except BusError as error:
            log.debug("no notices of %s: %s", key, error)
            self._heard.pop(key, None)
            return
        if self._heard.get(key, subscription) is not None:  # nobody wants it any more, or somebody wants it again
            await self._bus.unsubscribe(subscription)
            return
        self._heard[key] = subscription
        self._feed(ClaimNoticed(key))

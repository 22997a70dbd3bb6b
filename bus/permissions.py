"""Owns finding out what a connection may publish and subscribe: by trying, and hearing what the server refuses.

A server refuses in words, on the side, and goes on; so every right is tried, and the round trip after that brings all
refusals. It refuses to know who needs which right, and that trying one does no harm is its caller's affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from bus.connection import Bus

# nats-py hands these over in lower case.
_refusal = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]*)"(?: using queue "([^"]*)")?'
).search
# Each right is refused once; a server that says more is not listened to.
_MAX_HEARD = 1024


class Right(NamedTuple):
    """Something to try: subscribing ``subject``, or publishing this message there."""

    act: Literal["publish", "subscribe"]
    subject: str
    queue: str = ""
    body: bytes = b""
    headers: bytes | None = None
    reply: str = ""


class Trial:
    """Give ``hear`` to ``Bus.connect`` as ``on_error``; then ``denied`` can tell."""

    def __init__(self) -> None:
        self._heard: set[tuple[str, str, str]] = set()

    def hear(self, error: str) -> None:
        """An error of the connection."""
        found = _refusal(error.lower())
        if found is not None and len(self._heard) < _MAX_HEARD:
            act = "publish" if found[1] == "publish" else "subscribe"
            self._heard.add((act, found[2], found[3] or ""))

    async def denied(self, bus: Bus, rights: Iterable[Right]) -> set[Right]:
        """Those of ``rights`` that the server refuses.

        Raises:
            BusUnavailable: the server did not answer.

        """
        tried = list(rights)
        for right in tried:
            if right.act == "publish":
                bus.publish(right.subject, right.body, right.headers, right.reply)
            else:
                await bus.unsubscribe(await bus.subscribe(right.subject, _ignore, right.queue))
        await bus.flush()
        return {right for right in tried if self._was_refused(right)}

    def _was_refused(self, right: Right) -> bool:
        return (right.act, right.subject.lower(), right.queue.lower()) in self._heard


def _ignore(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
    """What comes while a subscription is tried is for others, and they have it."""

"""Owns the registry's stream in memory: appending under an expected sequence, the last of a subject, following it.

It begins empty and ends with the test. ``controller.edge.registry_log`` uses it as it uses JetStream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from bus import Conflict, Entry, Stored, Streams, StreamSpec, Tail, Unstored
from subjects.headers import build_block


class MemoryStreams(Streams):
    """One stream."""

    def __init__(self) -> None:
        self._last: dict[str, Entry] = {}
        self._seq = 0
        self._followers: list[Callable[[Entry], None]] = []

    async def ensure(self, spec: StreamSpec) -> list[str]:
        """It is there, as it should be."""
        return []

    async def append(
        self,
        subject: str,
        body: bytes,
        *,
        expected_seq: int,
        headers: tuple[tuple[str, str], ...],
        ttl: timedelta | None,
    ) -> Stored | Conflict | Unstored:
        """Store ``body`` if the last message on ``subject`` still has ``expected_seq``; nothing here is forgotten."""
        last = self._last.get(subject)
        if (last.seq if last is not None else 0) != expected_seq:
            return Conflict()
        self._seq += 1
        entry = self._last[subject] = Entry(self._seq, subject, build_block(headers), body)
        for follow in self._followers:
            asyncio.get_running_loop().call_soon(follow, entry)
        return Stored(self._seq)

    async def read_last(self, stream: str, subject: str) -> Entry | None:
        """The last message on ``subject``, or None."""
        return self._last.get(subject)

    def tail(
        self,
        spec: StreamSpec,
        on_entry: Callable[[Entry], None],
        on_restart: Callable[[], None],
        on_replayed: Callable[[], None],
    ) -> Tail:
        """Follow the stream."""
        return _MemoryTail(self._last, self._followers, on_entry, on_replayed)


class _MemoryTail(Tail):
    def __init__(
        self,
        stored: dict[str, Entry],
        followers: list[Callable[[Entry], None]],
        on_entry: Callable[[Entry], None],
        on_replayed: Callable[[], None],
    ) -> None:
        self._stored, self._followers = stored, followers
        self._on_entry, self._on_replayed = on_entry, on_replayed

    async def start(self) -> None:
        """Hand over what is stored, and then what comes."""
        for entry in sorted(self._stored.values()):
            self._on_entry(entry)
        self._followers.append(self._on_entry)
        self._on_replayed()

    async def stop(self) -> None:
        """Follow no more."""
        self._followers.remove(self._on_entry)

    def check(self) -> None:
        """It cannot have gone back."""

"""Owns the streams of a test, each in memory: making them, and following one.

Everything else of ``bus.Streams`` goes over the bus, to ``crank.testing.jetstream``, as it goes to JetStream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from bus import Entry, Streams, StreamSpec, Tail
from crank.testing.consumers import MemoryConsumers
from crank.testing.exchange import MemoryBus
from crank.testing.jetstream import MemoryStream

_NOT_FOUND = b'{"error":{"code":404,"err_code":10059,"description":"stream not found"}}'


class MemoryStreams(Streams):
    """The streams that were asked for; of any other it is said that there is none."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self._bus: MemoryBus = bus
        self._made: dict[str, MemoryStream] = {}

    async def made(self, spec: StreamSpec) -> MemoryStream:
        """The stream, as it should be."""
        if not self._made:
            await self._bus.subscribe("$JS.API.>", self._asked)
        if spec.name not in self._made:
            stream = self._made[spec.name] = MemoryStream(self._bus, spec)
            await stream.start()
            await MemoryConsumers(self._bus, stream).start()
        return self._made[spec.name]

    def _asked(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        if reply and self._made.keys().isdisjoint(subject.split(".")):
            self._bus.publish(reply, _NOT_FOUND)

    async def ensure(self, spec: StreamSpec) -> list[str]:
        """Make it unless it is there."""
        await self.made(spec)
        return []

    def tail(
        self,
        spec: StreamSpec,
        on_entry: Callable[[Entry], None],
        on_restart: Callable[[], None],
        on_replayed: Callable[[], None],
    ) -> Tail:
        """Follow a stream."""
        return _MemoryTail(partial(self.made, spec), on_entry, on_replayed)


class _MemoryTail(Tail):
    def __init__(
        self,
        made: Callable[[], Awaitable[MemoryStream]],
        on_entry: Callable[[Entry], None],
        on_replayed: Callable[[], None],
    ) -> None:
        self._made = made
        self._on_entry, self._on_replayed = on_entry, on_replayed

    async def start(self) -> None:
        """Hand over what is stored, and then what comes."""
        stream = await self._made()
        for one in stream.kept:
            self._on_entry(one.entry)
        stream.followers.append(self._on_entry)
        self._on_replayed()

    async def stop(self) -> None:
        """Follow no more."""
        (await self._made()).followers.remove(self._on_entry)

    def check(self) -> None:
        """It cannot have gone back."""

"""A store of claims as the core uses it, and a way between it and nats-server that loses what a test wants lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from bus import Bus, Streams
from bus.connection import BusError
from controller.core.stored import (
    ClaimFailed,
    ClaimNoticed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ClaimUnread,
    ReadClaim,
    ReleaseClaim,
    StoreEvent,
    StoreLevel,
    UnwatchClaim,
    WatchClaim,
    WriteClaim,
)
from controller.edge.claims import ClaimStore
from subjects.claims import ClaimRecord, ClaimState, StoredAnswer, claim_key
from subjects.names import Subjects
from tests.edge.peers import until

BUCKET, STREAM = "$KV.crank_idempotency.", "KV_crank_idempotency"
MB = 1024 * 1024
Outcome = ClaimStored | ClaimRefused | ClaimFailed
_nonces = itertools.count(1)


def key(name: str = "order-1") -> str:
    """A claim's name."""
    return claim_key("anonymous", "test:echo", name)


def record(state: ClaimState = "dispatching", body: bytes | None = None, **changed: Any) -> ClaimRecord:
    """A record with a nonce of its own, and an answer if there is a ``body``."""
    made = ClaimRecord(
        state=state,
        nonce=f"n{next(_nonces):x}",
        owner="c-1.b1",
        caller="anonymous",
        capability="test:echo",
        key="order-1",
        fingerprint=b"f" * 32,
        request_id="r-1",
        lease_s=15.0,
        window_s=3600.0,
        answer=None if body is None else StoredAnswer("w-1", "1.0.0", 1, body, passed="X-A: b\r\n"),
    )
    return msgspec.structs.replace(made, **changed)


class Probe:
    """One store, and everything that it told the core."""

    def __init__(self, bus: Bus, max_bytes: int, replicas: int, streams: Callable[[Bus], Streams] = Streams) -> None:
        self.bus = bus
        self.events: list[StoreEvent] = []
        self.store = ClaimStore(
            bus,
            streams(bus),
            Subjects(),
            replicas=replicas,
            max_bytes=max_bytes,
            feed=self.events.append,
        )

    @classmethod
    async def on(cls, url: str, max_bytes: int = 64 * MB, replicas: int = 1) -> Probe:
        """Connect and start, as a controller does."""
        made: list[Probe] = []

        async def back() -> None:
            made[0].store.check()

        probe = cls(await Bus.connect(url, name="probe", on_reconnect=back), max_bytes, replicas)
        made.append(probe)
        try:
            await probe.store.start()
        except BusError:
            await probe.close()
            raise
        return probe

    def send(self, command: WriteClaim | ReleaseClaim | ReadClaim | WatchClaim | UnwatchClaim) -> None:
        """Hand a command over as the driver does."""
        if (event := self.store.handlers[type(command)](command)) is not None:
            self.events.append(event)

    def put(self, name: str, written: ClaimRecord, seq: int = 0, ttl_s: int | None = None) -> None:
        """Hand over a write."""
        self.send(WriteClaim(key(name), written, seq, ttl_s))

    def outcomes(self, nonce: str) -> list[Outcome]:
        """What is known of a write."""
        return [event for event in self.events if isinstance(event, Outcome) and event.nonce == nonce]

    def unanswered(self, nonce: str) -> int:
        """How often it was told that nobody knows."""
        return sum(isinstance(event, ClaimUnanswered) and event.nonce == nonce for event in self.events)

    async def written(self, name: str, written: ClaimRecord, seq: int = 0, ttl_s: int | None = None) -> Outcome:
        """Write, and wait until it is known what came of it."""
        self.put(name, written, seq, ttl_s)
        return await self.outcome(written.nonce)

    async def outcome(self, nonce: str) -> Outcome:
        """Wait until it is known what came of a write."""
        await until(lambda: bool(self.outcomes(nonce)))
        return self.outcomes(nonce)[0]

    async def released(self, name: str, seq: int) -> None:
        """Release a key, and wait until it is."""
        self.send(ReleaseClaim(key(name), seq))

        async def free() -> bool:
            found = await self.read(name)
            return isinstance(found, ClaimRead) and found.record is None and found.seq > seq

        await eventually(free)

    async def read(self, name: str, *, kept: bool = False) -> ClaimRead | ClaimUnread:
        """Read, and wait for what comes of it."""
        before = len(self.events)
        self.send(ReadClaim(key(name), kept))

        def reads() -> list[ClaimRead | ClaimUnread]:
            events = self.events[before:]
            return [one for one in events if isinstance(one, ClaimRead | ClaimUnread) and one.key == key(name)]

        await until(lambda: bool(reads()))
        return reads()[0]

    def noticed(self, name: str) -> int:
        """How often a key was told of."""
        return self.events.count(ClaimNoticed(key(name)))

    async def watch(self, name: str, *others: Probe) -> None:
        """Have changes of a key told; returns when the others know."""
        self.send(WatchClaim(key(name)))
        self.send(ReadClaim(key(name), kept=False))
        for probe in (self, *others):
            await probe.bus.flush()

    @property
    def refuses(self) -> str | None:
        """Why no new claims are taken, as last told."""
        levels = [event.refuses for event in self.events if isinstance(event, StoreLevel)]
        return levels[-1] if levels else None

    async def close(self) -> None:
        """Stop and close."""
        await self.store.stop()
        await self.bus.close()


class Proxy:
    """A way to a server. ``deaf`` loses what the server says, ``mute`` what the client says; ``cut`` ends all."""

    def __init__(self, port: int) -> None:
        self.deaf = self.mute = False
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection, as a network does."""
        for writer in self._open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            upstream, server = await asyncio.open_connection("127.0.0.1", self._port)
            self._open |= {writer, server}
            await asyncio.gather(
                self._carry(reader, server, lambda: self.mute), self._carry(upstream, writer, lambda: self.deaf)
            )
            self._open -= {server}
            server.transport.abort()
        self._open -= {writer}
        writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: Callable[[], bool]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not lost():
                    writer.write(data)
        writer.transport.abort()


async def eventually(ask: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Wait until ``await ask()`` holds."""
    async with asyncio.timeout(timeout_s):
        while not await ask():
            await asyncio.sleep(0.02)

"""Owns the registry stream: manifests and departures as stored messages, and the replay that rebuilds the fleet.

A manifest is stored as it came, unknown fields too. Which of two writers wins is decided by the expected sequence,
and what a write means by the core.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from bus import Conflict, Entry, Stored, Streams, StreamSpec, Tail
from bus.connection import BusError
from controller.core.commands import ReadSubject, StoreDeparture, StoreManifest
from controller.core.events import (
    EntrySeen,
    Event,
    RegistryRestarted,
    StoredDeparture,
    StoredManifest,
    SubjectRead,
    WriteAnswered,
)
from controller.edge.background import Background
from controller.edge.inbound import digest_of
from subjects.errors import Refusal
from subjects.headers import parse_block
from subjects.manifests import parse_manifest
from subjects.messages import encode, parse_departure
from subjects.names import Subjects
from subjects.tokens import WorkerId

log = logging.getLogger("crank.registry")

# Departures keep a capability known for so long; they are never purged, since tails do not see a purge.
_DEPARTURE_TTL = timedelta(hours=1)
_STOP_S = 3.0
_KIND = "Crank-Registry"
_MANIFEST, _DEPARTURE = "manifest", "departure"


def registry_spec(subjects: Subjects, replicas: int) -> StreamSpec:
    """The registry's stream, as it should be."""
    return StreamSpec(subjects.stream_registry, f"{subjects.prefix}.registry.*", replicas)


TailOf = Callable[[StreamSpec, Callable[[Entry], None], Callable[[], None], Callable[[], None]], Tail]
"""Makes the tail of a stream from its three handlers; see ``bus.Tail``."""


class RegistryLog:
    """One controller's reading and writing of ``CRANK_REGISTRY``."""

    def __init__(
        self,
        streams: Streams,
        tail: TailOf,
        subjects: Subjects,
        replicas: int,
        feed: Callable[[Event], None],
    ) -> None:
        self._subjects = subjects
        self._feed = feed
        self._streams = streams
        self._spec = registry_spec(subjects, replicas)
        self.replayed = asyncio.Event()
        self._tail = tail(self._spec, self._entry, lambda: feed(RegistryRestarted()), self.replayed.set)
        self._background = Background()

    async def start(self) -> None:
        """Begin the replay, and follow the stream from then on; ``replayed`` is set when the replay is done.

        Raises:
            BusError: JetStream is off, full or unreachable.

        """
        await self._tail.start()

    async def stop(self) -> None:
        """Let writes that are under way finish, and stop following."""
        await self._background.stop(_STOP_S)
        await self._tail.stop()

    def check(self) -> None:
        """The connection came back: see whether the stream is still the same."""
        self._tail.check()

    def _entry(self, entry: Entry) -> None:
        read = self._read_entry(entry)
        if read is not None:
            self._feed(EntrySeen(read))

    def _read_entry(self, entry: Entry) -> StoredManifest | StoredDeparture | None:
        worker_id = self._subjects.parse_one("registry", entry.subject)
        block = parse_block(entry.headers)
        if worker_id is None or isinstance(block, Refusal):
            return None
        # Without a kind it is the end of a departure, whose time ran out.
        kind = block.ours.get(_KIND.lower())
        if kind == _DEPARTURE:
            departure = parse_departure(entry.body)
            return None if departure is None else StoredDeparture(WorkerId(worker_id), entry.seq, departure)
        if kind != _MANIFEST:
            return None
        manifest = parse_manifest(entry.body, worker_id)
        if isinstance(manifest, Refusal):
            log.warning("the stored manifest of %s cannot be read and is passed over: %s", worker_id, manifest.detail)
            return None
        return StoredManifest(manifest.worker_id, entry.seq, manifest, digest_of(entry.body))

    def store_manifest(self, command: StoreManifest) -> None:
        """Write a manifest; the answer comes as ``WriteAnswered``."""
        self._background.spawn(self._store(command.worker_id, _MANIFEST, command.body, command.expected_seq, None))

    def store_departure(self, command: StoreDeparture) -> None:
        """Write a departure; the answer comes as ``WriteAnswered``."""
        body = encode(command.departure)
        self._background.spawn(self._store(command.worker_id, _DEPARTURE, body, command.expected_seq, _DEPARTURE_TTL))

    def read(self, command: ReadSubject) -> None:
        """Read a worker's subject from the stream's leader; the answer comes as ``SubjectRead``."""
        self._background.spawn(self._read(command.worker_id))

    async def _store(self, worker_id: WorkerId, kind: str, body: bytes, expected: int, ttl: timedelta | None) -> None:
        subject = self._subjects.registry(worker_id)
        result = await self._streams.append(subject, body, expected_seq=expected, headers=((_KIND, kind),), ttl=ttl)
        if isinstance(result, Stored):
            self._feed(WriteAnswered(worker_id, result.seq))
        elif isinstance(result, Conflict):
            self._feed(WriteAnswered(worker_id, None, conflict=True))
        else:
            self._feed(WriteAnswered(worker_id, None, reason=result.reason))

    async def _read(self, worker_id: WorkerId) -> None:
        try:
            entry = await self._streams.read_last(self._spec.name, self._subjects.registry(worker_id))
        except BusError as error:
            log.warning("%s", error)
            self._feed(SubjectRead(worker_id, None, failed=True))
            return
        self._feed(SubjectRead(worker_id, None if entry is None else self._read_entry(entry)))

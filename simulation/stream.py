"""Owns the registry stream: the last entry of every worker, and compare-and-set by its sequence.

``simulation.controllers`` puts the network in between; ``tests/core`` asks it directly.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec

from controller.core.commands import ReadSubject, StoreDeparture, StoreManifest
from controller.core.events import StoredDeparture, StoredManifest, SubjectRead, WriteAnswered
from subjects.manifests import Manifest
from subjects.tokens import WorkerId

Entry = StoredManifest | StoredDeparture


def digest_of(body: bytes) -> bytes:
    """As the edge makes it."""
    return hashlib.blake2b(body, digest_size=8).digest()


# The same manifest is stored, and read by every controller, again and again.
_decode = lru_cache(maxsize=1024)(msgspec.json.Decoder(Manifest).decode)


def stored(body: bytes, seq: int) -> StoredManifest:
    """A manifest's bytes as the stream's entry number ``seq``."""
    manifest = _decode(body)
    return StoredManifest(manifest.worker_id, seq, manifest, digest_of(body))


class Stream(dict[WorkerId, Entry]):
    """The last entry by worker; ``seq`` is the last sequence, and ``created`` tells one stream from the next."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = 0
        self.created = 1

    def answer(self, command: StoreManifest | StoreDeparture | ReadSubject) -> WriteAnswered | SubjectRead:
        """Carry out a write or a read at once, and say what came of it."""
        worker_id = command.worker_id
        last = self.get(worker_id)
        if isinstance(command, ReadSubject):
            return SubjectRead(worker_id, last)
        if command.expected_seq != (last.seq if last is not None else 0):
            return WriteAnswered(worker_id, None, conflict=True)
        self.seq += 1
        if isinstance(command, StoreManifest):
            self[worker_id] = stored(command.body, self.seq)
        else:
            self[worker_id] = StoredDeparture(worker_id, self.seq, command.departure)
        return WriteAnswered(worker_id, self.seq)

    def after(self, seq: int) -> list[Entry]:
        """What a tail that has read as far as ``seq`` is given: the entries that are still the last of their worker."""
        return sorted((entry for entry in self.values() if entry.seq > seq), key=lambda entry: entry.seq)

    def replace(self) -> None:
        """Begin anew, as an empty stream."""
        self.clear()
        self.seq = 0
        self.created += 1

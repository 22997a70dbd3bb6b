"""Owns the answers that are too large to stand in a record: which are, and where their bodies are kept instead.

A body is stored before the record that names it and lives longer, so that a record that can be read has its answer.
``claims`` calls it, and so does whoever keeps results.
"""

from __future__ import annotations

import msgspec

from bus import Bus, StreamSpec
from bus.connection import BusError
from bus.objects import Objects
from bus.specs import object_store
from subjects.claims import ClaimRecord
from subjects.headers import MAX_BLOCK_BYTES
from subjects.names import Subjects

# Values of megabytes would make every reading of the bucket one of megabytes.
_MOST_IN_A_RECORD_BYTES = 512 * 1024
# Beside a body, a record holds the answer's header lines and its own few hundred bytes.
_RECORD_ROOM_BYTES = 2 * MAX_BLOCK_BYTES
# What a record may be stored later than the body, and read before it goes.
_LONGER_S = 120


def answers_spec(subjects: Subjects, replicas: int, max_bytes: int) -> StreamSpec:
    """The object store of bodies, as it should be."""
    return object_store(subjects.bucket_answers, replicas, max_bytes)


class KeptAnswers:
    """The bodies of large answers, in an object store."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._objects = Objects(bus, subjects.bucket_answers)

    def too_large(self, record: ClaimRecord) -> bool:
        """Whether the answer's body has to be kept apart."""
        answer = record.answer
        if answer is None:
            return False
        size = len(answer.body)
        return size > _MOST_IN_A_RECORD_BYTES or size > self._bus.max_body_bytes - _RECORD_ROOM_BYTES

    async def keep(self, record: ClaimRecord, name: str, ttl_s: int | None) -> ClaimRecord:
        """Store the body under ``name``, a token that nothing else is kept under; returns the record without it.

        Raises:
            BusError: it is not stored, for all that is known.

        """
        answer = record.answer
        assert answer is not None, "asked only about records with an answer"
        await self._objects.put(name, answer.body, None if ttl_s is None else ttl_s + _LONGER_S)
        return msgspec.structs.replace(record, answer=msgspec.structs.replace(answer, body=b"", blob=name))

    async def whole(self, record: ClaimRecord) -> ClaimRecord:
        """The record with its answer's body where it was before ``keep``.

        Raises:
            BusError: it cannot be read, or is gone.

        """
        answer = record.answer
        assert answer is not None, "asked only about records that name a body"
        body = await self._objects.get(answer.blob, self._bus.max_payload_bytes)
        if body is None:
            raise BusError("the stored answer's body is gone from the object store, or damaged")
        return msgspec.structs.replace(record, answer=msgspec.structs.replace(answer, body=body, blob=""))

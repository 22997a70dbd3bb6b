"""Owns the writes of claims until it is known what came of each: acknowledged, refused, or certainly not stored.

This is a keyed request's path: one message out and its acknowledgement in, without a task, future or timer of its own.
What was not acknowledged is sent again in the same bytes; where it is refused then, the record that stands tells by its
nonce whose write was stored (a message id would not help: JetStream checks the sequence first). ``claims`` calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from bus import Conflict, Stored
from bus.answers import NOBODY_STORES, read_ack
from bus.connection import BusError
from bus.questions import PATIENCE_S, Question, Questions
from controller.core.claim_states import HELD
from controller.core.stored import (
    ClaimFailed,
    ClaimRefused,
    ClaimStored,
    ClaimUnanswered,
    ReleaseClaim,
    StoreEvent,
    WriteClaim,
)
from controller.edge.background import Background
from controller.edge.claim_reads import ClaimReads, Found, Unread
from controller.edge.kept_answers import KeptAnswers
from subjects.claims import ClaimRecord, encode_claim
from subjects.names import Subjects

# A forgotten key keeps its sequence for so long, against writes that are still on their way.
_RELEASED_S = 60
_RELEASE_TRIES = 5
# A write that is refused while what it expects stands there: another one is being stored on the replicas.
_BEING_STORED_S = 0.1


class ClaimWrites:
    """One controller's writes."""

    def __init__(
        self,
        questions: Questions,
        reads: ClaimReads,
        kept: KeptAnswers,
        background: Background,
        subjects: Subjects,
        feed: Callable[[StoreEvent], None],
        tell: Callable[[str], None],
    ) -> None:
        self.feed = feed
        self.tell = tell
        self.now = asyncio.get_running_loop().time
        self._questions = questions
        self._reads = reads
        self._kept = kept
        self._background = background
        self._prefix = f"$KV.{subjects.bucket_idempotency}."

    def write(self, command: WriteClaim) -> None:
        """Store a record if the key's last sequence is still the expected one; the core is told once."""
        if command.record.answer is not None and self._kept.too_large(command.record):
            self._background.spawn(self._keep_and_write(command))
        else:
            self._write(command, command.record)

    def release(self, command: ReleaseClaim) -> None:
        """Forget a key if its last sequence is still the expected one."""
        headers = (
            f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {command.expected_seq}\r\n"
            f"KV-Operation: DEL\r\nNats-TTL: {_RELEASED_S}s\r\n\r\n"
        )
        release = _Release(self._prefix + command.key, headers.encode(), partial(self.tell, command.key))
        if not self._questions.ask(release):
            self._questions.ask_later(release, PATIENCE_S)

    def stored(self, write: Write, seq: int) -> None:
        """It is acknowledged; what others may be waiting for, they are told of."""
        self.feed(ClaimStored(write.key, write.nonce, seq))
        if write.frees:
            self.tell(write.key)

    def settle(self, write: Write, reason: str) -> None:
        """Tell what came of a write by what stands there; ``reason`` is JetStream's, where it is not the sequence."""
        self._reads.ask(write.key, partial(self._stands, write, reason))

    def _write(self, command: WriteClaim, record: ClaimRecord) -> None:
        ttl = "" if command.ttl_s is None else f"Nats-TTL: {command.ttl_s}s\r\n"
        headers = (
            f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {command.expected_seq}\r\n"
            f"Crank-Claim: {record.state}\r\n{ttl}\r\n"
        )
        write = Write(self, command, self._prefix + command.key, encode_claim(record), headers.encode())
        if not self._questions.ask(write):
            self.feed(ClaimFailed(command.key, record.nonce, self._questions.why_not(write)))

    async def _keep_and_write(self, command: WriteClaim) -> None:
        record = command.record
        try:
            kept = await self._kept.keep(record, f"{command.key}-{record.nonce}", command.ttl_s)
        except BusError as error:
            self.feed(ClaimFailed(command.key, record.nonce, f"the answer's body is not stored: {error}"))
        else:
            self._write(command, kept)

    def _stands(self, write: Write, reason: str, found: Found | Unread) -> None:
        key, nonce = write.key, write.nonce

        def failed(why: str) -> None:
            self.feed(ClaimFailed(key, nonce, why))

        if isinstance(found, Unread):
            if found.stands:
                failed(found.reason)
            else:
                self._questions.ask_later(write, PATIENCE_S)
            return
        record, seq = found
        if record is not None and record.nonce == nonce:
            self.stored(write, seq)
        elif seq != write.expected_seq:
            self._reads.whole(record, lambda whole: self.feed(ClaimRefused(key, nonce, whole, seq)), failed)
        elif reason:
            failed(reason)
        else:
            self._questions.ask_later(write, _BEING_STORED_S)


class Write(Question):
    """A record on its way."""

    __slots__ = ("_told", "_writes", "expected_seq", "frees", "key", "nonce")

    def __init__(self, writes: ClaimWrites, command: WriteClaim, subject: str, body: bytes, headers: bytes) -> None:
        super().__init__(subject, body, headers)
        self.key, self.nonce, self.expected_seq = command.key, command.record.nonce, command.expected_seq
        record = command.record
        # A job that waits again may be worked on by whoever has its delivery.
        self.frees = record.state not in HELD or (record.job and record.state == "waiting" and self.expected_seq > 0)
        self._writes = writes
        self._told = False

    def answered(self, body: bytes) -> float | None:
        """Stored, refused, or neither."""
        known = read_ack(body)
        if isinstance(known, Stored):
            self._writes.stored(self, known.seq)
        elif known is None:
            return PATIENCE_S
        elif isinstance(known, Conflict):
            self._writes.settle(self, "")
        elif self.times > 1:  # an earlier one may have been stored
            self._writes.settle(self, known.reason)
        else:
            self._writes.feed(ClaimFailed(self.key, self.nonce, known.reason))
        return None

    def unheard(self) -> float | None:
        """Nobody stores; known of this time, not of earlier ones."""
        if self.times > 1:
            return PATIENCE_S
        self._writes.feed(ClaimFailed(self.key, self.nonce, NOBODY_STORES))
        return None

    def overdue(self) -> bool:
        """The core is told once, and the write goes out again."""
        if not self._told and self._writes.now() - self.since >= PATIENCE_S:
            self._told = True
            self._writes.feed(ClaimUnanswered(self.key, self.nonce))
        return True


class _Release(Question):
    """A key on its way to be forgotten; where that fails for good, the lease of its claim runs out."""

    __slots__ = ("_tell",)

    def __init__(self, subject: str, headers: bytes, tell: Callable[[], None]) -> None:
        super().__init__(subject, b"", headers)
        self._tell = tell

    def answered(self, body: bytes) -> float | None:
        if isinstance(read_ack(body), Stored | Conflict):  # a conflict may be with an earlier one that was stored
            self._tell()
            return None
        return None if self.times >= _RELEASE_TRIES else PATIENCE_S

    def unheard(self) -> float | None:
        return PATIENCE_S

    def overdue(self) -> bool:
        return True

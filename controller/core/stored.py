"""Owns what passes between the core and the stores of claims, jobs and results: commands out, events in.

A claim has one write under way at a time. The edge repeats a write until it knows what came of it; a store that
answers is never asked twice about the same bytes with another meaning.
"""

from __future__ import annotations

from typing import Any

import msgspec

from controller.core.model import Request
from subjects.claims import ClaimRecord
from subjects.tokens import CapabilityId

# Commands ------------------------------------------------------------------------


class WriteClaim(msgspec.Struct, frozen=True):
    """Store ``record`` if the key's last sequence is still ``expected_seq`` (0: there is none).

    Answered by exactly one of ``ClaimStored``, ``ClaimRefused`` and ``ClaimFailed`` with the record's nonce; before
    it, ``ClaimUnanswered`` may come while nobody knows. ``ttl_s`` None means for ever.
    """

    key: str
    record: ClaimRecord
    expected_seq: int
    ttl_s: int | None


class ReleaseClaim(msgspec.Struct, frozen=True):
    """Forget the key if its last sequence is still ``expected_seq``. Not answered."""

    key: str
    expected_seq: int


class ReadClaim(msgspec.Struct, frozen=True):
    """Read the key from its leader; answered by ``ClaimRead`` or ``ClaimUnread``.

    With ``kept`` a job that the claims have forgotten is looked up among the results, where its sequence is 0.
    """

    key: str
    kept: bool = False


class WatchClaim(msgspec.Struct, frozen=True):
    """Ask the other controllers, with each reading from now on, to say when nobody holds the key any more."""

    key: str


class UnwatchClaim(msgspec.Struct, frozen=True):
    """Nobody here waits for changes of the key any more."""

    key: str


class AppendJob(msgspec.Struct, frozen=True):
    """Add an accepted job to the stream of jobs, once under ``message_id``; answered by ``Appended``."""

    life: Any
    request: Request
    job_id: str
    message_id: str


class AppendDead(msgspec.Struct, frozen=True):
    """Add a job that will not be tried again to the stream of dead ones, once; answered by ``Appended``."""

    life: Any
    request: Request
    job_id: str
    message_id: str
    record: ClaimRecord


class KeepResult(msgspec.Struct, frozen=True):
    """Keep a job's final record among the results; answered by ``Appended``."""

    life: Any
    job_id: str
    record: ClaimRecord


class DropDead(msgspec.Struct, frozen=True):
    """Remove one message from the stream of dead jobs. Not answered."""

    seq: int


class AckJob(msgspec.Struct, frozen=True):
    """The delivery is dealt with: the stream forgets the job."""

    delivery: str


class NakJob(msgspec.Struct, frozen=True):
    """Deliver it again, to anyone, after ``delay_s``."""

    delivery: str
    delay_s: float


class ExtendJob(msgspec.Struct, frozen=True):
    """The delivery is being worked on: do not deliver it to another controller yet."""

    delivery: str


class PullJobs(msgspec.Struct, frozen=True):
    """Ask for up to ``count`` jobs of a capability; ``PullEnded`` says that no more come from this one."""

    capability: CapabilityId
    count: int


# Events --------------------------------------------------------------------------


class ClaimStored(msgspec.Struct, frozen=True):
    """The write is acknowledged under ``seq``."""

    key: str
    nonce: str
    seq: int


class ClaimRefused(msgspec.Struct, frozen=True):
    """Somebody else wrote before: ``record`` stands under ``seq``; None when it is free."""

    key: str
    nonce: str
    record: ClaimRecord | None
    seq: int


class ClaimFailed(msgspec.Struct, frozen=True):
    """Nothing was stored, for certain."""

    key: str
    nonce: str
    reason: str


class ClaimUnanswered(msgspec.Struct, frozen=True):
    """Nobody knows yet whether it was stored; the write is repeated until it is known."""

    key: str
    nonce: str


class ClaimRead(msgspec.Struct, frozen=True):
    """The key as its leader has it: ``record`` None when it is free; ``seq`` is that of its last message, or 0."""

    key: str
    record: ClaimRecord | None
    seq: int


class ClaimUnread(msgspec.Struct, frozen=True):
    """The key could not be read; nothing is known."""

    key: str
    reason: str


class ClaimNoticed(msgspec.Struct, frozen=True):
    """Nobody holds the key any more, another controller says: it is worth reading."""

    key: str


class StoreLevel(msgspec.Struct, frozen=True):
    """Why the store of claims takes no new ones ("" when it does): it is nearly full, or was made otherwise."""

    refuses: str


class Appended(msgspec.Struct, frozen=True):
    """A job, a dead job or a result was stored (``reason`` None), or was not: ``certain``, or for all that is known."""

    life: Any
    reason: str | None
    certain: bool = False


class JobDelivered(msgspec.Struct, frozen=True):
    """The stream hands a job out. ``delivery`` is opaque: what its acknowledgement is sent to."""

    request: Request
    job_id: str
    delivery: str


class JobsKnown(msgspec.Struct, frozen=True):
    """There is, or was, a job of this capability: it can be pulled from."""

    capability: CapabilityId


class PullEnded(msgspec.Struct, frozen=True):
    """A ``PullJobs`` is over: it brought all it asked for, or its time ran out, or it failed."""

    capability: CapabilityId


StoreCommand = (
    WriteClaim
    | ReleaseClaim
    | ReadClaim
    | WatchClaim
    | UnwatchClaim
    | AppendJob
    | AppendDead
    | KeepResult
    | DropDead
    | AckJob
    | NakJob
    | ExtendJob
    | PullJobs
)
StoreEvent = (
    ClaimStored
    | ClaimRefused
    | ClaimFailed
    | ClaimUnanswered
    | ClaimRead
    | ClaimUnread
    | ClaimNoticed
    | StoreLevel
    | Appended
    | JobDelivered
    | JobsKnown
    | PullEnded
)

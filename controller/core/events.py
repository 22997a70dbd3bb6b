"""Owns everything that can happen to the core. The edge and the simulation make these; ``router`` takes them in."""

from __future__ import annotations

from typing import Any

import msgspec

from controller.core.model import Request, Verdict
from controller.core.objectives import Rules
from controller.core.stored import Appended, StoreEvent
from subjects.answers import Answer
from subjects.claims import ClaimRecord, StoredAnswer
from subjects.manifests import Manifest
from subjects.messages import Departure, Deregister, Heartbeat
from subjects.slo_counts import CountsMessage, Period
from subjects.tokens import DispatchId, RequestId, WorkerId


class RequestArrived(msgspec.Struct, frozen=True):
    """A caller wants something done."""

    request: Request


class RulesChanged(msgspec.Struct, frozen=True):
    """The files of objectives and rates say this from now on."""

    rules: Rules


class CountingBegins(msgspec.Struct, frozen=True):
    """Counts are exchanged with other controllers from now on; what they stored is being read."""


class PeerCounts(msgspec.Struct, frozen=True):
    """What a controller stored of its counts. ``live``: it was stored just now."""

    period: Period
    message: CountsMessage
    live: bool


class CountsKnown(msgspec.Struct, frozen=True):
    """All that was stored of counts is read, or cannot be for now."""


class CountingEnds(msgspec.Struct, frozen=True):
    """The controller stops: it says goodbye with its last counts."""


class ClockSet(msgspec.Struct, frozen=True):
    """The wall clock is so far ahead of ``now``; it was set, or the machine slept."""

    wall_offset_s: float


class VerdictReached(msgspec.Struct, frozen=True):
    """The policy engine answered an ``Authorize``; ``life`` is the command's, opaque."""

    life: Any
    verdict: Verdict


class Answered(msgspec.Struct, frozen=True):
    """A worker, or nats-server in its place, answered a dispatch."""

    dispatch_id: DispatchId
    answer: Answer


class CancelAsked(msgspec.Struct, frozen=True):
    """A caller cancels. ``last`` marks the one controller that says so when nobody owns the request."""

    caller: str
    request_id: RequestId
    reply: str
    last: bool


class RegisterAsked(msgspec.Struct, frozen=True):
    """A worker registers. ``body`` is stored as it came; ``digest`` tells whether it is the one already stored."""

    manifest: Manifest
    digest: bytes
    body: bytes
    reply: str


class DeregisterAsked(msgspec.Struct, frozen=True):
    """A worker leaves."""

    worker_id: WorkerId
    message: Deregister
    reply: str


class HeartbeatSeen(msgspec.Struct, frozen=True):
    """A worker says that it is there."""

    worker_id: WorkerId
    heartbeat: Heartbeat


class StoredManifest(msgspec.Struct, frozen=True):
    """A manifest in the registry stream: its sequence, and the digest of its bytes."""

    worker_id: WorkerId
    seq: int
    manifest: Manifest
    digest: bytes


class StoredDeparture(msgspec.Struct, frozen=True):
    """A departure in the registry stream."""

    worker_id: WorkerId
    seq: int
    departure: Departure


class EntrySeen(msgspec.Struct, frozen=True):
    """The registry's tail brought an entry."""

    entry: StoredManifest | StoredDeparture


class RegistryRestarted(msgspec.Struct, frozen=True):
    """The registry stream was recreated or went back: what is known may no longer be stored."""


class WriteAnswered(msgspec.Struct, frozen=True):
    """A write to the registry came back: ``seq`` when stored, ``conflict``, or neither and the reason."""

    worker_id: WorkerId
    seq: int | None
    conflict: bool = False
    reason: str = ""


class SubjectRead(msgspec.Struct, frozen=True):
    """A worker's subject in the registry was read: its entry or None; ``failed`` when nothing is known."""

    worker_id: WorkerId
    entry: StoredManifest | StoredDeparture | None
    failed: bool = False


class Stalled(msgspec.Struct, frozen=True):
    """The process stood still (frozen, swapped out, starved) for so many milliseconds."""

    ms: float


class ResolveAsked(msgspec.Struct, frozen=True):
    """An operator says what became of a request whose outcome is unknown: its answer, or None to forget its key."""

    request: Request
    answer: StoredAnswer | None


class RetryAsked(msgspec.Struct, frozen=True):
    """An operator has a dead job tried again; ``dead_seq`` is its message among the dead."""

    request: Request
    dead_seq: int


class Closing(msgspec.Struct, frozen=True):
    """The controller stops now: whatever has no reply yet gets one."""


class Tick(msgspec.Struct, frozen=True):
    """Time has passed; something may be due."""


# What a life is sent beside the answers to its commands --------------------------


class DeadlinePassed(msgspec.Struct, frozen=True):
    """The life's time ran out."""


class Cancelled(msgspec.Struct, frozen=True):
    """The caller cancelled this life."""


class GivenUp(msgspec.Struct, frozen=True):
    """The controller stops."""


class WorkerLost(msgspec.Struct, frozen=True):
    """The worker that had the dispatch went away: silent for too long, or restarted."""

    reason: str


class Woken(msgspec.Struct, frozen=True):
    """An offer of the pool that the life waits for may be free."""


class MadeRoom(msgspec.Struct, frozen=True):
    """A more urgent request has its place in the queue, which is full."""


class Won(msgspec.Struct, frozen=True):
    """The claim is this life's, and says what it asked for."""


class Held(msgspec.Struct, frozen=True):
    """The key's record is somebody else's. ``lapsed``: it stood unchanged for longer than its lease."""

    record: ClaimRecord
    lapsed: bool = False


class Free(msgspec.Struct, frozen=True):
    """Nothing stands under the key."""


class Lost(msgspec.Struct, frozen=True):
    """The store cannot say or protect anything, and why. Nothing was stored."""

    reason: str


class Unsure(msgspec.Struct, frozen=True):
    """The store has not said for a while whether it stored something; it is still being asked."""


Event = (
    RequestArrived
    | RulesChanged
    | CountingBegins
    | PeerCounts
    | CountsKnown
    | CountingEnds
    | ClockSet
    | VerdictReached
    | Answered
    | CancelAsked
    | RegisterAsked
    | DeregisterAsked
    | HeartbeatSeen
    | EntrySeen
    | RegistryRestarted
    | WriteAnswered
    | SubjectRead
    | ResolveAsked
    | RetryAsked
    | Stalled
    | Closing
    | Tick
    | StoreEvent
)
LifeEvent = (
    VerdictReached
    | Answer
    | DeadlinePassed
    | Cancelled
    | GivenUp
    | WorkerLost
    | Woken
    | MadeRoom
    | Won
    | Held
    | Free
    | Lost
    | Unsure
    | Appended
)

DEADLINE_PASSED = DeadlinePassed()
CANCELLED = Cancelled()
GIVEN_UP = GivenUp()
WOKEN = Woken()
MADE_ROOM = MadeRoom()
WON = Won()
FREE = Free()
UNSURE = Unsure()
TICK = Tick()

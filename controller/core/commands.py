"""Owns everything the core can ask of the world. The driver carries these out; the simulation pretends to."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from controller.core.fleet import Offer
from controller.core.model import DecisionRecord, Request
from controller.core.pools import Pool
from controller.core.stored import AckJob, AppendDead, AppendJob, DropDead, KeepResult, NakJob, StoreCommand
from subjects.answers import Frame
from subjects.claims import ClaimState, StoredAnswer, StoredError
from subjects.errors import Refusal
from subjects.messages import Control, Departure
from subjects.replies import ReplyMeta
from subjects.slo_counts import CountsMessage, Period
from subjects.tokens import WorkerId

Severity = Literal["info", "warning", "critical"]


class Authorize(msgspec.Struct, frozen=True):
    """Ask the policy engine; answered by ``VerdictReached`` with the same ``life``."""

    life: Any
    request: Request


class Dispatch(msgspec.Struct, frozen=True):
    """Send the request to a worker; answered by ``Answered`` with this dispatch id."""

    dispatch_id: str
    address: str
    """``<worker_id>.<verb>.<name>``."""
    version: str
    request: Request
    attempt: int
    timeout_ms: int
    traceparent: str


class Answer(msgspec.Struct, frozen=True):
    """The caller's answer, or a frame of it: ``frame`` is "" for a whole answer."""

    reply: str
    meta: ReplyMeta
    content_type: str | None
    passed: str
    body: bytes
    frame: str = ""
    seq: int = 0
    error: StoredError | None = None
    """Of an answer that was kept and is one."""


class Refuse(msgspec.Struct, frozen=True):
    """The caller's refusal; with ``frame`` it ends a stream."""

    reply: str
    meta: ReplyMeta
    refusal: Refusal
    frame: str = ""
    seq: int = 0


class Record(msgspec.Struct, frozen=True):
    """Tell those who listen what was decided."""

    record: DecisionRecord


class SendControl(msgspec.Struct, frozen=True):
    """A control message to a worker."""

    worker_id: WorkerId
    control: Control


class StoreManifest(msgspec.Struct, frozen=True):
    """Write a manifest to the registry under ``expected_seq``; answered by ``WriteAnswered``."""

    worker_id: WorkerId
    body: bytes
    expected_seq: int


class StoreDeparture(msgspec.Struct, frozen=True):
    """Write a departure to the registry under ``expected_seq``; answered by ``WriteAnswered``."""

    worker_id: WorkerId
    departure: Departure
    expected_seq: int


class ReadSubject(msgspec.Struct, frozen=True):
    """Read a worker's subject in the registry; answered by ``SubjectRead``."""

    worker_id: WorkerId


class ReplyJson(msgspec.Struct, frozen=True):
    """A JSON answer to a control request."""

    reply: str
    body: bytes


class ReplyRefusal(msgspec.Struct, frozen=True):
    """A refusal of a control request."""

    reply: str
    refusal: Refusal


class Publish(msgspec.Struct, frozen=True):
    """A change of state, for anyone: ``<prefix>.event.<kind>.<name>``."""

    kind: str
    name: str
    body: dict[str, Any]


class Alert(msgspec.Struct, frozen=True):
    """Tell people: the words, and what they are about. ``recovered`` ends the affair of its ``key``.

    ``event`` is burning, exhausted, recovered or budget.
    """

    channel: str
    text: str
    event: str
    severity: Severity
    key: str
    body: dict[str, Any]


class WriteCounts(msgspec.Struct, frozen=True):
    """Tell the other controllers, and those to come, what was counted; it replaces what was written of the period."""

    period: Period
    message: CountsMessage


Command = (
    Authorize
    | Dispatch
    | Answer
    | Refuse
    | Record
    | SendControl
    | StoreManifest
    | StoreDeparture
    | ReadSubject
    | ReplyJson
    | ReplyRefusal
    | Publish
    | Alert
    | WriteCounts
    | StoreCommand
)

# What a life asks of the router, which turns some of it into the commands above ----


class Ask(msgspec.Struct, frozen=True):
    """Have the policy asked."""


class Put(msgspec.Struct, frozen=True):
    """Have the key's claim say ``state``; answered by Won, Held, Free, Lost or Unsure.

    ``offer`` is who will do the work: its place is kept meanwhile. ``over``: what stands there may be replaced.
    """

    state: ClaimState
    offer: Offer | None = None
    over: bool = False
    answer: StoredAnswer | None = None
    reason: str = ""
    published: bool = False


class Linger(msgspec.Struct, frozen=True):
    """Wait for what comes of a ``Put`` that is still under way."""


class Release(msgspec.Struct, frozen=True):
    """Have the key forgotten: nothing ran, or running it again does no harm."""


class Attach(msgspec.Struct, frozen=True):
    """Wait until what stands under the key changes, or lapses; answered by Held or Free."""


class Observe(msgspec.Struct, frozen=True):
    """Keep an eye on the key for a while, so that whoever asks next knows whether it lapsed."""


class Look(msgspec.Struct, frozen=True):
    """Read what stands under the key; answered by Held, Free or Lost. ``kept``: results of old jobs too."""

    kept: bool = False


class Reply(msgspec.Struct, frozen=True):
    """Give the caller this as the terminal reply now; the life goes on without one."""

    outcome: Any


class Restart(msgspec.Struct, frozen=True):
    """Have the time that the request may take begin now: its own, or ``for_s``."""

    for_s: float | None = None


class Pause(msgspec.Struct, frozen=True):
    """Wait so many seconds."""

    for_s: float


class Store(msgspec.Struct, frozen=True):
    """Carry out a command that is answered by ``Appended``, and wait for that."""

    command: AppendJob | AppendDead | KeepResult


class Tell(msgspec.Struct, frozen=True):
    """Carry out a command that nobody answers."""

    command: AckJob | NakJob | DropDead


class Wait(msgspec.Struct, frozen=True):
    """Wait until an offer of ``pool`` may be free, and no longer than ``for_s`` without thinking again."""

    pool: Pool
    for_s: float


class Send(msgspec.Struct, frozen=True):
    """Send the request to ``offer``, with ``timeout_ms`` left."""

    offer: Offer
    timeout_ms: int


class Forward(msgspec.Struct, frozen=True):
    """Pass a frame on to the caller, and wait for what follows it."""

    frame: Frame


class GiveUp(msgspec.Struct, frozen=True):
    """Tell the worker that nobody waits for this dispatch any more."""


class Follow(msgspec.Struct, frozen=True):
    """Go on waiting for the dispatch; with ``stop`` the worker is told to stop, and its answer still counts."""

    stop: bool = False


Step = (
    Ask
    | Put
    | Linger
    | Release
    | Attach
    | Observe
    | Look
    | Reply
    | Restart
    | Pause
    | Store
    | Tell
    | Wait
    | Send
    | Forward
    | GiveUp
    | Follow
)

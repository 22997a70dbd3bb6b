"""Owns everything the core can ask of the world. The driver carries these out; the simulation pretends to."""

from __future__ import annotations

from typing import Any

import msgspec

from controller.core.fleet import Offer
from controller.core.model import DecisionRecord, Request
from controller.core.pools import Pool
from subjects.answers import Frame
from subjects.errors import Refusal
from subjects.messages import Control, Departure
from subjects.replies import ReplyMeta
from subjects.tokens import WorkerId


class Authorize(msgspec.Struct, frozen=True):
    """Ask the policy engine; answered by ``VerdictReached`` with the same ``life``."""

    life: Any
    request: Request


class Claim(msgspec.Struct, frozen=True):
    """Claim the request's idempotency key before it is dispatched; answered by ``ClaimAnswered``."""

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
    body: dict[str, str]


Command = (
    Authorize
    | Claim
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
)

# What a life asks of the router, which turns some of it into the commands above ----


class Ask(msgspec.Struct, frozen=True):
    """Have the policy asked."""


class Protect(msgspec.Struct, frozen=True):
    """Have the key claimed."""


class Wait(msgspec.Struct, frozen=True):
    """Wait until an offer of ``pool`` may be free."""

    pool: Pool


class Send(msgspec.Struct, frozen=True):
    """Send the request to ``offer``, with ``timeout_ms`` left."""

    offer: Offer
    attempt: int
    timeout_ms: int


class Forward(msgspec.Struct, frozen=True):
    """Pass a frame on to the caller, and wait for what follows it."""

    frame: Frame


class GiveUp(msgspec.Struct, frozen=True):
    """Tell the worker that nobody waits for this dispatch any more."""


Step = Ask | Protect | Wait | Send | Forward | GiveUp

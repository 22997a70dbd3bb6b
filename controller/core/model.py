"""Owns the values that pass between the core and the world: a request, a verdict, a decision record.

``events`` are what happens to the core, ``commands`` what it asks for; both are made of these.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from controller.core.selection import Candidate
from subjects.requests import RequestHeaders
from subjects.tokens import CapabilityId, RequestId

Status = Literal["success", "error", "rejected"]
Action = Literal["request", "submit", "job", "result", "cancel", "resolve", "retry"]


class Request(msgspec.Struct, frozen=True):
    """One request as it arrived. ``reply`` is where its answer goes; ``passed`` the caller's own header lines."""

    capability: CapabilityId
    caller: str
    request_id: RequestId
    reply: str
    headers: RequestHeaders
    body: bytes
    passed: str = ""
    action: Action = "request"
    """What is asked for: an answer, an acceptance, a job's delivery, or something about a claim or job."""
    job_id: str = ""
    """The claim that the action is about, where it names one."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy's word on a caller and a capability, and how long it holds, in seconds."""

    allow: bool
    reason: str
    valid_for_s: float
    unavailable: bool = False
    """The engine gave no clear answer: a denial with a code of its own."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dispatch: to whom, and what came of it. Times are milliseconds since the request arrived."""

    worker_id: str
    dispatch_id: str
    sent_ms: float
    ended_ms: float
    end: str


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the time went, milliseconds."""

    total_ms: float
    queued_ms: float = 0.0
    worker_ms: float = 0.0


class Aim(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked of the choice, and what was expected of it."""

    objective_ms: float | None = None
    """The request's own objective or its capability's, whichever is tighter."""
    expected_ms: float = 0.0
    """What the slowest answers of the chosen worker took."""
    price_tokens: float = 0.0
    would: str = ""
    """The suffix of the error that it would have been refused with if the objective were enforced."""


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided about one request, and why."""

    request_id: str
    capability: str
    caller: str
    controller: str
    status: Status
    outcome: str
    """``answered``, ``would_dispatch``, or the suffix of the error's type."""
    chosen: str | None
    version: str | None
    verdict: Verdict | None
    attempts: tuple[Attempt, ...]
    timings: Timings
    detail: str | None = None
    aim: Aim | None = None
    """Where there is an objective, or a price."""
    candidates: tuple[Candidate, ...] = ()
    """Filled in for a dry run."""


class CheckInput(Protocol):
    """Validates a body against a JSON Schema given as text: None, or why it does not fit."""

    def __call__(self, schema: str, body: bytes) -> Mismatch | None:
        """Check ``body``."""
        ...


class Mismatch(msgspec.Struct, frozen=True):
    """Why a body does not fit its schema. ``path`` is a JSON pointer-like path, empty for the whole body."""

    is_json: bool
    path: str
    message: str


class Timeouts(Protocol):
    """How patient a caller is that does not say so; the objectives' files will answer."""

    def timeout_ms(self, capability: CapabilityId) -> int:
        """Milliseconds, from 1 to a day."""
        ...

"""Owns every error code of the contract and the problem body (RFC 9457) that explains it.

A refusal is a value: it is built where the reason is known and becomes bytes at the edge. Nothing here
decides anything.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

PROBLEM_CONTENT_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:crank:error:"


class ErrorKind(Enum):
    """A row of the error table: status code, suffix of the ``type`` URN, title."""

    MALFORMED = (400, "malformed", "The request cannot be read")
    UNAUTHENTICATED = (401, "unauthenticated", "An identity is required")
    OVER_BUDGET = (402, "over_budget", "No worker within the budget")
    POLICY_DENIED = (403, "policy_denied", "The policy denies this request")
    NO_SUCH_CAPABILITY = (404, "no_such_capability", "Nobody has ever offered this capability")
    NO_SUCH_JOB = (404, "no_such_job", "No such job")
    NO_SUCH_REQUEST = (404, "no_such_request", "No such request")
    IN_PROGRESS = (409, "in_progress", "The first request with this key is still running")
    OUTCOME_UNKNOWN = (409, "outcome_unknown", "The first attempt may have run")
    WORKER_ID_TAKEN = (409, "worker_id_taken", "A live worker has this id")
    NO_MATCH = (412, "no_match", "No worker fits this request")
    TOO_LARGE = (413, "too_large", "The message is too large")
    KEY_REUSED = (422, "key_reused", "This key was used with another payload")
    INVALID_INPUT = (422, "invalid_input", "The payload does not fit the input schema")
    RATE_LIMITED = (429, "rate_limited", "Too many requests")
    CANCELLED = (499, "cancelled", "The caller cancelled")
    WORKER_ERROR = (500, "worker_error", "The worker reported an error")
    WORKER_PROTOCOL = (502, "worker_protocol", "The worker's answer breaks the contract")
    NO_WORKER = (503, "no_worker", "No worker is there")
    OVERLOADED = (503, "overloaded", "Overloaded")
    STORE_UNAVAILABLE = (503, "store_unavailable", "The store cannot protect this request")
    POLICY_UNAVAILABLE = (503, "policy_unavailable", "The policy engine gives no clear answer")
    WORKER_LOST = (503, "worker_lost", "The worker went away")
    DEADLINE = (504, "deadline", "The time ran out")

    def __init__(self, status: int, suffix: str, title: str) -> None:
        self.status = status
        self.suffix = suffix
        self.title = title

    @property
    def urn(self) -> str:
        """The problem's ``type``: ``urn:crank:error:<suffix>``."""
        return _TYPE_PREFIX + self.suffix


class Offence(msgspec.Struct, frozen=True):
    """One thing that is wrong: ``path`` names the field (``capabilities[0].verb``), ``message`` what to do."""

    path: str
    message: str


class Refused(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker that was looked at and left out, and why."""

    worker_id: str
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """Why something was not done. ``detail`` tells a person what to do next; ``retry_after_ms`` is milliseconds."""

    kind: ErrorKind
    detail: str
    retry_after_ms: int | None = None
    maybe_executed: bool | None = None
    offences: tuple[Offence, ...] = ()
    candidates: tuple[Refused, ...] = ()
    near: tuple[str, ...] = ()
    worker_code: int | None = None
    worker_message: str | None = None
    retryable: bool = False
    """Whether the worker said so; told in words, not in a field."""


class Problem(msgspec.Struct, omit_defaults=True):
    """The ``application/problem+json`` body."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    retry_after_ms: int | None = None
    maybe_executed: bool | None = None
    errors: tuple[Offence, ...] = ()
    candidates: tuple[Refused, ...] = ()
    near: tuple[str, ...] = ()
    worker_code: int | None = None
    worker_message: str | None = None


def malformed(detail: str, *offences: Offence) -> Refusal:
    """A 400 that says in ``detail`` what cannot be read and how it should look."""
    return Refusal(ErrorKind.MALFORMED, detail, offences=offences)


def problem_of(refusal: Refusal, request_id: str | None) -> Problem:
    """The problem body's fields for ``refusal``."""
    kind = refusal.kind
    return Problem(
        type=kind.urn,
        title=kind.title,
        status=kind.status,
        detail=refusal.detail,
        request_id=request_id,
        retry_after_ms=refusal.retry_after_ms,
        maybe_executed=refusal.maybe_executed,
        errors=refusal.offences,
        candidates=refusal.candidates,
        near=refusal.near,
        worker_code=refusal.worker_code,
        worker_message=refusal.worker_message,
    )


_encode_problem = msgspec.json.Encoder().encode
_decode_problem = msgspec.json.Decoder(Problem).decode
_KIND_BY_URN = {kind.urn: kind for kind in ErrorKind}


def problem_body(refusal: Refusal, request_id: str | None) -> bytes:
    """``refusal`` as UTF-8 JSON bytes."""
    return _encode_problem(problem_of(refusal, request_id))


def parse_problem(body: bytes) -> Problem | None:
    """The problem that ``body`` holds, or None when it is something else (a foreign service's error, say)."""
    try:
        return _decode_problem(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def kind_of(problem: Problem) -> ErrorKind | None:
    """Which row of the table ``problem`` is, or None for a type that this version does not know."""
    return _KIND_BY_URN.get(problem.type)


def describe(value: Any, limit: int = 60) -> str:
    """``value`` as text for a message: quoted, one line, at most ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

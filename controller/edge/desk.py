"""Owns the operator's questions that JetStream must be asked for: ``jobs``, ``dead``, ``recovery``.

Each is answered later, by itself, and a few at a time. ``admin`` hands them over; what is read and how stands in the
rooms that are named after it. Whether a dead job may be tried again is for the core to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from bus import Bus
from bus.connection import BusError
from controller.core.events import Event, RetryAsked
from controller.edge.background import Background
from controller.edge.dead_letters import DeadLetters
from controller.edge.job_list import job_page
from controller.edge.recovery import overview
from subjects.errors import ErrorKind, Refusal, describe, malformed
from subjects.fields import convert_fields, decode_object, refuse
from subjects.messages import MAX_CONTROL_BYTES, encode
from subjects.names import Subjects
from subjects.tokens import TOKEN_RULE, CapabilityId, is_capability, is_token

# Operators are few; who asks in a loop must not keep JetStream from its work.
_AT_ONCE = 4
_STOP_S = 1.0
_MOST_ROWS, _ROWS = 500, 100


class _Question(Struct, frozen=True):
    op: Literal["list", "show", "retry", "drop"] = "list"
    job_id: str = ""
    capability: str | None = None
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1)] = _ROWS


class Desk:
    """One controller's answers, by operation: each is given the reply subject and the question."""

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        max_answer_bytes: int,
        feed: Callable[[Event], None],
        reply_json: Callable[[str, bytes], None],
        refuse: Callable[[str, Refusal, str], None],
    ) -> None:
        self._bus = bus
        self._subjects = subjects
        self._max_bytes = max_answer_bytes
        self._feed = feed
        self._reply_json = reply_json
        self._refuse = refuse
        self._dead = DeadLetters(bus, subjects, max_answer_bytes)
        self._background = Background()
        self._asked = 0
        self.operations: dict[str, Callable[[str, bytes], None]] = {
            "jobs": lambda reply, body: self._take(reply, body, self._jobs),
            "dead": lambda reply, body: self._take(reply, body, self._of_dead),
            "recovery": lambda reply, body: self._take(reply, body, self._recovery),
        }

    async def stop(self) -> None:
        """Let the questions that are being answered be answered, for a while."""
        await self._background.stop(_STOP_S)

    def _take(
        self, reply: str, body: bytes, answer: Callable[[_Question, str], Awaitable[dict[str, Any] | Refusal | None]]
    ) -> None:
        question = _read(body)
        if isinstance(question, Refusal):
            self._refuse(reply, question, "")
        elif self._asked >= _AT_ONCE:
            detail = f"{_AT_ONCE} such questions are being answered already; ask again in a moment."
            self._refuse(reply, Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=1000), "")
        else:
            self._asked += 1
            self._background.spawn(self._answered(question, reply, answer))

    async def _answered(
        self,
        question: _Question,
        reply: str,
        answer: Callable[[_Question, str], Awaitable[dict[str, Any] | Refusal | None]],
    ) -> None:
        try:
            found = await answer(question, reply)
        except BusError as error:
            found = Refusal(ErrorKind.STORE_UNAVAILABLE, f"What is stored cannot be read: {error}.")
        finally:
            self._asked -= 1
        if isinstance(found, Refusal):
            self._refuse(reply, found, "")
        elif found is not None:
            self._reply_json(reply, encode(found))

    async def _jobs(self, asked: _Question, reply: str) -> dict[str, Any]:
        return await job_page(self._bus, self._subjects, self._max_bytes, asked.after, _rows(asked), _capability(asked))

    async def _of_dead(self, asked: _Question, reply: str) -> dict[str, Any] | Refusal | None:
        match asked.op:
            case "list":
                return await self._dead.page(asked.after, _rows(asked), _capability(asked))
            case "show":
                return await self._dead.show(asked.job_id)
            case "drop":
                return await self._dead.drop(asked.job_id)
            case "retry":
                loaded = await self._dead.load(asked.job_id, reply)
                if isinstance(loaded, Refusal):
                    return loaded
                self._feed(RetryAsked(*loaded))
                return None

    async def _recovery(self, asked: _Question, reply: str) -> dict[str, Any]:
        return await overview(self._bus, self._subjects, self._max_bytes)


def _read(body: bytes) -> _Question | Refusal:
    raw = decode_object(body or b"{}", MAX_CONTROL_BYTES, "question")
    if isinstance(raw, Refusal):
        return raw
    question, offences = convert_fields(raw, _Question)
    if question is None:
        return refuse("question", offences)
    if question.capability is not None and not is_capability(question.capability):
        return malformed(f"The capability {describe(question.capability)} is not <verb>:<name>, each {TOKEN_RULE}.")
    if question.op != "list" and not is_token(question.job_id):
        return malformed(f"The job_id {describe(question.job_id)} is not {TOKEN_RULE}.")
    return question


def _rows(asked: _Question) -> int:
    return min(asked.limit, _MOST_ROWS)


def _capability(asked: _Question) -> CapabilityId | None:
    return None if asked.capability is None else CapabilityId(asked.capability)

"""Owns what an operator sees and does of the dead jobs: the list, one of them, dropping, and loading one to retry.

A message that tells no job's id goes by ``malformed-<sequence>``. A job that is there twice (a controller died between
two steps) is one job: the newer message counts, and both are dropped.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any, NamedTuple

from bus import Bus
from bus.connection import BusError
from controller.core.model import Request
from controller.edge.job_messages import read_request
from controller.edge.pages import Page
from controller.edge.stream_reading import Message, headlines, message_at, remove, stream_now
from subjects.errors import ErrorKind, Refusal, malformed
from subjects.jobs import MALFORMED, parse_dead
from subjects.messages import encode
from subjects.names import Subjects
from subjects.tokens import CapabilityId

_NAMELESS = f"{MALFORMED}-"
# A longer number is no sequence: JetStream counts in 64 bits.
_SEQ_DIGITS = 18
# An operator's client waits for five seconds.
_MOST_S = 3.0


class _Found(NamedTuple):
    seqs: list[int]
    last: Message
    now: datetime


class DeadLetters:
    """The stream of dead jobs, read and weeded."""

    def __init__(self, bus: Bus, subjects: Subjects, max_bytes: int) -> None:
        self._bus = bus
        self._subjects = subjects
        self._stream = subjects.stream_dead
        self._max_bytes = max_bytes

    async def page(self, after: int, limit: int, capability: CapabilityId | None) -> dict[str, Any]:
        """Dead jobs after a sequence, the oldest first, each with why.

        Raises:
            BusError: JetStream does not answer.

        """
        page = Page(limit, self._max_bytes)
        now = await stream_now(self._bus, self._stream)
        if now is None:
            return page.answer("dead", more=False)

        def take(message: Message) -> bool:
            row = self._row(message, now.ts)
            return page.add(row["job_id"], message.seq, row)

        saw_all = await headlines(self._bus, self._stream, self._subject(capability), after, _MOST_S, take)
        return page.answer("dead", more=not saw_all)

    async def show(self, job_id: str) -> dict[str, Any] | Refusal:
        """One dead job with its data: text where it is any.

        Raises:
            BusError: JetStream does not answer.

        """
        found = await self._find(job_id)
        if isinstance(found, Refusal):
            return found
        message = found.last
        row = self._row(message, found.now)
        row["content_type"] = parse_dead(message.headers).content_type
        shown = {**row, **_data(message.body)}
        if len(encode(shown)) > self._max_bytes:
            shown = {**row, "size": len(message.body), "left_out": ["body"]}
        return {"dead": [shown]}

    async def drop(self, job_id: str) -> dict[str, Any] | Refusal:
        """Forget one dead job.

        Raises:
            BusError: it is not forgotten, for all that is known.

        """
        found = await self._find(job_id)
        if isinstance(found, Refusal):
            return found
        for seq in found.seqs:
            await remove(self._bus, self._stream, seq)
        return {"dead": [{"job_id": job_id, "status": "dropped"}]}

    async def load(self, job_id: str, reply: str) -> tuple[Request, int] | Refusal:
        """The request to try again, answered on ``reply``, and its message's sequence; older messages of it go.

        Raises:
            BusError: JetStream does not answer.

        """
        found = await self._find(job_id)
        if isinstance(found, Refusal):
            return found
        message = found.last
        capability = self._subjects.parse_capability("dead", message.subject)
        if capability is None:
            return self._unreadable(job_id, "its subject names no capability")
        request = read_request(capability, message.headers, message.body, "retry", reply)
        if isinstance(request, Refusal):
            return self._unreadable(job_id, request.detail)
        for seq in found.seqs[:-1]:
            await remove(self._bus, self._stream, seq)
        return request, message.seq

    def _unreadable(self, job_id: str, why: str) -> Refusal:
        return malformed(
            f"{job_id} cannot be tried again: {why} Look at it with `crank dead show {job_id}`, and drop it."
        )

    async def _find(self, job_id: str) -> _Found | Refusal:
        now = await stream_now(self._bus, self._stream)
        seqs: list[int] = []
        if now is not None:
            if job_id.startswith(_NAMELESS):
                number = job_id.removeprefix(_NAMELESS)
                seqs += [int(number)] if number.isdecimal() and len(number) <= _SEQ_DIGITS else []
            elif not await self._search(job_id, seqs):
                raise BusError(f"{self._stream} was not read to its end within {_MOST_S:g} s; drop what nobody needs")
            last = await message_at(self._bus, self._stream, seqs[-1]) if seqs else None
            if last is not None and _ident(last) == job_id:
                return _Found(seqs, last, now.ts)
        return Refusal(
            ErrorKind.NO_SUCH_JOB, f"There is no dead job {job_id}. `crank dead list` lists those that there are."
        )

    async def _search(self, job_id: str, seqs: list[int]) -> bool:
        wanted = job_id.encode()

        def take(message: Message) -> bool:
            # Most headers are never read: only those that have the id in them somewhere.
            if message.headers is not None and wanted in message.headers and _ident(message) == job_id:
                seqs.append(message.seq)
            return True

        return await headlines(self._bus, self._stream, self._subject(None), 0, _MOST_S, take)

    def _subject(self, capability: CapabilityId | None) -> str:
        return self._subjects.all("dead") if capability is None else self._subjects.dead(capability)

    def _row(self, message: Message, now: datetime) -> dict[str, Any]:
        dead = parse_dead(message.headers)
        return {
            "job_id": _ident(message),
            "capability": self._subjects.parse_capability("dead", message.subject) or message.subject[:256],
            "caller": dead.caller,
            "reason": dead.reason,
            "detail": dead.detail,
            "attempts": dead.attempts,
            "age_s": round(max(0.0, (now - message.time).total_seconds()), 3),
            "seq": message.seq,
        }


def _ident(message: Message) -> str:
    job_id = parse_dead(message.headers).job_id
    return job_id if job_id and not job_id.startswith(_NAMELESS) else f"{_NAMELESS}{message.seq}"


def _data(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}

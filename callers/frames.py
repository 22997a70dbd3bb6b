"""Owns what a caller gets: a piece of a streamed answer or a whole one, read from a reply, and its body as a type.

``callers.client`` makes them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from callers.codecs import Decode, Unfit, name_of, reading
from callers.failures import CrankError, failure, no_controller
from callers.unread import MAX_BYTES, too_much
from subjects.errors import ErrorKind, Problem, Refusal, parse_problem
from subjects.headers import parse_block, passed_headers
from subjects.replies import is_replayed, read_reply

T = TypeVar("T")


class Frame(msgspec.Struct, frozen=True):
    """A piece of a streamed answer, or the whole answer as one ``end``. ``kind`` is chunk, progress or end."""

    kind: str
    seq: int
    body: bytes
    meta: dict[str, str]
    """The contract's reply headers by lower-case name: crank-worker, crank-version, crank-attempts, …"""
    passed: str
    """The worker's own header lines."""

    @property
    def content_type(self) -> str:
        """The body's media type, or "" when the worker named none."""
        return self.meta.get("content-type", "")

    @property
    def replayed(self) -> bool:
        """Whether this is the answer of an earlier execution with the same key."""
        return is_replayed(self.meta)

    @property
    def job_status(self) -> str:
        """``done``, ``queued`` or ``running`` where a job was asked about, else ""."""
        return self.meta.get("crank-job-status", "")

    @property
    def headers(self) -> dict[str, str]:
        """The worker's own headers by lower-case name. A new dict."""
        return passed_headers(self.passed)

    def json(self) -> Any:
        """The body, which is JSON, as dicts, lists, text and numbers.

        Raises:
            CrankError: 502, it is not JSON.

        """
        anything: Any = Any  # `object` is a type that only pydantic reads
        return self.decode(anything)

    def decode(self, kind: type[T]) -> T:
        """The body as ``kind``: bytes, text, or JSON that fits a dataclass, msgspec struct or pydantic model.

        Raises:
            CrankError: 502, it does not fit; the message names the type and the place.
            TypeError: ``kind`` is nothing that JSON can become.

        """
        wanted: Any = kind
        try:
            found: T = _decoder(wanted)(self.body)
        except Unfit as error:
            detail = f"The answer {'' if wanted is Any else f'is no {name_of(wanted)}: it '}{error}."
            raise CrankError(failure(ErrorKind.WORKER_PROTOCOL, detail).problem, self.meta) from None
        return found


class Answer(Frame, frozen=True):
    """A whole answer; of a stream, all its chunks joined."""


async def whole(frames: AsyncGenerator[Frame, None], capability: str) -> Answer:
    """All of ``frames`` as one answer; progress is no part of it.

    Raises:
        CrankError: 413, it is larger than memory is to be given for it; and whatever ``frames`` raise.

    """
    chunks: list[bytes] = []
    room = MAX_BYTES
    async with contextlib.aclosing(frames):
        async for frame in frames:
            if frame.kind != "progress":
                chunks.append(frame.body)
                room -= len(frame.body)
            if room < 0:
                raise too_much("came; take them piece by piece with stream(…)", capability)
            last = frame
    return Answer("end", last.seq, b"".join(chunks), last.meta, last.passed)


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> Decode:
    return reading(kind).decode


def read_frame(raw: bytes | None, body: bytes, prefix: str) -> Frame:
    """A reply as a frame; one that tells of a failure is raised.

    Raises:
        CrankError: refused, failed, or not to be read.
        Unreachable: nats-server says that nobody listens.

    """
    block = parse_block(raw)
    if isinstance(block, Refusal):
        raise failure(ErrorKind.WORKER_PROTOCOL, f"The reply cannot be read. {block.detail}")
    if block.status == 503 and not body:
        raise no_controller(prefix)
    reply = read_reply(block)
    if reply.code:
        problem = parse_problem(body)
        if problem is None:  # not one of our controllers
            problem = Problem(type="about:blank", title=reply.error or "Failed", status=reply.code, detail=reply.error)
        raise CrankError(problem, reply.meta)
    return Frame(reply.frame or "end", reply.seq, body, reply.meta, block.passed)

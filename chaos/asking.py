"""Owns one caller's attempt: its subject and headers, and what its replies mean. ``chaos.load`` decides what is asked.

A stranger's view: the contract's subjects and headers, and the bytes that came back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from chaos.calls import Line, Reply
from chaos.plan import Operation
from chaos.story import Attempt
from subjects.errors import kind_of, parse_problem
from subjects.names import Subjects
from subjects.tokens import CapabilityId, RequestId

TIMEOUT_MS = 3000
# The controller says so when the time is over; it may be late, since all of this shares one machine.
PATIENCE_S = 6.0

_subjects = Subjects()


class _Task(msgspec.Struct):
    operation: str
    ms: int
    fails: bool


class _Done(msgspec.Struct):
    operation: str
    execution: str


_decode_done = msgspec.json.Decoder(list[_Done]).decode


class Accepted(msgspec.Struct):
    """The answer to a submit."""

    job_id: str
    status: str
    duplicate: bool = False


def body_of(operation: Operation) -> bytes:
    """The payload, the same at every attempt."""
    return msgspec.json.encode(_Task(operation.id, operation.ms, operation.fails))


async def attempt(
    line: Line,
    operation: Operation,
    number: int,
    *,
    on_duplicate: str = "attach",
    calm: bool = False,
) -> Attempt:
    """Ask once, on the operation's subject."""
    what: Literal["submit", "request"] = "submit" if operation.kind == "job" else "request"
    build = _subjects.submit if what == "submit" else _subjects.request
    request_id = f"{operation.id}-{number}"
    headers = [("Crank-Request-Id", request_id), ("Crank-Timeout-Ms", str(TIMEOUT_MS))]
    if operation.keyed:
        headers += [("Idempotency-Key", operation.id), ("Crank-On-Duplicate", on_duplicate)]
    sent = time.monotonic()
    replies = await line.ask(build(CapabilityId(operation.capability)), body_of(operation), headers, PATIENCE_S)
    return read(operation.id, what, request_id, sent, replies, calm=calm)


async def ask_result(line: Line, operation: str, job_id: str, wait_ms: int, *, calm: bool) -> tuple[Attempt, str]:
    """``(attempt, job status)`` of a question for a job's result."""
    sent = time.monotonic()
    headers = [("Crank-Timeout-Ms", str(wait_ms))]
    replies = await line.ask(_subjects.result(job_id), b"", headers, wait_ms / 1000 + PATIENCE_S)
    status = replies[-1].headers.get("crank-job-status", "") if replies else ""
    return read(operation, "result", job_id, sent, replies, calm=calm), status


def cancel(line: Line, request_or_job_id: str) -> None:
    """Change one's mind; nobody waits for the answer."""
    line.publish(_subjects.cancel(RequestId(request_or_job_id)))


def read(
    operation: str,
    what: Literal["request", "submit", "result"],
    request_id: str,
    sent: float,
    replies: Sequence[Reply] | None,
    *,
    calm: bool,
) -> Attempt:
    """What came back, as a caller understands it."""
    ended = time.monotonic()
    if replies is None:
        return Attempt(operation, what, request_id, sent, ended, "unsent", calm=calm)
    misnumbered, lack = _numbering(replies)
    if not replies or not replies[-1].last:
        return Attempt(
            operation, what, request_id, sent, ended, "silence", misnumbered=misnumbered, lack=lack, calm=calm
        )
    last = replies[-1]
    if last.status == 503 and not last.body:
        return Attempt(operation, what, request_id, sent, ended, "nobody", calm=calm)
    if "nats-service-error-code" in last.headers:
        problem = parse_problem(last.body)
        kind = kind_of(problem) if problem is not None else None
        return Attempt(
            operation, what, request_id, sent, ended,
            outcome=kind.suffix if kind is not None else f"error {last.headers['nats-service-error-code']}",
            body=last.body,
            detail=problem.detail if problem is not None else "",
            replayed="crank-replayed" in last.headers,
            maybe_executed=problem.maybe_executed if problem is not None else None,
            worker_code=problem.worker_code if problem is not None else None,
            misnumbered=misnumbered, lack=lack, calm=calm,
        )  # fmt: skip
    body = b"".join(reply.body for reply in replies)
    return Attempt(
        operation, what, request_id, sent, ended, "answer", body,
        execution=_execution(operation, body), replayed="crank-replayed" in last.headers,
        misnumbered=misnumbered, lack=lack, calm=calm,
    )  # fmt: skip


def _execution(operation: str, body: bytes) -> str:
    """Which execution answered, or "" when it was not for this operation, or more than one.

    A stream says so in each frame, and comes as one body when it is answered again.
    """
    try:
        done = _decode_done(b"[%s]" % body.replace(b"}{", b"},{"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    found = {one.execution for one in done if one.operation == operation}
    return found.pop() if len(found) == 1 and all(one.operation == operation for one in done) else ""


def _numbering(replies: Sequence[Reply]) -> tuple[str, bool]:
    """``(how frames are numbered otherwise than from 0 without gaps, whether all that is wrong is that some lack)``."""
    framed = [reply for reply in replies if "crank-frame" in reply.headers]
    numbers = [_number(reply.headers.get("crank-seq", "")) for reply in framed]
    if numbers == list(range(len(framed))) and len(framed) in (0, len(replies)):
        return "", False
    lack = len(framed) == len(replies) and all(a < b for a, b in pairwise([-1, *numbers]))
    return f"frames {numbers} in {len(replies)} replies", lack


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1

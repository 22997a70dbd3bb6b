"""Owns the headers of a stored job and of a dead one: what controllers write on those streams, and reading it back.

Whoever may publish there may write anything, so what is read is never taken for what was written here. The body is the
request's own.
"""

from __future__ import annotations

import base64

import msgspec

from subjects import headers as h
from subjects.errors import ErrorKind, Refusal, malformed
from subjects.headers import MAX_BLOCK_BYTES, build_block, one_line, parse_block
from subjects.requests import RequestHeaders, parse_request_headers
from subjects.tokens import TOKEN_RULE, RequestId, is_token
from subjects.trace import traceparent

JOB_ID = "Crank-Job-Id"
CALLER = "Crank-Caller"
DEAD_REASON = "Crank-Dead-Reason"
DEAD_DETAIL = "Crank-Dead-Detail"
DEAD_HEADERS = "Crank-Dead-Headers"
ATTEMPTS = "Crank-Attempts"

# SPIFFE's own limit on an id.
MAX_CALLER_CHARS = 2048
# A job that dies gets a reason and a detail of 512 characters on top, and must still be readable.
MAX_JOB_BLOCK_BYTES = MAX_BLOCK_BYTES + 4 * 1024
# Of headers that cannot be read; as base64 they are a third longer.
_HEADERS_KEPT_BYTES = 8 * 1024
MALFORMED = ErrorKind.MALFORMED.suffix


class Job(msgspec.Struct, frozen=True):
    """A stored job's headers: the request that it stands for, as its caller made it."""

    job_id: str
    caller: str
    request_id: RequestId
    headers: RequestHeaders
    passed: str = ""


class Dead(msgspec.Struct, frozen=True):
    """What a dead job says of itself; "" and 0 where it does not. ``reason`` is the suffix of an error's type."""

    job_id: str
    caller: str
    reason: str
    detail: str
    attempts: int
    content_type: str = h.DEFAULT_CONTENT_TYPE


def build_job(job: Job, *more: tuple[str, str]) -> bytes | Refusal:
    """The block of a job, with ``more`` headers of JetStream's; refused when it could not be read back.

    A duplicate's handling and a dry run are the acceptance's affair, and are not kept.
    """
    block = build_block([*_pairs(job), *more], job.passed)
    if len(block) > MAX_JOB_BLOCK_BYTES:
        return malformed(f"The headers come to {len(block)} bytes; a job keeps {MAX_JOB_BLOCK_BYTES}: send fewer.")
    kept = msgspec.structs.replace(job.headers, request_id=job.request_id, on_duplicate="attach", dry_run=False)
    read = parse_job(block)
    if isinstance(read, Refusal):
        return read
    if read != msgspec.structs.replace(job, headers=kept):
        return malformed("A header of this request changes when it is stored; send plain text without control codes.")
    return block


def _pairs(job: Job) -> list[tuple[str, str]]:
    sent = job.headers
    trace = sent.trace
    pairs: list[tuple[str, str | None]] = [
        (JOB_ID, job.job_id),
        (CALLER, job.caller),
        (h.REQUEST_ID, job.request_id),
        (h.CONTENT_TYPE, sent.content_type),
        (h.PRIORITY, sent.priority),
        (h.IDEMPOTENCY_KEY, sent.idempotency_key),
        (h.VERSION, sent.version),
        (h.TIMEOUT_MS, str(sent.timeout_ms) if sent.timeout_ms is not None else None),
        (h.LATENCY_MS, str(sent.latency_ms) if sent.latency_ms is not None else None),
        (h.BUDGET_TOKENS, repr(sent.budget_tokens) if sent.budget_tokens is not None else None),
        (h.CONSTRAINTS, sent.constraints),
        (h.TRACEPARENT, traceparent(trace.trace_id, trace.span_id, trace.sampled) if trace is not None else None),
        (h.TRACESTATE, sent.tracestate),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def parse_job(raw: bytes | None) -> Job | Refusal:
    """The job, or why this is none; a dead one too."""
    block = parse_block(raw)
    if isinstance(block, Refusal):
        return block
    headers = parse_request_headers(block)
    if isinstance(headers, Refusal):
        return headers
    job_id, caller = block.ours.get(JOB_ID.lower(), ""), block.ours.get(CALLER.lower(), "")
    if not is_token(job_id):
        return malformed(f"{JOB_ID} must be {TOKEN_RULE}; controllers alone write jobs: submit yours.")
    if not 1 <= len(caller) <= MAX_CALLER_CHARS:
        return malformed(f"{CALLER} must be 1 to {MAX_CALLER_CHARS} characters.")
    if headers.request_id is None:
        return malformed(f"{h.REQUEST_ID} is missing.")
    return Job(job_id, caller, RequestId(headers.request_id), headers, block.passed)


def build_dead(job: Job, reason: str, detail: str, attempts: int, *more: tuple[str, str]) -> bytes:
    """The block of a job that will not be tried again: the job's own, and why."""
    why = [(DEAD_REASON, one_line(reason)), (DEAD_DETAIL, one_line(detail)), (ATTEMPTS, str(attempts))]
    return build_block([*_pairs(job), *why, *more], job.passed)


def build_unreadable(raw: bytes | None, detail: str, *more: tuple[str, str]) -> bytes:
    """The block of something that stood among the jobs and is none: its own headers, whole or cut, as base64."""
    pairs = [(DEAD_REASON, MALFORMED), (DEAD_DETAIL, one_line(detail)), (ATTEMPTS, "0"), *more]
    if raw:
        pairs.append((DEAD_HEADERS, base64.b64encode(raw[:_HEADERS_KEPT_BYTES]).decode()))
    return build_block(pairs)


def parse_dead(raw: bytes | None) -> Dead:
    """What a message among the dead says of itself; whatever it is, an operator must be able to see and drop it."""
    block = parse_block(raw)
    if isinstance(block, Refusal):
        return Dead("", "", MALFORMED, block.detail, 0)
    ours = block.ours
    job_id, reason = ours.get(JOB_ID.lower(), ""), ours.get(DEAD_REASON.lower(), "")
    attempts = ours.get(ATTEMPTS.lower(), "")
    return Dead(
        job_id=job_id if is_token(job_id) else "",
        caller=one_line(ours.get(CALLER.lower(), ""), MAX_CALLER_CHARS),
        reason=reason if is_token(reason) else MALFORMED,
        detail=one_line(ours.get(DEAD_DETAIL.lower(), "")),
        attempts=int(attempts) if attempts.isascii() and attempts.isdigit() and len(attempts) <= 9 else 0,
        content_type=one_line(ours.get("content-type", h.DEFAULT_CONTENT_TYPE)),
    )

"""Owns a worker's answer: result, fault, *not run* and frames, as bytes in both directions.

Whatever a worker sends becomes one value of ``Answer``; what breaks the contract becomes ``Garbage`` with the reason.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from subjects import headers as h
from subjects.errors import Refusal
from subjects.headers import MAX_CONTENT_TYPE_CHARS, Block, build_block, one_line, parse_block, seconds_text

NotRunReason = Literal["busy", "draining", "deadline"]
FrameKind = Literal["chunk", "progress", "end"]
# The longest a Retry-After may ask for: a day, as with the longest time-out.
MAX_RETRY_AFTER_S = 86_400


class Result(msgspec.Struct, frozen=True, gc=False):
    """The whole answer. ``passed`` holds the worker's own header lines, ``content_type`` None when it sent none."""

    body: bytes
    passed: str = ""
    content_type: str | None = None


class Fault(msgspec.Struct, frozen=True, gc=False):
    """The worker says that the work failed. ``code`` is 100 to 599; ``retryable`` that trying again may help."""

    code: int
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None
    body: bytes = b""


class NotRun(msgspec.Struct, frozen=True, gc=False):
    """The worker did not start the work."""

    reason: NotRunReason


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A piece of a streamed answer; ``fault`` only with ``end``."""

    kind: FrameKind
    seq: int
    body: bytes = b""
    passed: str = ""
    content_type: str | None = None
    fault: Fault | None = None


class NoResponders(msgspec.Struct, frozen=True, gc=False):
    """The NATS server says that nobody listens where the work is done: nothing ran."""


class Garbage(msgspec.Struct, frozen=True, gc=False):
    """An answer that breaks the contract, and how."""

    detail: str


Answer = Result | Fault | NotRun | Frame | NoResponders | Garbage

NO_RESPONDERS = NoResponders()
_NOT_RUN = {reason: NotRun(reason) for reason in get_args(NotRunReason)}
_FRAME_KINDS: dict[str, FrameKind] = {kind: kind for kind in get_args(FrameKind)}


def parse_answer(raw_headers: bytes | None, body: bytes) -> Answer:
    """Any bytes at all as an ``Answer``; never raises."""
    if not raw_headers:
        return Result(body)
    block = parse_block(raw_headers)
    if isinstance(block, Refusal):
        return Garbage(block.detail)
    if block.status:
        # A server says so, without a body; a worker that sends one has run.
        if block.status == 503 and not body:
            return NO_RESPONDERS
        return Garbage(f"it answered with the inline status {block.status}")
    return _read(block, body)


def _read(block: Block, body: bytes) -> Answer:
    ours = block.ours
    if (reason := ours.get("crank-not-run")) is not None:
        not_run = _NOT_RUN.get(reason)
        return not_run or Garbage(f"{h.NOT_RUN} must be busy, draining or deadline")
    fault = _fault(ours, block.passed, body)
    if isinstance(fault, Garbage):
        return fault
    if len(ours.get("content-type", "")) > MAX_CONTENT_TYPE_CHARS:
        return Garbage(f"{h.CONTENT_TYPE} must be a media type of at most {MAX_CONTENT_TYPE_CHARS} characters")
    if (kind := ours.get("crank-frame")) is not None:
        seq = ours.get("crank-seq", "")
        if not (seq.isascii() and seq.isdigit() and len(seq) <= 9):
            return Garbage(f"{h.SEQ} must be a whole number")
        known = _FRAME_KINDS.get(kind)
        if known == "end" or (known and fault is None):
            return Frame(known, int(seq), body, block.passed, ours.get("content-type"), fault)
        return Garbage(f"{h.FRAME} must be chunk, progress or end, and only end may carry an error")
    return fault or Result(body, block.passed, ours.get("content-type"))


def _fault(ours: dict[str, str], passed: str, body: bytes) -> Fault | Garbage | None:
    code = ours.get("nats-service-error-code")
    if code is None:
        return Garbage(f"{h.ERROR_TEXT} without {h.ERROR_CODE}") if "nats-service-error" in ours else None
    if not (code.isascii() and code.isdigit() and len(code) == 3 and 100 <= int(code) <= 599):
        return Garbage(f"{h.ERROR_CODE} must be a number from 100 to 599")
    retryable = ours.get("crank-retryable", "").lower() == "true"
    return Fault(int(code), ours.get("nats-service-error", ""), retryable, _retry_after_ms(passed), body)


def _retry_after_ms(passed: str) -> int | None:
    for line in passed.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "retry-after":
            try:
                seconds = float(value)
            except ValueError:
                return None
            return round(seconds * 1000) if 0 <= seconds <= MAX_RETRY_AFTER_S else None
    return None


def build_answer(answer: Result | Fault | NotRun | NoResponders | Frame) -> tuple[bytes | None, bytes]:
    """``(header block or None, body)``: what a worker publishes to the dispatch's reply subject.

    ``NoResponders`` is what a server told a worker that relays, passed on.
    """
    match answer:
        case NotRun(reason):
            return build_block([(h.NOT_RUN, reason)]), b""
        case NoResponders():
            return b"NATS/1.0 503\r\n\r\n", b""
        case Fault():
            return build_block(_fault_pairs(answer)), answer.body
        case Frame():
            pairs = [(h.FRAME, str(answer.kind)), (h.SEQ, str(answer.seq))]
            if answer.content_type:
                pairs.append((h.CONTENT_TYPE, answer.content_type))
            if answer.fault:
                pairs += _fault_pairs(answer.fault)
            return build_block(pairs, answer.passed), answer.body
        case Result(body, passed, content_type):
            if not passed and content_type is None:
                return None, body
            return build_block([(h.CONTENT_TYPE, content_type)] if content_type else [], passed), body


def _fault_pairs(fault: Fault) -> list[tuple[str, str]]:
    pairs = [(h.ERROR_CODE, str(fault.code)), (h.ERROR_TEXT, one_line(fault.message))]
    if fault.retryable:
        pairs.append((h.RETRYABLE, "true"))
    if fault.retry_after_ms is not None:
        pairs.append((h.RETRY_AFTER, seconds_text(fault.retry_after_ms)))
    return pairs

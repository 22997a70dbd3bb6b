"""Owns what a caller gets back: the reply's headers, a refusal as headers and problem body, and reading both."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from subjects import headers as h
from subjects.claims import StoredError
from subjects.errors import PROBLEM_CONTENT_TYPE, Refusal, problem_body
from subjects.headers import Block, one_line, seconds_text


class ReplyMeta(msgspec.Struct, frozen=True, gc=False):
    """Who did the work. ``cost_tokens`` is 0 for a replay."""

    request_id: str
    controller: str
    traceparent: str
    worker: str | None = None
    version: str | None = None
    attempts: int = 0
    cost_tokens: float = 0.0
    replayed: bool = False
    job_status: str = ""


def build_reply(
    meta: ReplyMeta,
    content_type: str | None,
    passed: str,
    frame: str = "",
    seq: int = 0,
    error: StoredError | None = None,
) -> bytes:
    """The header block of a worker's answer on its way to the caller; ``frame`` and ``seq`` for a streamed one.

    ``error`` makes it the error that it was when it was stored.
    """
    more = f"Content-Type: {content_type}\r\n" if content_type else ""
    if frame:
        more += f"Crank-Frame: {frame}\r\nCrank-Seq: {seq}\r\n"
    if error is not None:
        more += f"Nats-Service-Error-Code: {error.status}\r\nNats-Service-Error: {one_line(error.text)}\r\n"
        if error.retry_after_ms is not None:
            more += f"Retry-After: {seconds_text(error.retry_after_ms)}\r\n"
    return f"NATS/1.0\r\n{_meta_lines(meta)}{more}{passed}\r\n".encode()


def build_refusal(refusal: Refusal, meta: ReplyMeta, frame: str = "", seq: int = 0) -> tuple[bytes, bytes]:
    """``(header block, problem body)`` of a refusal; ``frame`` and ``seq`` when it ends a stream."""
    kind = refusal.kind
    more = f"Retry-After: {seconds_text(refusal.retry_after_ms)}\r\n" if refusal.retry_after_ms is not None else ""
    if frame:
        more += f"Crank-Frame: {frame}\r\nCrank-Seq: {seq}\r\n"
    block = (
        f"NATS/1.0\r\nNats-Service-Error-Code: {kind.status}\r\nNats-Service-Error: {one_line(refusal.detail)}\r\n"
        f"Content-Type: {PROBLEM_CONTENT_TYPE}\r\n{_meta_lines(meta)}{more}\r\n"
    ).encode()
    return block, problem_body(refusal, meta.request_id or None)


def _meta_lines(meta: ReplyMeta) -> str:
    lines = (
        f"Crank-Request-Id: {meta.request_id}\r\nCrank-Controller: {meta.controller}\r\n"
        f"Crank-Attempts: {meta.attempts}\r\nCrank-Cost-Tokens: {meta.cost_tokens:.15g}\r\n"
        f"traceparent: {meta.traceparent}\r\n"
    )
    if meta.worker is not None:
        lines += f"Crank-Worker: {meta.worker}\r\n"
        if meta.version:  # an operator's word has none
            lines += f"Crank-Version: {meta.version}\r\n"
    if meta.replayed:
        lines += "Crank-Replayed: true\r\n"
    if meta.job_status:
        lines += f"Crank-Job-Status: {meta.job_status}\r\n"
    return lines


class Reply(msgspec.Struct, frozen=True):
    """A caller's reading of a reply. ``code`` is 0 when it is an answer and no error."""

    code: int
    error: str
    meta: dict[str, str]
    """The contract's headers, lower-case names."""
    frame: str | None
    seq: int


def is_replayed(meta: Mapping[str, str]) -> bool:
    """Whether a reply with these headers, names in lower case, is what an earlier execution was answered."""
    return meta.get("crank-replayed", "").lower() == "true"


def read_reply(block: Block) -> Reply:
    """A caller's view of a reply's headers; what cannot be read counts as absent."""
    ours = block.ours
    code = ours.get("nats-service-error-code", "0")
    seq = ours.get("crank-seq", "0")
    return Reply(
        code=int(code) if code.isascii() and code.isdigit() and len(code) <= 3 else 0,
        error=ours.get("nats-service-error", ""),
        meta=ours,
        frame=ours.get("crank-frame"),
        seq=int(seq) if seq.isascii() and seq.isdigit() and len(seq) <= 9 else 0,
    )


def plain_reply_header(name: str, value: str) -> bytes:
    """A block of one header: for control and admin answers."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


JSON_BLOCK = plain_reply_header(h.CONTENT_TYPE, "application/json")

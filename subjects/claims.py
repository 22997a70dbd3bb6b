"""Owns the stored form of a claim: its key, its fingerprint, its record, and the answer that a record keeps.

Controllers alone write these. The bytes are msgpack, and fields stand by their order: new ones come last, with a
default. What a state may become is decided in ``controller.core``.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

import msgspec

ClaimState = Literal["waiting", "dispatching", "done", "dead", "unknown", "cancelled"]
KEY_RULE = "1 to 255 visible ASCII characters, without spaces"
FINAL: frozenset[ClaimState] = frozenset({"done", "dead", "cancelled"})
"""States that nothing leaves any more, but by being forgotten; a dead job may be tried again by an operator."""


_key = re.compile(r"[!-~]{1,255}").fullmatch


def is_key(text: str) -> bool:
    """Whether ``text`` may be an ``Idempotency-Key``."""
    return _key(text) is not None


# Base32, on every keyed request: all groups of five bits move to bytes of their own at once, by halves, which takes a
# quarter of the standard library's time. Each step: which bits stay, which move, and how far.
_ALPHABET = b"abcdefghijklmnopqrstuvwxyz234567"
_LETTERS = _ALPHABET * 8
_CHARACTERS = 52
_PADDING_BITS = 4


def _spreading() -> list[tuple[int, int, int]]:
    steps, groups = [], 64
    while groups > 1:
        half = groups // 2
        low = sum((1 << 5 * half) - 1 << 8 * groups * block for block in range(64 // groups))
        steps.append((low, low << 5 * half, 3 * half))
        groups = half
    return steps


_SPREADING = _spreading()


def claim_key(caller: str, capability: str, key: str) -> str:
    """The name of a claim, and of the job that it stands for: 52 characters of lower-case base32, a token.

    Each part is preceded by its length, so that no two triples read alike.
    """
    who, what, which = caller.encode(), capability.encode(), key.encode()
    named = b"%d:%b%d:%b%d:%b" % (len(who), who, len(what), what, len(which), which)
    digest = hashlib.sha256(named).digest()
    number = int.from_bytes(digest, "big") << _PADDING_BITS
    for stays, moves, by in _SPREADING:
        number = number & stays | (number & moves) << by
    return number.to_bytes(_CHARACTERS, "big").translate(_LETTERS).decode()


def fingerprint(content_type: str, body: bytes) -> bytes:
    """What tells a repeated request from another one under the same key: 32 bytes of SHA-256."""
    media = content_type.encode()
    return hashlib.sha256(b"%d:%b%b" % (len(media), media, body)).digest()


class StoredError(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The error headers of an answer that is one; its body is the problem."""

    status: int
    text: str
    retry_after_ms: int | None = None


class StoredAnswer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An answer as every duplicate gets it, byte for byte.

    ``blob`` names the object that holds the body where one value cannot; it is the store's own business, and the body
    is in its place whenever the core sees an answer.
    """

    worker: str
    version: str
    attempts: int
    body: bytes
    content_type: str | None = None
    passed: str = ""
    error: StoredError | None = None
    blob: str = ""


# Longer than any setting allows; what is no such number comes from a stranger, and would be counted with.
Seconds = Annotated[float, msgspec.Meta(gt=0, le=10_000_000)]


class ClaimRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is known of one key. ``nonce`` is random per write, and tells whose write was stored.

    ``owner`` is ``<controller id>.<boot>``. Durations are seconds and never wall-clock times. ``attempts`` counts the
    dispatches that may have run.
    """

    state: ClaimState
    nonce: str
    owner: str
    caller: str
    capability: str
    key: str
    fingerprint: bytes
    request_id: str
    lease_s: Seconds
    window_s: Seconds
    idempotent: bool = False
    """Whether the worker that has it may be asked again."""
    attempts: int = 0
    worker: str = ""
    answer: StoredAnswer | None = None
    job: bool = False
    published: bool = False
    """Whether the job's message is known to be in the stream."""
    reason: str = ""
    """Why it is dead, unknown or cancelled: the suffix of an error's type."""
    message: str = ""
    """What tells the job's message from those of earlier lives of its key, which the stream may still remember."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ClaimRecord).decode


def encode_claim(record: ClaimRecord) -> bytes:
    """A record as it is stored."""
    return _encode(record)


def decode_claim(body: bytes) -> ClaimRecord | None:
    """The record, or None when the bytes hold none; what is final has an answer."""
    try:
        record = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if record.answer is None and record.state in FINAL else record

"""Owns what JetStream's answers mean: acknowledgements, stored messages, refusals and what to do about them.

Everything in here is about bytes; ``bus.streams``, ``bus.objects`` and the stores of ``controller.edge`` ask.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from bus.connection import BusError

# Codes: nats-server's errors.json.
STREAM_NOT_FOUND = 10059
_WRONG_LAST_SEQUENCE = (10071, 10164)
_NO_MESSAGE = 10037
_TOO_LARGE = 10054
_NO_JETSTREAM_FOR_ACCOUNT = 10039
# What to do about a refusal, where the server's own words do not say it.
_ADVICE = {
    10002: "raise the account's JetStream limits",
    10023: "raise max_file in the jetstream block of nats-server, or free space on its disk",
    10027: "raise the account's max_streams",
    10028: "raise max_mem in the jetstream block of nats-server or of the account",
    _NO_JETSTREAM_FOR_ACCOUNT: "give it `jetstream: enabled` in the configuration of nats-server",
    10047: "raise max_file in the jetstream block of nats-server or of the account, free space on the disk, or have "
    "smaller streams made, with claims_max_bytes and jobs_max_bytes",
    10065: "another stream takes them: delete that stream, or choose another prefix",
    10074: "set replicas to 1, or connect to a cluster",
    10076: "start nats-server with -js, or with a block `jetstream {}`",
}
_FULL = "maximum bytes exceeded"
NOBODY_STORES = "JetStream is off, or the stream is missing or has no leader at present"


class Stored(msgspec.Struct, frozen=True, gc=False):
    """JetStream acknowledged the write under this sequence."""

    seq: int


class Conflict(msgspec.Struct, frozen=True):
    """Somebody else wrote first; nothing was stored."""


class Unstored(msgspec.Struct, frozen=True):
    """No acknowledgement: the write may or may not be stored."""

    reason: str


class Refused(msgspec.Struct, frozen=True):
    """JetStream says that it did not store this, and why. ``too_large``: nor will it ever."""

    reason: str
    too_large: bool = False


class Entry(NamedTuple):
    """A stored message: sequence, subject, raw header block (or None) and body."""

    seq: int
    subject: str
    headers: bytes | None
    body: bytes


class Failure(msgspec.Struct, frozen=True):
    """An error of JetStream's API."""

    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    error: Failure | None = None


class _Message(msgspec.Struct):
    subject: str = ""
    seq: int = 0
    hdrs: bytes | None = None
    data: bytes = b""


class _Got(msgspec.Struct):
    message: _Message | None = None
    error: Failure | None = None


class _WhichLast(msgspec.Struct):
    last_by_subj: str


class _WhichNext(msgspec.Struct):
    seq: int
    next_by_subj: str


_decode_ack = msgspec.json.Decoder(_Ack).decode
_decode_got = msgspec.json.Decoder(_Got).decode
_encode = msgspec.json.Encoder().encode


def read_ack(body: bytes) -> Stored | Conflict | Refused | None:
    """What came of a write; None where the answer says nothing of the kind."""
    try:
        ack = _decode_ack(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if ack.error is None:
        return Stored(ack.seq) if ack.seq > 0 else None
    if ack.error.err_code in _WRONG_LAST_SEQUENCE:
        return Conflict()
    return Refused(said(ack.error, ack.stream), ack.error.err_code == _TOO_LARGE)


def ask_last(stream: str, subject: str) -> tuple[str, bytes]:
    """Subject and body of the question for the last message on ``subject``, which only the stream's leader answers."""
    return f"$JS.API.STREAM.MSG.GET.{stream}", _encode(_WhichLast(subject))


def ask_next(stream: str, subject: str, seq: int) -> tuple[str, bytes]:
    """The same for the first message on ``subject`` from ``seq`` on."""
    return f"$JS.API.STREAM.MSG.GET.{stream}", _encode(_WhichNext(seq, subject))


def read_entry(body: bytes, stream: str) -> Entry | None:
    """The message that was asked for, or None where there is none.

    Raises:
        BusError: JetStream says that it cannot be read, or nothing that can be understood.

    """
    try:
        got = _decode_got(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BusError(f"{stream} cannot be read: the answer cannot be understood") from None
    if got.error is not None:
        if got.error.err_code == _NO_MESSAGE:
            return None
        raise BusError(f"{stream} cannot be read: {said(got.error, stream)}")
    if got.message is None or got.message.seq <= 0:
        raise BusError(f"{stream} cannot be read: the answer holds no message")
    return Entry(got.message.seq, got.message.subject, got.message.hdrs or None, got.message.data)


def said(error: Failure, stream: str) -> str:
    """An error in one line, with what to do about it where that is known."""
    if error.description == _FULL:
        return f"{stream} is full; give it more with `nats stream edit {stream} --max-bytes <bytes>`"
    return "; ".join(filter(None, (error.description, _ADVICE.get(error.err_code, ""))))


def refusal(code: int, description: str, url: str) -> tuple[str, str]:
    """What JetStream at ``url`` says, and what to do about it where its words do not say it.

    Without a description nobody listens where JetStream would.
    """
    if not description:
        return f"JetStream is off at {url}", "start nats-server with -js, or with a block `jetstream {}`"
    told = "JetStream is off for the account" if code == _NO_JETSTREAM_FOR_ACCOUNT else description
    return told, _ADVICE.get(code, "")

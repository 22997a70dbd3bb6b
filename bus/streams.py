"""Owns JetStream: creating a stream as specified, appending under an expected sequence, reading the last of a subject.

Outcomes are values, since a refused or unanswered write is an everyday event to its caller.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.js import errors

from bus.connection import Bus, BusError, NoResponder
from bus.specs import StreamSpec, config_of, differences
from subjects.headers import build_block

# JetStream API codes: nats-server's errors.json.
_WRONG_LAST_SEQUENCE = (10071, 10164)
_STREAM_NOT_FOUND = 10059
_NAME_IN_USE = 10058
_NO_MESSAGE = 10037
_NO_JETSTREAM_FOR_ACCOUNT = 10039
# What to do about a refusal, where the server's own words do not say it.
_ADVICE = {
    10002: "raise the account's JetStream limits",
    10023: "raise max_file in the jetstream block of nats-server, or free space on its disk",
    10027: "raise the account's max_streams",
    10028: "raise max_mem in the jetstream block of nats-server or of the account",
    _NO_JETSTREAM_FOR_ACCOUNT: "give it `jetstream: enabled` in the configuration of nats-server",
    10047: "raise max_file in the jetstream block of nats-server or of the account, or free space on the disk",
    10065: "another stream takes them: delete that stream, or choose another prefix",
    10074: "set replicas to 1, or connect to a cluster",
    10076: "start nats-server with -js, or with a block `jetstream {}`",
}


class Stored(NamedTuple):
    """JetStream acknowledged the write under this sequence."""

    seq: int


class Conflict(NamedTuple):
    """Somebody else wrote first; nothing was stored."""


class Unstored(NamedTuple):
    """No acknowledgement: the write may or may not be stored."""

    reason: str


class Entry(NamedTuple):
    """A stored message: sequence, subject, raw header block (or None) and body."""

    seq: int
    subject: str
    headers: bytes | None
    body: bytes


class StreamState(NamedTuple):
    """What tells a stream apart from one recreated under its name: creation time (text) and last sequence."""

    created: str
    last_seq: int


class _Ack(msgspec.Struct):
    seq: int = 0
    error: dict[str, int | str] | None = None


class _Info(msgspec.Struct):
    config: dict[str, Any] = {}


_decode_info = msgspec.json.Decoder(_Info).decode
_decode_ack = msgspec.json.Decoder(_Ack).decode


class Streams:
    """JetStream through one bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def ensure(self, spec: StreamSpec) -> list[str]:
        """Create the stream unless it is there; returns in what one that is there differs, in ways that matter.

        It is left as it is: its size and replicas are an operator's to change, and the rest is for the caller to judge.

        Raises:
            BusError: JetStream is off, full or unreachable; the message says which.

        """
        try:
            await self._bus.jetstream.add_stream(config_of(spec))
        except errors.APIError as error:
            if error.err_code != _NAME_IN_USE:
                raise BusError(f"stream {spec.name} cannot be created: {self._why(error)}") from None
            return await self._differences(spec)
        except (errors.Error, nats.errors.Error, TimeoutError) as error:
            raise BusError(f"JetStream does not answer ({error}); is it on, and has it room?") from None
        return []

    async def _differences(self, spec: StreamSpec) -> list[str]:
        try:
            answer = await self._bus.request(f"$JS.API.STREAM.INFO.{spec.name}", b"", timeout_s=2.0)
            return differences(_decode_info(answer.body).config, spec)
        except (BusError, msgspec.DecodeError) as error:
            raise BusError(f"{spec.name} does not answer: {error}") from None

    async def append(
        self,
        subject: str,
        body: bytes,
        *,
        expected_seq: int,
        headers: tuple[tuple[str, str], ...],
        ttl: timedelta | None,
    ) -> Stored | Conflict | Unstored:
        """Store ``body`` if the last message on ``subject`` still has ``expected_seq`` (0: there is none)."""
        pairs = [("Nats-Expected-Last-Subject-Sequence", str(expected_seq)), *headers]
        if ttl is not None:
            pairs.append(("Nats-TTL", f"{int(ttl.total_seconds())}s"))
        try:
            answer = await self._bus.request(subject, body, build_block(pairs), timeout_s=2.0)
            ack = _decode_ack(answer.body)
        except NoResponder:
            return Unstored("JetStream is off, or the stream is missing")
        except (BusError, msgspec.DecodeError) as error:
            return Unstored(str(error))
        if ack.error is None:
            return Stored(ack.seq)
        if ack.error.get("err_code") in _WRONG_LAST_SEQUENCE:
            return Conflict()
        return Unstored(str(ack.error.get("description")))

    async def read_last(self, stream: str, subject: str) -> Entry | None:
        """The last message on ``subject`` as its leader has it, or None.

        Raises:
            BusError: JetStream does not answer; nothing is known then.

        """
        try:
            raw = await self._bus.jetstream.get_last_msg(stream, subject)
        except errors.APIError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise BusError(f"{stream} cannot be read: {self._why(error)}") from None
        except (errors.Error, nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{stream} cannot be read: {error}") from None
        headers = build_block(raw.headers.items()) if raw.headers else None
        return Entry(raw.seq or 0, raw.subject or subject, headers, raw.data or b"")

    async def state(self, stream: str) -> StreamState | None:
        """Creation time and last sequence, or None when there is no such stream.

        Raises:
            BusError: JetStream does not answer; nothing is known then.

        """
        try:
            info = await self._bus.jetstream.stream_info(stream)
        except errors.APIError as error:
            if error.err_code == _STREAM_NOT_FOUND:
                return None
            raise BusError(f"{stream} does not answer: {self._why(error)}") from None
        except (errors.Error, nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{stream} does not answer: {error}") from None
        return StreamState(str(info.created), int(info.state.last_seq))

    def _why(self, error: errors.APIError) -> str:
        return "; ".join(filter(None, refusal(error.err_code or 0, error.description or "", self._bus.url)))


def refusal(code: int, description: str, url: str) -> tuple[str, str]:
    """What JetStream at ``url`` says, and what to do about it where its words do not say it.

    Without a description nobody listens where JetStream would.
    """
    if not description:
        return f"JetStream is off at {url}", "start nats-server with -js, or with a block `jetstream {}`"
    said = "JetStream is off for the account" if code == _NO_JETSTREAM_FOR_ACCOUNT else description
    return said, _ADVICE.get(code, "")

"""Owns streams: creating one as specified, appending under an expected sequence, reading the last of a subject.

Outcomes are values, since a refused or unanswered write is an everyday event to its caller.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import nats.errors
from nats.js import errors

from bus.answers import (
    NOBODY_STORES,
    STREAM_NOT_FOUND,
    Conflict,
    Entry,
    Failure,
    Refused,
    Stored,
    Unstored,
    ask_last,
    read_ack,
    read_entry,
    refusal,
    said,
)
from bus.connection import Bus, BusError, NoResponder
from bus.specs import StreamSpec, config_of, differences
from subjects.headers import build_block

_NAME_IN_USE = 10058
# What nats-py makes of an answer that is none of JetStream's.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)


class StreamState(NamedTuple):
    """What tells a stream apart from one recreated under its name: creation time (text) and last sequence."""

    created: str
    last_seq: int


class _Info(msgspec.Struct):
    config: dict[str, Any] = {}
    error: Failure | None = None


_decode_info = msgspec.json.Decoder(_Info).decode


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
        except _UNREADABLE:
            raise BusError(f"the answer about {spec.name} cannot be read; does something else answer there?") from None
        return []

    async def _differences(self, spec: StreamSpec) -> list[str]:
        try:
            answer = await self._bus.request(f"$JS.API.STREAM.INFO.{spec.name}", b"", timeout_s=2.0)
            info = _decode_info(answer.body)
        except (BusError, ValueError, RecursionError) as error:
            raise BusError(f"{spec.name} does not answer: {error}") from None
        if info.error is not None:  # it was there a moment ago, and is just being removed
            raise BusError(f"stream {spec.name} cannot be created: {said(info.error, spec.name)}")
        return differences(info.config, spec)

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
        except NoResponder:
            return Unstored(NOBODY_STORES)
        except BusError as error:
            return Unstored(str(error))
        match read_ack(answer.body):
            case Refused(reason):
                return Unstored(reason)
            case None:
                return Unstored("the acknowledgement cannot be understood")
            case known:
                return known

    async def read_last(self, stream: str, subject: str) -> Entry | None:
        """The last message on ``subject`` as its leader has it, or None.

        Raises:
            BusError: JetStream does not answer; nothing is known then.

        """
        question, which = ask_last(stream, subject)
        try:
            answer = await self._bus.request(question, which, timeout_s=2.0)
        except BusError as error:
            raise BusError(f"{stream} cannot be read: {error}") from None
        return read_entry(answer.body, stream)

    async def state(self, stream: str) -> StreamState | None:
        """Creation time and last sequence, or None when there is no such stream.

        Raises:
            BusError: JetStream does not answer; nothing is known then.

        """
        try:
            info = await self._bus.jetstream.stream_info(stream)
        except errors.APIError as error:
            if error.err_code == STREAM_NOT_FOUND:
                return None
            raise BusError(f"{stream} does not answer: {self._why(error)}") from None
        except (errors.Error, nats.errors.Error, TimeoutError) as error:
            raise BusError(f"{stream} does not answer: {error}") from None
        except _UNREADABLE:
            raise BusError(f"the answer about {stream} cannot be read; does something else answer there?") from None
        return StreamState(str(info.created), int(info.state.last_seq))

    def _why(self, error: errors.APIError) -> str:
        return "; ".join(filter(None, refusal(error.err_code or 0, error.description or "", self._bus.url)))

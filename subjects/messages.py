"""Owns the small control messages: heartbeat, departure, control, acknowledgements. UTF-8 JSON, bounded."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from subjects.errors import Refusal
from subjects.fields import convert_fields, decode_object, refuse
from subjects.manifests import Bid, NonNegative

# Bids for a few hundred capabilities fit.
MAX_CONTROL_BYTES = 64 * 1024

T = TypeVar("T", bound=msgspec.Struct)
Count = Annotated[int, Meta(ge=0, le=2**53)]
Instance = Annotated[str, Meta(min_length=1, max_length=128)]


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Liveness and load; all but ``seq`` may be absent."""

    seq: Count
    instance: Instance | None = None
    in_flight: Count | None = None
    capacity: Count | None = None
    draining: bool = False
    bids: dict[str, NonNegative | Bid] | None = None


class Deregister(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker leaves; no new work from now on."""

    reason: Annotated[str, Meta(max_length=256)] = ""
    instance: Instance | None = None


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """Controller to worker."""

    op: Literal["cancel", "reregister", "drain"]
    dispatch_id: str | None = None
    error: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """The acknowledgement of a registration; the interval is in seconds."""

    worker_id: str
    controller: str
    heartbeat_interval_s: float
    status: str = "registered"


class Departure(msgspec.Struct, frozen=True):
    """What ``CRANK_REGISTRY`` keeps for an hour of a worker that left: so that its capabilities stay known."""

    worker_id: str
    capabilities: tuple[str, ...]
    reason: str = ""


_decode_heartbeat = msgspec.json.Decoder(Heartbeat).decode
_decode_departure = msgspec.json.Decoder(Departure).decode
encode = msgspec.json.Encoder().encode
"""Any of these messages as UTF-8 JSON bytes."""


def parse_heartbeat(body: bytes) -> Heartbeat | Refusal:
    """A heartbeat, or a 400 with every offence; the common case is one call into the decoder."""
    if len(body) <= MAX_CONTROL_BYTES:
        try:
            return _decode_heartbeat(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return _slowly(body, Heartbeat, "heartbeat")


def parse_deregister(body: bytes) -> Deregister | Refusal:
    """A departure's reason; an empty body is a departure without one."""
    return _slowly(body or b"{}", Deregister, "deregistration")


def parse_control(body: bytes) -> Control | Refusal:
    """A control message, or a 400."""
    return _slowly(body, Control, "control message")


def parse_departure(body: bytes) -> Departure | None:
    """A stored departure, or None when the record is not one of ours."""
    try:
        return _decode_departure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _slowly(body: bytes, kind: type[T], what: str) -> T | Refusal:
    raw = decode_object(body, MAX_CONTROL_BYTES, what)
    if isinstance(raw, Refusal):
        return raw
    value, offences = convert_fields(raw, kind)
    return refuse(what, offences) if value is None else value

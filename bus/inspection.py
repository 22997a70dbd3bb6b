"""Owns asking a NATS server how it is: its clock, JetStream's account, one stream. Reads only.

What a stream should be stands in ``bus.specs``; what to do about what is found is the caller's affair.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from bus.answers import STREAM_NOT_FOUND, Failure, refusal
from bus.connection import Bus, BusError, NoResponder
from bus.specs import StreamSpec, differences

T = TypeVar("T", bound=msgspec.Struct)

_TIMEOUT_S = 2.0


class NoJetStream(BusError):
    """JetStream is off here or for this account, or it fails; ``mend`` says what to do, where that is known."""

    def __init__(self, said: str, mend: str) -> None:
        super().__init__(said)
        self.mend = mend


class Limits(msgspec.Struct, frozen=True):
    """An account's limits; -1 is none."""

    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1
    max_bytes_required: bool = False


class Tier(msgspec.Struct, frozen=True):
    """What is used of an account, or of its share for streams of so many replicas."""

    storage: int = 0
    reserved_storage: int = 0
    streams: int = 0
    consumers: int = 0
    limits: Limits = Limits()


class Account(Tier, frozen=True):
    """JetStream's account. ``tiers`` by replicas, such as ``R3``, where the limits are set for each."""

    tiers: dict[str, Tier] = {}


class Peer(msgspec.Struct, frozen=True):
    """Another server with a copy of a stream."""

    name: str
    current: bool = False
    offline: bool = False


class Group(msgspec.Struct, frozen=True):
    """The servers of one stream."""

    leader: str = ""
    replicas: tuple[Peer, ...] = ()


class Stream(msgspec.Struct, frozen=True):
    """One stream: its configuration and state as the server has them, its servers, and its leader's clock."""

    config: dict[str, Any]
    cluster: Group = Group()
    state: dict[str, Any] = {}
    ts: datetime | None = None

    def differences(self, spec: StreamSpec) -> list[str]:
        """What is not as ``Streams.ensure`` makes it, the number of replicas apart."""
        return differences(self.config, spec)


class _Server(msgspec.Struct):
    time: datetime


class _UserInfo(msgspec.Struct):
    server: _Server


class _Answer(msgspec.Struct):
    error: Failure | None = None


async def clock(bus: Bus) -> datetime:
    """The server's clock; nats-server 2.10 and newer tell.

    Raises:
        BusError: it does not tell.

    """
    return _read((await bus.request("$SYS.REQ.USER.INFO", b"", timeout_s=_TIMEOUT_S)).body, _UserInfo).server.time


async def account(bus: Bus) -> Account:
    """JetStream's account.

    Raises:
        NoJetStream: there is none.
        BusError: the answer cannot be read, or the connection is gone.

    """
    found = await _ask(bus, "$JS.API.INFO", Account)
    assert found is not None, "an account is never missing"
    return found


async def stream(bus: Bus, name: str) -> Stream | None:
    """The stream, or None where there is none.

    Raises:
        NoJetStream, BusError: as ``account``.

    """
    return await _ask(bus, f"$JS.API.STREAM.INFO.{name}", Stream)


async def _ask(bus: Bus, subject: str, kind: type[T]) -> T | None:
    try:
        body = (await bus.request(subject, b"", timeout_s=_TIMEOUT_S)).body
    except NoResponder:
        raise NoJetStream(*refusal(0, "", bus.url)) from None
    error = _read(body, _Answer).error
    if error is None:
        return _read(body, kind)
    if error.err_code == STREAM_NOT_FOUND:
        return None
    raise NoJetStream(*refusal(error.err_code, error.description, bus.url))


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BusError("the answer cannot be read; does something else answer there?") from None

"""Owns what a NATS service says of itself (ADR-32): answers to ``$SRV.PING`` and ``$SRV.INFO``, bounded and checked.

Anybody can answer there, so whatever arrives is a stranger's. What is made of it is ``crank.adopting.plans``' affair;
``crank.adopting.watch`` calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from subjects.errors import describe

# Hundreds of endpoints with a line of metadata each; more is a mistake or an attack.
MAX_ANSWER_BYTES = 128 * 1024
MAX_ENDPOINTS = 256
_MAX_ID_CHARS = 128
# What the protocol takes for a group that is not named; who wants none says "".
_DEFAULT_QUEUE = "q"

Metadata = dict[str, Any]


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint of one instance, as it says. ``queue_group`` is "" where every instance gets every request."""

    name: str
    subject: str
    queue_group: str = _DEFAULT_QUEUE
    metadata: Metadata | None = None


class Ping(msgspec.Struct, frozen=True):
    """An instance that is there."""

    name: str
    id: str
    version: str = ""


class Info(msgspec.Struct, frozen=True):
    """An instance, and what it offers."""

    name: str
    id: str
    version: str
    endpoints: tuple[Endpoint, ...] | None = None
    metadata: Metadata | None = None


A = TypeVar("A", Ping, Info)

_decode_ping = msgspec.json.Decoder(Ping).decode
_decode_info = msgspec.json.Decoder(Info).decode


def read_ping(body: bytes) -> Ping | str:
    """An answer to a PING, or what is wrong with it."""
    return _read(body, _decode_ping)


def read_info(body: bytes) -> Info | str:
    """An answer to an INFO, or what is wrong with it."""
    info = _read(body, _decode_info)
    if isinstance(info, Info) and info.endpoints and len(info.endpoints) > MAX_ENDPOINTS:
        return f"{info.id} has {len(info.endpoints)} endpoints, and at most {MAX_ENDPOINTS} are read"
    return info


def _read(body: bytes, decode: Callable[[bytes], A]) -> A | str:
    if len(body) > MAX_ANSWER_BYTES:
        return f"an answer of {len(body)} bytes, and at most {MAX_ANSWER_BYTES} are read"
    try:
        answer = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"an answer that is not of the services protocol: {describe(str(error), 100)}"
    if not (answer.id.isascii() and answer.id.isprintable() and 0 < len(answer.id) <= _MAX_ID_CHARS):
        return f"an answer with the id {describe(answer.id)}"
    return answer

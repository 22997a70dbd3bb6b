"""Owns asking controllers what operators ask, and reading what is answered. ``fleet`` and ``objectives`` ask."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from bus import Bus
from bus.connection import BusError

T = TypeVar("T")

PATIENCE_S = 1.5
# Of each list that is asked for: more than a person reads.
PAGE = 1000


async def told(bus: Bus, subject: str, question: dict[str, object], kind: type[T]) -> T:
    """A controller's answer; ``BusError`` where there is none or it cannot be read."""
    body = (await bus.request(subject, msgspec.json.encode(question), timeout_s=PATIENCE_S)).body
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BusError(f"what {subject} answers cannot be read") from None

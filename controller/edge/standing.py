"""Owns reading the claims behind an operator's lists: some by key, and how many there are in each state.

A claim's state stands in a header of its message, so that counting them reads no record.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from bus import Bus
from controller.edge.stream_reading import Message, headlines, message_from
from subjects.claims import FINAL, ClaimRecord, decode_claim
from subjects.names import Subjects
from subjects.tokens import is_token

# Enough to keep a server busy, and few enough to hold up nobody.
_AT_ONCE = 16
_state = re.compile(rb"\r\nCrank-Claim: ?([a-z]{1,32})\r\n").search
_released = re.compile(rb"\r\nKV-Operation: ?(?:DEL|PURGE)\r\n").search


class Standing(NamedTuple):
    """A claim's record, and when it was written last."""

    record: ClaimRecord
    time: datetime


class Counts(NamedTuple):
    """How many claims are in which state; keys without a final one, the longest unchanged first, the first of them."""

    states: dict[str, int]
    unfinished: list[str]
    complete: bool


class Claims:
    """The bucket of claims, read."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._stream = f"KV_{subjects.bucket_idempotency}"
        self._prefix = f"$KV.{subjects.bucket_idempotency}."

    async def of(self, keys: Sequence[str]) -> list[Standing | None]:
        """What stands under each key, an answer's body left where it is; None where it is free or unreadable.

        Raises:
            BusError: JetStream does not answer.

        """
        found: list[Standing | None] = []
        for at in range(0, len(keys), _AT_ONCE):
            found += await asyncio.gather(*(self._one(key) for key in keys[at : at + _AT_ONCE]))
        return found

    async def _one(self, key: str) -> Standing | None:
        if not is_token(key):
            return None
        message = await message_from(self._bus, self._stream, 1, self._prefix + key)
        record = decode_claim(message.body) if message is not None else None
        return Standing(record, message.time) if message is not None and record is not None else None

    async def count(self, most: int, seconds: float) -> Counts:
        """How many there are of each state, and up to ``most`` keys that are not final.

        Raises:
            BusError: JetStream does not answer.

        """
        states: Counter[str] = Counter()
        unfinished: list[str] = []

        def take(message: Message) -> bool:
            headers = message.headers or b""
            if _released(headers):
                return True
            found = _state(headers)
            state = found[1].decode() if found is not None else "unreadable"
            states[state] += 1
            if state not in FINAL and len(unfinished) < most:
                unfinished.append(message.subject.removeprefix(self._prefix))
            return True

        complete = await headlines(self._bus, self._stream, f"{self._prefix}>", 0, seconds, take)
        return Counts(dict(sorted(states.items())), unfinished, complete)

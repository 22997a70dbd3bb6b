"""Owns one stream as JetStream keeps it, in memory: what is published on its subjects, under a compare-and-set, once.

It answers on JetStream's own subjects, as much as controllers ask of it, so that whoever stores something here is the
real one. It begins empty, is never full, and ends with the test. ``crank.testing.streams`` makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from bus import Entry, StreamSpec
from bus.specs import config_of
from crank.testing.exchange import MemoryBus
from subjects.headers import EMPTY, Block, parse_block

_WRONG_LAST_SEQUENCE, _NO_MESSAGE = 10071, 10037
_FOR_EVER = float("inf")


class Kept(NamedTuple):
    """A stored message, when it was stored, and until when it is kept on the loop's clock."""

    entry: Entry
    at: datetime
    until: float


class MemoryStream:
    """One stream; ``followers`` get every entry after it is stored."""

    def __init__(self, bus: MemoryBus, spec: StreamSpec) -> None:
        self.name = spec.name
        self.followers: list[Callable[[Entry], None]] = []
        self._bus = bus
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._subjects: dict[str, list[Kept]] = {}
        self._ids: dict[str, int] = {}
        self._last_seq = 0

    async def start(self) -> None:
        """Listen."""
        for subject, handler in (
            (self._spec.subjects, self._store),
            (f"$JS.API.STREAM.MSG.GET.{self.name}", self._get),
            (f"$JS.API.STREAM.MSG.DELETE.{self.name}", self._delete),
            (f"$JS.API.STREAM.INFO.{self.name}", self._info),
        ):
            await self._bus.subscribe(subject, handler)

    @property
    def kept(self) -> list[Kept]:
        """What is stored, in its order."""
        return sorted(one for subject in list(self._subjects) for one in self._on(subject))

    def remove(self, seq: int) -> None:
        """Forget a message."""
        for subject, kept in self._subjects.items():
            self._subjects[subject] = [one for one in kept if one.entry.seq != seq]

    def _on(self, subject: str) -> list[Kept]:
        now = self._loop.time()
        kept = self._subjects[subject] = [one for one in self._subjects.get(subject, ()) if one.until > now]
        return kept

    def _store(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        block = parse_block(headers)
        ours = block.ours if isinstance(block, Block) else EMPTY.ours
        there = self._on(subject)
        last_seq = there[-1].entry.seq if there else 0
        if int(ours.get("nats-expected-last-subject-sequence", last_seq)) != last_seq:
            self._refuse(reply, _WRONG_LAST_SEQUENCE, f"wrong last sequence: {last_seq}")
            return
        message_id = ours.get("nats-msg-id", "")
        if message_id in self._ids:
            self.answer(reply, {"stream": self.name, "seq": self._ids[message_id], "duplicate": True})
            return
        self._last_seq = seq = self._last_seq + 1
        if message_id:
            self._ids[message_id] = seq
        if self._spec.max_per_subject == 1:
            there.clear()
        entry, ttl = Entry(seq, subject, headers, body), ours.get("nats-ttl")
        until = self._loop.time() + int(ttl.rstrip("s")) if ttl else _FOR_EVER
        there.append(Kept(entry, datetime.now(UTC), until))
        self.answer(reply, {"stream": self.name, "seq": seq})
        for follow in self.followers:
            follow(entry)

    def _get(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        which = msgspec.json.decode(body)
        if "last_by_subj" in which:
            found = self._on(which["last_by_subj"])[-1:]
        elif "next_by_subj" in which:
            found = [one for one in self._on(which["next_by_subj"]) if one.entry.seq >= which["seq"]]
        else:
            found = [one for one in self.kept if one.entry.seq == which["seq"]]
        if not found:
            self._refuse(reply, _NO_MESSAGE, "no message found")
            return
        entry, at, _ = found[0]
        message = {"subject": entry.subject, "seq": entry.seq, "hdrs": entry.headers or b"", "data": entry.body}
        self.answer(reply, {"message": {**message, "time": at}})

    def _delete(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        self.remove(msgspec.json.decode(body)["seq"])
        self.answer(reply, {"success": True})

    def _info(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        kept = self.kept
        state = {
            "messages": len(kept),
            "bytes": sum(len(one.entry.body) + len(one.entry.headers or b"") for one in kept),
            "first_seq": kept[0].entry.seq if kept else self._last_seq + 1,
            "last_seq": self._last_seq,
            "subjects": {subject: len(there) for subject, there in self._subjects.items() if there},
        }
        self.answer(reply, {"config": config_of(self._spec).as_dict(), "state": state, "ts": datetime.now(UTC)})

    def _refuse(self, reply: str, code: int, description: str) -> None:
        self.answer(reply, {"error": {"err_code": code, "description": description}})

    def answer(self, reply: str, answer: dict[str, Any]) -> None:
        """Answer in JetStream's JSON."""
        if reply:
            self._bus.publish(reply, msgspec.json.encode(answer))

"""Owns one stream as JetStream keeps it, in memory: what is published on its subjects, under a compare-and-set, once.

It answers on JetStream's own subjects, so that whoever stores something here is the real one. It begins empty, is
never full, and ends with the test; ``crank.testing.streams`` makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from bus import Bus, Entry, StreamSpec
from bus.specs import config_of
from subjects.headers import EMPTY, Block, build_block, parse_block

_WRONG_LAST_SEQUENCE, _NO_MESSAGE = 10071, 10037
_FOR_EVER = float("inf")


class _Kept(NamedTuple):
    entry: Entry
    until: float


class MemoryStream:
    """One stream; ``followers`` get every entry after it is stored."""

    def __init__(self, bus: Bus, spec: StreamSpec) -> None:
        self._bus = bus
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._subjects: dict[str, list[_Kept]] = {}
        self._ids: dict[str, int] = {}
        self._last_seq = 0
        self.followers: list[Callable[[Entry], None]] = []

    async def start(self) -> None:
        """Listen."""
        name = self._spec.name
        await self._bus.subscribe(self._spec.subjects, self._store)
        await self._bus.subscribe(f"$JS.API.STREAM.MSG.GET.{name}", self._get)
        await self._bus.subscribe(f"$JS.API.STREAM.INFO.{name}", self._info)

    @property
    def entries(self) -> list[Entry]:
        """What is stored, in its order."""
        return sorted(entry for subject in list(self._subjects) for entry in self._on(subject))

    def _on(self, subject: str) -> list[Entry]:
        now = self._loop.time()
        kept = [one for one in self._subjects.get(subject, ()) if one.until > now]
        self._subjects[subject] = kept
        return [one.entry for one in kept]

    def _store(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        block = parse_block(headers)
        ours = block.ours if isinstance(block, Block) else EMPTY.ours
        there = self._on(subject)
        last_seq = there[-1].seq if there else 0
        if int(ours.get("nats-expected-last-subject-sequence", last_seq)) != last_seq:
            self._refuse(reply, _WRONG_LAST_SEQUENCE, f"wrong last sequence: {last_seq}")
            return
        message_id = ours.get("nats-msg-id", "")
        if message_id in self._ids:
            self._answer(reply, {"stream": self._spec.name, "seq": self._ids[message_id], "duplicate": True})
            return
        self._last_seq = seq = self._last_seq + 1
        if message_id:
            self._ids[message_id] = seq
        if self._spec.max_per_subject == 1:
            self._subjects[subject].clear()
        entry, ttl = Entry(seq, subject, headers, body), ours.get("nats-ttl")
        self._subjects[subject].append(_Kept(entry, self._loop.time() + int(ttl.rstrip("s")) if ttl else _FOR_EVER))
        self._answer(reply, {"stream": self._spec.name, "seq": seq})
        for follow in self.followers:
            follow(entry)
        if self._spec.republish is not None:
            src, dest = (pattern.removesuffix(">") for pattern in self._spec.republish)
            self._bus.publish(dest + subject.removeprefix(src), b"", build_block([("Nats-Sequence", str(seq))]))

    def _get(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        which = msgspec.json.decode(body)
        last = "last_by_subj" in which
        found = self._on(which["last_by_subj" if last else "next_by_subj"])
        found = found[-1:] if last else [entry for entry in found if entry.seq >= which["seq"]]
        if not found:
            self._refuse(reply, _NO_MESSAGE, "no message found")
            return
        entry = found[0]
        message = {"subject": entry.subject, "seq": entry.seq, "hdrs": entry.headers or b"", "data": entry.body}
        self._answer(reply, {"message": message})

    def _info(self, subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        entries = self.entries
        state = {
            "messages": len(entries),
            "bytes": sum(len(entry.body) + len(entry.headers or b"") for entry in entries),
            "last_seq": self._last_seq,
        }
        self._answer(reply, {"config": config_of(self._spec).as_dict(), "state": state})

    def _refuse(self, reply: str, code: int, description: str) -> None:
        self._answer(reply, {"error": {"err_code": code, "description": description}})

    def _answer(self, reply: str, answer: dict[str, Any]) -> None:
        if reply:
            self._bus.publish(reply, msgspec.json.encode(answer))

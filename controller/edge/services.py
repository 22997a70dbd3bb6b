"""Owns what NATS's own tools see of a controller: a service whose endpoints are the capabilities (ADR-32).

It answers ``$SRV.PING``, ``$SRV.INFO`` and ``$SRV.STATS``, reads the registry and the counts, and changes nothing.
``app`` subscribes its handlers.
"""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from bus.connection import Handler
from controller.core.pools import Group
from controller.core.registry import Registry
from controller.edge.record_sink import RecordSink, Tally
from subjects.errors import ErrorKind
from subjects.headers import one_line
from subjects.messages import encode
from subjects.names import QUEUE_CONTROLLERS, SERVICE_NAME, Subjects, service
from subjects.tokens import CapabilityId
from subjects.versions import by_precedence

# A worker may register a capability in any number of versions.
_VERSIONS_SHOWN = 10
# An answer is sent again for so many times as long as it took to make: thousands of capabilities take some 20 ms, and
# who asks over and over gets a twentieth of the controller's time, and no more.
_REST = 20
# Nor more than this much of what the connection takes meanwhile: those thousands are a megabyte for each who asks.
_MOST_BYTES = 16 * 1024 * 1024
# What the envelope says beside the endpoints' own bytes: how many are missing.
_MISSING_BYTES = 64
_CODES = {kind.suffix: kind.status for kind in ErrorKind}
_NOTHING = Tally()

Row = dict[str, Any]
RowOf = Callable[[CapabilityId, Group], Row]


class Services:
    """One instance of the service ``crank-controller``, new with each start."""

    def __init__(
        self,
        subjects: Subjects,
        controller_id: str,
        registry: Registry,
        records: RecordSink,
        max_bytes: int,
        reply_json: Callable[[str, bytes], None],
    ) -> None:
        self._subjects = subjects
        self._registry = registry
        self._records = records
        self._max_bytes = max_bytes
        self._reply_json = reply_json
        # Two installations may name their controllers alike; a part of a subject has 64 characters at most.
        self.id = f"{controller_id[:51]}-{secrets.token_hex(6)}"
        self._made: dict[str, tuple[float, int, bytes]] = {}
        """Answers by kind: until when each is sent again, and how often."""
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._identity: Row = {"name": SERVICE_NAME, "id": self.id, "version": _version("crank-router")}
        self._metadata = {
            "controller": controller_id,
            "prefix": subjects.prefix,
            "nats-py": _version("nats-py"),
            "python": platform.python_version(),
        }

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """``(subject, handler)`` of every subscription; without a queue group, since every instance answers."""
        for verb, handler in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for address in ((), (SERVICE_NAME,), (SERVICE_NAME, self.id)):
                yield service(verb, *address), handler

    def _ping(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        self._answer(reply, "ping", {}, None)

    def _info(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        about = f"Routes what is asked on {self._subjects.prefix}.request.> to the workers that offer it"
        self._answer(reply, "info", {"description": about}, self._described)

    def _stats(self, subject: str, reply: str, raw: bytes | None, body: bytes) -> None:
        self._answer(reply, "stats", {"started": self._started}, self._counted)

    def _answer(self, reply: str, kind: str, more: Row, row_of: RowOf | None) -> None:
        if not reply:
            return
        now = time.monotonic()
        good_until, left, body = self._made.get(kind, (now, 0, b""))
        if now >= good_until:
            body = self._make(kind, more, row_of)
            done = time.monotonic()
            good_until, left = done + (done - now) * _REST, max(1, _MOST_BYTES // len(body))
        if left:
            self._made[kind] = (good_until, left - 1, body)
            self._reply_json(reply, body)

    def _make(self, kind: str, more: Row, row_of: RowOf | None) -> bytes:
        answer = {"type": f"io.nats.micro.v1.{kind}_response", **self._identity, "metadata": self._metadata, **more}
        if row_of is not None:
            known = len(self._registry.groups)
            answer["endpoints"] = rows = self._rows(row_of, self._max_bytes - len(encode(answer)) - _MISSING_BYTES)
            if len(rows) < known:
                answer["metadata"] = {**self._metadata, "endpoints_missing": str(known - len(rows))}
        return encode(answer)

    def _rows(self, row_of: RowOf, room: int) -> list[msgspec.Raw]:
        """As many endpoints as one message carries, in the order of their capabilities."""
        rows: list[msgspec.Raw] = []
        for capability, group in sorted(self._registry.groups.items()):
            row = encode(row_of(capability, group))
            room -= len(row) + 1
            if room < 0:
                break
            rows.append(msgspec.Raw(row))
        return rows

    def _endpoint(self, capability: CapabilityId) -> Row:
        return {
            # Not unique: `a-b:c` and `a:b-c` are called alike, and told apart by their subjects.
            "name": capability.replace(":", "-"),
            "subject": self._subjects.request(capability),
            "queue_group": QUEUE_CONTROLLERS,
        }

    def _described(self, capability: CapabilityId, group: Group) -> Row:
        offers = {offer.spec.version: offer for offer in group.offers}
        versions = by_precedence(offers)
        metadata = {"capability": capability, "versions": ", ".join(versions[:_VERSIONS_SHOWN])}
        if versions:
            newest = offers[versions[0]].spec
            metadata |= {"idempotent": _yes(newest.idempotent), "streaming": _yes(newest.streaming)}
        return {**self._endpoint(capability), "metadata": metadata}

    def _counted(self, capability: CapabilityId, group: Group) -> Row:
        tally = self._records.by_capability.get(capability, _NOTHING)
        total_ns = int(tally.total_ms * 1e6)
        detail = tally.detail if tally.detail.isprintable() else one_line(tally.detail)  # it ends up in terminals
        return {
            **self._endpoint(capability),
            "num_requests": tally.requests,
            "num_errors": tally.errors,
            "last_error": f"{_CODES[tally.outcome]}:{detail}" if tally.errors else "",
            "processing_time": total_ns,
            "average_processing_time": total_ns // tally.requests if tally.requests else 0,
        }


def _yes(flag: bool) -> str:
    return "true" if flag else "false"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder of sources
        return "0.0.0"

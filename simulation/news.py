"""Owns what one controller was told of workers: who leaves, who is deaf, what the stream has. ``watch`` asks it.

It believes nothing that the controller thinks; where two messages could be told apart only by thinking, it is lenient.
"""

from __future__ import annotations

from typing import Any

from controller.core.commands import ReplyRefusal, StoreDeparture, StoreManifest
from controller.core.events import (
    DeregisterAsked,
    EntrySeen,
    HeartbeatSeen,
    RegisterAsked,
    RegistryRestarted,
    StoredDeparture,
    SubjectRead,
    WriteAnswered,
)
from controller.core.fleet import Offer, Worker
from controller.core.registry import GONE_AFTER, Registry
from simulation.laws import must
from simulation.stream import digest_of
from subjects.tokens import WorkerId


class News:
    """That of one boot. What takes an event in says what of it is worth a line. ``now`` is set before."""

    now = 0.0

    def __init__(self) -> None:
        self._leaving: dict[tuple[WorkerId, str | None], str] = {}
        """Processes that said that they drain or leave; who asked to deregister and is refused has not left."""
        self._deaf: dict[WorkerId, set[tuple[str, str]]] = {}
        """Addresses and versions that nobody listened to, until the worker is heard of again."""
        self._came: dict[WorkerId, float] = {}
        """When it registered last, as far as this controller was told."""
        self._stored: dict[WorkerId, tuple[int, bytes | None]] = {}
        """The newest sequence, and the manifest's digest; None when the worker left."""
        self._writing: dict[WorkerId, bytes | None] = {}
        self._heard: dict[tuple[WorkerId, str | None], float] = {}
        """When a process was heard last, on the clock of one that stood still now and then."""
        self.handlers: dict[type, Any] = {
            HeartbeatSeen: self._heartbeat,
            DeregisterAsked: self._deregister,
            RegisterAsked: self._register,
            EntrySeen: self._entry,
            SubjectRead: self._entry,
            RegistryRestarted: self._restarted,
            WriteAnswered: self._written,
        }

    def _heartbeat(self, event: HeartbeatSeen) -> str:
        beat = event.heartbeat
        self._deaf.pop(event.worker_id, None)
        self._heard[event.worker_id, beat.instance] = self.now
        if beat.draining:
            self._leaving[event.worker_id, beat.instance] = ""
        return f"{event.worker_id} {beat.seq}{' draining' if beat.draining else ''}"

    def _deregister(self, event: DeregisterAsked) -> str:
        self._leaving.setdefault((event.worker_id, event.message.instance), event.reply)
        return event.worker_id

    def _register(self, event: RegisterAsked) -> str:
        self._comes(event.manifest.worker_id, event.manifest.instance)
        return f"{event.manifest.worker_id} {event.manifest.instance}"

    def _comes(self, worker_id: WorkerId, instance: str | None) -> None:
        self._leaving.pop((worker_id, instance), None)
        self._deaf.pop(worker_id, None)
        self._came[worker_id] = self.now

    def _entry(self, event: EntrySeen | SubjectRead) -> str:
        entry = event.entry
        if entry is None:
            assert isinstance(event, SubjectRead)
            self._stored.pop(event.worker_id, None)
            return event.worker_id
        if isinstance(entry, StoredDeparture):
            self._is_new(entry.worker_id, entry.seq, None)
        elif self._is_new(entry.worker_id, entry.seq, entry.digest):
            self._comes(entry.worker_id, entry.manifest.instance)
        return f"{entry.worker_id} {entry.seq} {type(entry).__name__}"

    def _is_new(self, worker_id: WorkerId, seq: int, digest: bytes | None) -> bool:
        known = self._stored.get(worker_id)
        if known is not None and seq <= known[0]:
            return False
        self._stored[worker_id] = (seq, digest)
        return True

    def _restarted(self, event: RegistryRestarted) -> str:
        self._stored.clear()
        return ""

    def _written(self, event: WriteAnswered) -> str:
        if event.seq is not None:
            self._is_new(event.worker_id, event.seq, self._writing[event.worker_id])
        return f"{event.worker_id} {'conflict' if event.conflict else event.seq}"

    def stood_still(self, for_s: float) -> None:
        """Nobody could be heard."""
        self._heard = {who: at + for_s for who, at in self._heard.items()}

    def writes(self, command: StoreManifest | StoreDeparture) -> None:
        """The controller writes to the stream: one write a worker at a time."""
        self._writing[command.worker_id] = digest_of(command.body) if isinstance(command, StoreManifest) else None

    def refused(self, command: ReplyRefusal) -> None:
        """The controller refuses a control message."""
        for who in [who for who, reply in self._leaving.items() if reply == command.reply]:
            del self._leaving[who]

    def nobody_listens(self, address: str, version: str, sent_at: float) -> None:
        """The server said so of a dispatch; that says nothing of who came since."""
        worker_id = WorkerId(address.partition(".")[0])
        if self._came.get(worker_id, 0.0) <= sent_at:
            self._deaf.setdefault(worker_id, set()).add((address, version))

    # What follows -------------------------------------------------------------------

    def chosen(self, offer: Offer, reply: str) -> None:
        """It is about to be dispatched to: see whether it may, by all that was told."""
        worker = offer.worker
        # Without an instance nobody can tell it from the process before it.
        leaving = worker.instance is not None and (worker.id, worker.instance) in self._leaving
        must(not leaving, "known-gone", f"{reply} to {worker.id}, which said that it leaves")
        deaf = (offer.address, offer.spec.version) in self._deaf.get(worker.id, ())
        must(not deaf, "known-gone", f"{reply} to {offer.address}, where nobody listened")

    def left(self, worker: Worker, interval_s: float) -> None:
        """The controller takes it for gone."""
        silent_s = self.now - self._heard.get((worker.id, worker.instance), 0.0)
        must(
            silent_s >= GONE_AFTER * interval_s, "recovery", f"{worker.id} is gone, and was heard {silent_s:.3f} s ago"
        )

    def check(self, registry: Registry) -> None:
        """Whoever is known is known as the stream had it last."""
        for worker_id, (seq, digest) in self._stored.items():
            worker = registry.workers.get(worker_id)
            if worker is None:
                continue
            must(digest is not None, "agreement", f"{worker_id} left by entry {seq}, and is {worker.state.value}")
            same = (worker.seq, worker.digest) == (seq, digest)
            must(same, "agreement", f"{worker_id} is known by entry {worker.seq}, and the stream told {seq}")

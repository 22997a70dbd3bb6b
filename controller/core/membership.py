"""Owns how workers come, stay and leave: registrations, departures, heartbeats, and the registry stream behind them.

A registration is in force when the stream has stored it, under the sequence that was known when it arrived; so of two
controllers only one wins. *Gone* is each controller's own view and is never written: see ``presence``. ``router`` calls
both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.core.commands import (
    Command,
    ReadSubject,
    ReplyJson,
    ReplyRefusal,
    SendControl,
    StoreDeparture,
    StoreManifest,
)
from controller.core.events import (
    DeregisterAsked,
    HeartbeatSeen,
    RegisterAsked,
    StoredDeparture,
    StoredManifest,
    SubjectRead,
    WriteAnswered,
)
from controller.core.fleet import State, Worker
from controller.core.presence import Presence
from controller.core.world import World
from subjects.errors import ErrorKind, Refusal
from subjects.messages import Control, Departure, Registered, encode
from subjects.tokens import CapabilityId, WorkerId

# A registration that loses the race this often is somebody else's to make.
_MAX_TRIES = 3
# Unknown workers whose subject is being read; more than this at once is a flood, and their next heartbeat tries again.
_MAX_READING = 512
# Repeats of one registration that wait for its answer.
_MAX_REPLIES = 16
# A worker waits so long for the answer to its registration; then it asks again, elsewhere perhaps, and may leave after.
# What a controller that stood still for longer finds unread must not bring it back.
_PATIENCE_MS = 2000
_REREGISTER = Control("reregister", error="worker_not_registered")


@dataclass(slots=True)
class _Joining:
    """A registration that waits for the stream."""

    asked: RegisterAsked
    replies: list[str]
    """Where those wait who sent the same before; all get the one answer."""
    tries: int = 0
    drains: bool = False
    """Whether its worker said meanwhile that it drains."""


class Membership:
    """The comings and goings of workers, as decisions."""

    def __init__(self, world: World, presence: Presence, emit: Callable[[Command], None]) -> None:
        self._world = world
        self._registry = world.registry
        self._presence = presence
        self._emit = emit
        self._joining: dict[WorkerId, _Joining] = {}
        self._leaving: dict[WorkerId, DeregisterAsked] = {}
        self._reading: set[WorkerId] = set()
        """Workers that nobody here knows, while their subject is read."""
        self._known_when_read: dict[WorkerId, int] = {}

    # Coming ---------------------------------------------------------------------

    def register(self, event: RegisterAsked) -> None:
        """A worker asks to be registered."""
        worker_id = event.manifest.worker_id
        if self._world.stalled_ms > _PATIENCE_MS:
            detail = "This controller stood still for too long to know whether that is still so; try again."
            self._refuse(event.reply, ErrorKind.STORE_UNAVAILABLE, detail)
            return
        joining = self._joining.get(worker_id)
        # One write a worker at a time: an answer of the stream does not say which write it is for.
        if worker_id in self._leaving or (joining is not None and joining.asked.digest != event.digest):
            detail = "Another registration or departure of this id is under way; try again."
            self._refuse(event.reply, ErrorKind.STORE_UNAVAILABLE, detail)
            return
        if joining is not None:
            if len(joining.replies) < _MAX_REPLIES:
                joining.replies.append(event.reply)
            return
        self._joining[worker_id] = _Joining(event, [event.reply])
        self._join(worker_id)

    def _join(self, worker_id: WorkerId) -> None:
        joining = self._joining[worker_id]
        event = joining.asked
        worker = self._registry.workers.get(worker_id)
        if worker is not None and self._taken(worker, event):
            self._turn_away(
                event,
                ErrorKind.WORKER_ID_TAKEN,
                f"{worker_id} is registered by another live process; stop that one, or choose another id.",
            )
            return
        if worker is None and len(self._registry.workers) >= self._world.limits.max_workers:
            self._turn_away(event, ErrorKind.OVERLOADED, "This installation has as many workers as it allows.")
            return
        if worker is not None and worker.digest == event.digest and worker.seq > 0:
            self._accept(event, worker.seq)
            return
        self._emit(StoreManifest(worker_id, event.body, self._registry.seqs.get(worker_id, 0)))

    def _taken(self, worker: Worker, event: RegisterAsked) -> bool:
        if not worker.is_another(event.manifest.instance):
            return False
        if worker.heard:
            return worker.state is State.ALIVE or worker.state is State.SUSPECT
        # Only read from the stream so far: give it an interval to be heard before its place is taken.
        return self._world.now - worker.seen_at < self._registry.interval_s

    def _accept(self, event: RegisterAsked, seq: int) -> None:
        manifest = event.manifest
        joining = self._joining.pop(manifest.worker_id)
        # The tail may have brought what was written after it already, and that is in force then.
        if seq >= self._registry.seqs.get(manifest.worker_id, 0):
            entry = StoredManifest(manifest.worker_id, seq, manifest, event.digest)
            self._put_in_force(entry, heard=True, drains=joining.drains)
        answer = Registered(manifest.worker_id, self._world.controller_id, self._registry.interval_s)
        for reply in joining.replies:
            self._emit(ReplyJson(reply, encode(answer)))

    def _put_in_force(self, entry: StoredManifest, *, heard: bool, drains: bool = False) -> None:
        registry = self._registry
        before = registry.workers.get(entry.worker_id)
        known = before is not None and before.state is not State.GONE
        restarted = before is not None and before.is_another(entry.manifest.instance)
        worker = registry.accept(entry.manifest, entry.digest, entry.seq, self._world.now, heard=heard)
        for offer in worker.offers:
            self._world.health.schedule(offer, self._world.now)
        if drains:
            self._presence.draining(worker)
        self._presence.watch(worker)
        if restarted and worker.in_flight:
            self._presence.lost(
                worker, "it restarted"
            )  # now that the pools hold what it offers, and not what it offered
        if not known:
            self._presence.tell("joined", worker)
        self._presence.freed([offer for offer in worker.offers if offer.free])

    def _turn_away(self, event: RegisterAsked, kind: ErrorKind, detail: str) -> None:
        """Refuse the registration that is under way."""
        for reply in self._joining.pop(event.manifest.worker_id).replies:
            self._refuse(reply, kind, detail)

    def _refuse(self, reply: str, kind: ErrorKind, detail: str) -> None:
        retry_ms = int(self._registry.interval_s * 1000)
        self._emit(ReplyRefusal(reply, Refusal(kind, detail, retry_after_ms=retry_ms)))

    # Leaving --------------------------------------------------------------------

    def deregister(self, event: DeregisterAsked) -> None:
        """A worker asks to leave: it gets no new work from now on, whether or not the stream can be written."""
        worker = self._registry.workers.get(event.worker_id)
        if event.worker_id in self._joining:
            detail = "A registration of this id is under way; try again."
            self._refuse(event.reply, ErrorKind.STORE_UNAVAILABLE, detail)
            return
        if worker is None:
            self._emit(ReplyJson(event.reply, encode({"status": "deregistered", "worker_id": event.worker_id})))
            return
        if worker.is_another(event.message.instance):
            detail = f"{event.worker_id} is registered by another process, which alone may deregister it."
            self._emit(ReplyRefusal(event.reply, Refusal(ErrorKind.WORKER_ID_TAKEN, detail)))
            return
        if worker.state is not State.GONE:
            self._presence.set_state(worker, State.DRAINING)
        written = event.worker_id in self._leaving
        self._leaving[event.worker_id] = event
        worker.leaving = True
        if written:
            return  # asked again: its write is under way
        departure = Departure(
            event.worker_id, tuple(dict.fromkeys(o.capability for o in worker.offers)), event.message.reason
        )
        self._emit(StoreDeparture(event.worker_id, departure, self._registry.seqs.get(event.worker_id, 0)))

    def _stays(self, worker_id: WorkerId) -> None:
        worker = self._registry.workers.get(worker_id)
        if worker is not None:
            worker.leaving = False

    def _depart(self, worker_id: WorkerId, seq: int, departure: Departure | None) -> None:
        registry = self._registry
        registry.seqs[worker_id] = seq
        for capability in departure.capabilities if departure is not None else ():
            registry.group_of(CapabilityId(capability))
        worker = registry.workers.get(worker_id)
        if worker is not None:
            self._presence.depart(worker)

    # The stream -----------------------------------------------------------------

    def written(self, event: WriteAnswered) -> None:
        """A write came back: stored, refused by its sequence, or unknown."""
        worker_id = event.worker_id
        joining, leaving = self._joining.get(worker_id), self._leaving.get(worker_id)
        if event.conflict:
            self._read(worker_id)
        elif joining is not None:
            if event.seq is not None:
                self._accept(joining.asked, event.seq)
            else:
                self._turn_away(joining.asked, ErrorKind.STORE_UNAVAILABLE, _not_stored(event.reason))
        elif leaving is not None:
            del self._leaving[worker_id]
            self._stays(worker_id)
            if event.seq is None:
                refusal = Refusal(ErrorKind.STORE_UNAVAILABLE, _not_stored(event.reason))
                self._emit(ReplyRefusal(leaving.reply, refusal))
                return
            if event.seq > self._registry.seqs.get(worker_id, 0):  # else the tail brought it, or what came after it
                self._depart(worker_id, event.seq, None)
            self._emit(ReplyJson(leaving.reply, encode({"status": "deregistered", "worker_id": worker_id})))

    def entry(self, entry: StoredManifest | StoredDeparture, *, heard: bool = False) -> None:
        """The stream says so; older news than what is known is no news."""
        known = self._registry.seqs.get(entry.worker_id, 0)
        worker = self._registry.workers.get(entry.worker_id)
        if entry.seq <= known and (worker is None or worker.seq > 0):
            return
        if isinstance(entry, StoredDeparture):
            self._depart(entry.worker_id, entry.seq, entry.departure)
        elif worker is not None and worker.digest == entry.digest:
            worker.seq = self._registry.seqs[entry.worker_id] = entry.seq  # stored again; nothing else is new
        else:
            self._put_in_force(entry, heard=heard)

    def restarted(self) -> None:
        """The stream is another one: workers go on, and are asked to register again as they are heard."""
        self._registry.seqs.clear()
        for worker in self._registry.workers.values():
            worker.seq = 0

    def _read(self, worker_id: WorkerId) -> None:
        self._known_when_read[worker_id] = self._registry.seqs.get(worker_id, 0)
        self._emit(ReadSubject(worker_id))

    def read(self, event: SubjectRead) -> None:
        """A worker's subject was read: after a lost race, or because nobody here knew the worker."""
        worker_id = event.worker_id
        asked = worker_id in self._reading
        self._reading.discard(worker_id)
        known = self._known_when_read.pop(worker_id, 0)
        if event.entry is None and not event.failed and self._registry.seqs.get(worker_id) == known:
            del self._registry.seqs[worker_id]  # and not what the tail has brought since
        if event.entry is not None:
            self.entry(event.entry, heard=asked)
        joining, leaving = self._joining.get(worker_id), self._leaving.pop(worker_id, None)
        if joining is not None:
            joining.tries += 1
            if event.failed or joining.tries >= _MAX_TRIES:
                self._turn_away(joining.asked, ErrorKind.STORE_UNAVAILABLE, _not_stored("others write to it"))
            else:
                self._join(worker_id)
        elif leaving is not None:
            self._stays(worker_id)
            self.deregister(leaving)
        elif asked and not event.failed and not isinstance(event.entry, StoredManifest):
            self._emit(SendControl(worker_id, _REREGISTER))

    # Staying --------------------------------------------------------------------

    def heartbeat(self, event: HeartbeatSeen) -> None:
        """A worker is there. One that nobody knows is looked up, and asked to register when that finds nothing."""
        beat = event.heartbeat
        if beat.draining:
            joining = self._joining.get(event.worker_id)
            if joining is not None and joining.asked.manifest.instance == beat.instance:
                joining.drains = True
        worker = self._registry.workers.get(event.worker_id)
        if worker is None:
            departed = self._presence.departed(event.worker_id)
            if departed is not None and not departed.is_another(beat.instance):
                departed.seen_at = self._world.now
            known = event.worker_id in self._reading or event.worker_id in self._joining or beat.draining
            if not known and len(self._reading) < _MAX_READING:
                self._reading.add(event.worker_id)
                self._read(event.worker_id)
            return
        if worker.is_another(beat.instance):
            return  # another process with the same id: its registration will be answered, its heartbeats do not count
        if beat.instance is not None:
            if beat.seq < worker.beat_seq:  # overtaken on the way: it is there, and what it says is over
                self._presence.heard(worker)
                return
            worker.beat_seq = beat.seq
        worker.in_flight_reported = beat.in_flight
        changed = worker.capacity != beat.capacity
        worker.capacity = beat.capacity
        self._presence.heard(worker, draining=beat.draining)
        if beat.bids:
            self._world.health.renew_bids(worker, beat.bids, self._world.now)
        if changed:
            self._presence.freed(self._registry.refresh(worker))
        if worker.seq == 0 and event.worker_id not in self._joining:
            self._emit(SendControl(event.worker_id, _REREGISTER))


def _not_stored(reason: str) -> str:
    return f"The registry stream did not take it ({reason}). It is safe to try again."

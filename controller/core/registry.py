"""Owns who is registered with what: workers by id, groups by capability, and each worker's liveness.

It changes when told (an accepted manifest, a departure, a heartbeat, a missed one) and says what that changed. What
is stored where, and who must be told, is ``membership``'s.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import msgspec

from controller.core import health, pricing
from controller.core.fleet import Offer, State, Worker
from controller.core.latency import Latency
from controller.core.objectives import Objective
from controller.core.pools import Group
from subjects.manifests import Capability, Manifest, schema_text
from subjects.tokens import CapabilityId, WorkerId

# Heartbeats may be a quarter of an interval late before they count as missed.
LATE_FACTOR = 0.25
SUSPECT_AFTER = 2
GONE_AFTER = 3
# Gone workers are kept in view for an hour, as long as departures are kept in the stream.
FORGET_AFTER_S = 3600.0
# Capabilities that nobody offers any more are forgotten, the oldest first, when there are more than this: workers that
# make up names must not fill the memory.
MAX_CAPABILITIES = 20_000


class Registry:
    """The fleet as one controller knows it. ``interval_s`` is the heartbeat interval that workers are told."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self.workers: dict[WorkerId, Worker] = {}
        self.groups: dict[CapabilityId, Group] = {}
        self._idle: dict[CapabilityId, None] = {}
        """Capabilities that nobody offers now, the longest first."""
        self.controller_id = ""
        """Whom workers may prefer."""
        self.objectives: Mapping[CapabilityId, Objective] = {}
        self.seqs: dict[WorkerId, int] = {}
        """The registry stream's last known sequence of each worker's subject, departures too."""

    def accept(self, manifest: Manifest, digest: bytes, seq: int, now: float, *, heard: bool) -> Worker:
        """Put a manifest in force, in place of the one before; offers that stay keep their counts and estimates."""
        worker = self.workers.get(manifest.worker_id)
        if worker is None:
            state = State.ALIVE if heard else State.SUSPECT
            worker = Worker(manifest.worker_id, manifest.instance, None, digest, seq, state, now, heard)
            self.workers[worker.id] = worker
        else:
            self._again(worker, manifest.instance, now, heard=heard)
        worker.spiffe_id = manifest.spiffe_id
        worker.digest = digest
        worker.seq = self.seqs[worker.id] = seq
        before = {(offer.capability, offer.spec.version): offer for offer in worker.offers}
        worker.offers = [self._offer(worker, spec, before, now) for spec in manifest.capabilities]
        for offer in before.values():
            self._discard(offer)
        self.refresh(worker)
        return worker

    def _again(self, worker: Worker, instance: str | None, now: float, *, heard: bool) -> None:
        another = worker.is_another(instance)
        if another:
            worker.capacity = worker.in_flight_reported = None
            worker.beat_seq = 0
            for offer in worker.offers:
                health.forgive(offer)
        if heard:
            self.touch(worker, now)
            worker.state = State.ALIVE
        elif another or worker.state is State.GONE:
            # It registered with another controller a moment ago, and is as new as one that nobody knew.
            worker.state, worker.heard, worker.seen_at = State.SUSPECT, False, now
        if instance is not None:
            worker.instance = instance

    def _offer(
        self, worker: Worker, spec: Capability, before: dict[tuple[CapabilityId, str], Offer], now: float
    ) -> Offer:
        capability = CapabilityId(sys.intern(spec.id))
        group = self.group_of(capability)
        self._idle.pop(capability, None)
        fresh = _make_offer(worker, spec, capability, now)
        fresh.affine = self.controller_id in spec.controller_affinity
        health.judge(fresh, group.objective, now)
        old = before.pop((capability, spec.version), None)
        if old is None:
            group.add(fresh)
            return fresh
        group.discard(old)  # it may fit other pools now
        old.spec, old.input_schema, old.output_schema = fresh.spec, fresh.input_schema, fresh.output_schema
        old.kind, old.reachable = fresh.kind, True
        old.timeout_s, old.max_output_bytes, old.places = fresh.timeout_s, fresh.max_output_bytes, fresh.places
        old.affine = fresh.affine
        pricing.take_bid(old, spec.slo_bid, now)
        health.judge(old, group.objective, now)
        group.add(old)
        return old

    def group_of(self, capability: CapabilityId) -> Group:
        """The group of a capability that is, or was, offered."""
        group = self.groups.get(capability)
        if group is None:
            if len(self.groups) >= MAX_CAPABILITIES:
                self._forget_one()
            group = self.groups[capability] = Group(capability, self.objectives.get(capability))
            self._idle[capability] = None
        return group

    def _forget_one(self) -> None:
        for capability in self._idle:
            if not self.groups[capability].waiting:
                del self.groups[capability], self._idle[capability]
                return

    def _discard(self, offer: Offer) -> None:
        group = self.groups[offer.capability]
        group.discard(offer)
        if not group.offers:
            self._idle[offer.capability] = None

    def remove(self, worker: Worker) -> None:
        """Drop a worker; its capabilities stay known."""
        worker.state = State.GONE
        for offer in worker.offers:
            self._discard(offer)
        worker.offers = []  # so that neither keeps the other once its last dispatch is over
        self.workers.pop(worker.id, None)

    def refresh(self, worker: Worker) -> list[Offer]:
        """Enter a worker's present state into the pools; returns the offers that became free."""
        return [offer for offer in worker.offers if self.refresh_offer(offer)]

    def refresh_offer(self, offer: Offer) -> bool:
        """As ``refresh``, for one offer: whether it became free. A forgotten capability has no pools to enter."""
        group = self.groups.get(offer.capability)
        return group is not None and group.refresh(offer)

    # Liveness -------------------------------------------------------------------

    def touch(self, worker: Worker, now: float) -> State:
        """Note that a worker was heard; returns the state it was in."""
        before = worker.state
        worker.seen_at = now
        worker.heard = True
        if before is State.SUSPECT or before is State.GONE:
            worker.state = State.ALIVE
        return before

    def overdue(self, worker: Worker, now: float) -> State | None:
        """The state that silence has brought a worker to, or None when nothing changed."""
        # The same sum as in ``next_check``: a difference may fall short of it by the last bit, and be due for ever.
        if self.is_silent(worker, now):
            new = State.GONE
        elif now >= worker.seen_at + self._due(SUSPECT_AFTER) and worker.state is State.ALIVE:
            new = State.SUSPECT
        else:
            return None
        if worker.state is new:
            return None
        worker.state = new
        return new

    def is_silent(self, worker: Worker, now: float) -> bool:
        """Whether it was not heard for as long as makes a worker gone."""
        return now >= worker.seen_at + self._due(GONE_AFTER)

    def next_check(self, worker: Worker) -> float:
        """When ``overdue`` may change its mind next."""
        if worker.state is State.GONE and self.workers.get(worker.id) is worker:
            return worker.seen_at + FORGET_AFTER_S
        return worker.seen_at + self._due(SUSPECT_AFTER if worker.state is State.ALIVE else GONE_AFTER)

    def _due(self, missed: int) -> float:
        return self.interval_s * (missed + LATE_FACTOR)


def _make_offer(worker: Worker, spec: Capability, capability: CapabilityId, now: float) -> Offer:
    constraints = spec.constraints or {}
    offer = Offer(
        worker=worker,
        # Equal schemas are one text; the strings that every worker of a kind repeats are one object.
        spec=msgspec.structs.replace(
            spec,
            verb=sys.intern(spec.verb),
            name=sys.intern(spec.name),
            version=sys.intern(spec.version),
            input_schema=None,
            output_schema=None,
        ),
        input_schema=schema_text(spec.input_schema),
        output_schema=schema_text(spec.output_schema),
        capability=capability,
        kind=sys.intern(_kind(spec)),
        address=f"{worker.id}.{spec.verb}.{spec.name}",
        timeout_s=_positive(constraints.get("timeout_s")),
        places=spec.max_concurrency,
        max_output_bytes=int(_positive(constraints.get("max_output_bytes")) or 0) or None,
        latency=Latency(*pricing.promised_ms(spec), now),
    )
    pricing.take_bid(offer, spec.slo_bid, now)
    return offer


def _kind(spec: Capability) -> str:
    looked_at = (
        spec.version,
        spec.runtime,
        spec.env_profile,
        spec.constraints,
    )
    return msgspec.json.encode(looked_at, order="deterministic").decode()


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None

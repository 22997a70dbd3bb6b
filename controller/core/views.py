"""Owns what an operator is shown of the fleet: bounded pages of plain values, read and never changed."""

from __future__ import annotations

from typing import Any

import msgspec

from controller.core.fleet import Offer, Worker
from controller.core.registry import Registry

# A page with a few hundred bytes a row stays below NATS's usual payload limit.
MAX_PAGE = 1000
DEFAULT_PAGE = 500


class Query(msgspec.Struct, frozen=True):
    """What is asked for: rows after this key, at most so many, and only those that fit the filters given."""

    after: str = ""
    limit: int = DEFAULT_PAGE
    verb: str | None = None
    name: str | None = None
    state: str | None = None


def workers(registry: Registry, query: Query, now: float) -> dict[str, Any]:
    """``{"workers": […], "next": …}``, in order of id; ``next`` is what to ask for after, or null."""
    fits = [
        worker
        for worker_id, worker in registry.workers.items()
        if worker_id > query.after and query.state in (None, worker.state.value)
    ]
    fits.sort(key=lambda worker: worker.id)
    limit = _limit(query)
    page = fits[:limit]
    more = page[-1].id if len(fits) > limit else None
    return {"workers": [_worker(worker, now) for worker in page], "next": more}


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    return {
        "worker_id": worker.id,
        "state": worker.state.value,
        "heartbeat_age_s": round(max(0.0, now - worker.seen_at), 3),
        "in_flight": worker.in_flight,
        "in_flight_reported": worker.in_flight_reported,
        "capacity": worker.capacity,
        "capabilities": [f"{offer.capability}@{offer.spec.version}" for offer in worker.offers],
        "spiffe_id": worker.spiffe_id,
    }


def capabilities(registry: Registry, query: Query) -> dict[str, Any]:
    """``{"capabilities": […], "next": …}``, in order of ``verb:name``; metadata is the newest version's."""
    fits = sorted(
        capability
        for capability in registry.groups
        if capability > query.after
        and query.verb in (None, capability.partition(":")[0])
        and query.name in (None, capability.partition(":")[2])
    )
    limit = _limit(query)
    page = fits[:limit]
    more = page[-1] if len(fits) > limit else None
    return {"capabilities": [_capability(registry, capability) for capability in page], "next": more}


def _capability(registry: Registry, capability: str) -> dict[str, Any]:
    group = registry.groups[capability]  # type: ignore[index]  # a key of this very mapping
    verb, _, name = capability.partition(":")
    row: dict[str, Any] = {
        "verb": verb,
        "name": name,
        "versions": sorted({offer.spec.version for offer in group.offers}),
        "workers": len({offer.worker.id for offer in group.offers}),
        "healthy_workers": len({offer.worker.id for offer in group.offers if offer.worker.eligible}),
        "waiting": group.waiting,
    }
    newest: Offer | None = group.pool(None, None).newest()
    if newest is not None:
        declared = msgspec.to_builtins(newest.spec)
        declared.pop("version", None)
        row = {**declared, **row}
        for field, schema in (("input_schema", newest.input_schema), ("output_schema", newest.output_schema)):
            if schema is not None:
                row[field] = msgspec.json.decode(schema)
    return row


def _limit(query: Query) -> int:
    return max(1, min(query.limit, MAX_PAGE))

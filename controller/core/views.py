"""Owns what an operator is shown of the fleet: bounded pages of plain values, read and never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from controller.core.fleet import Offer, Worker
from controller.core.registry import Registry
from subjects.messages import encode
from subjects.tokens import CapabilityId

# A page with a few hundred bytes a row stays below NATS's usual payload limit.
MAX_PAGE = 1000
DEFAULT_PAGE = 500
# What a page measures when nobody says what one message carries.
MAX_BYTES = 512 * 1024
_ENVELOPE_BYTES = 512

K = TypeVar("K", bound=str)


class Query(msgspec.Struct, frozen=True):
    """What is asked for: rows after this key, at most so many, and only those that fit the filters given."""

    after: str = ""
    limit: int = DEFAULT_PAGE
    verb: str | None = None
    name: str | None = None
    state: str | None = None


def workers(registry: Registry, query: Query, now: float, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """``{"workers": […], "next": …}``, in order of id; ``next`` is what to ask for after, or null."""
    fits = sorted(
        worker_id
        for worker_id, worker in registry.workers.items()
        if worker_id > query.after and query.state in (None, worker.shown.value)
    )
    rows, more = page(fits, lambda worker_id: _worker(registry.workers[worker_id], now), query, max_bytes)
    return {"workers": rows, "next": more}


def page(
    keys: Sequence[K], row_of: Callable[[K], dict[str, Any]], query: Query, max_bytes: int
) -> tuple[list[dict[str, Any]], K | None]:
    """Rows until there are enough, or one more would not fit into a message; a row that never fits is cut."""
    limit = max(1, min(query.limit, MAX_PAGE))
    rows: list[dict[str, Any]] = []
    room = max_bytes - _ENVELOPE_BYTES
    for key in keys:
        row = row_of(key)
        size = len(encode(row)) + 1
        if size > max_bytes - _ENVELOPE_BYTES:
            row = _cut(row)
            size = len(encode(row)) + 1
        if len(rows) == limit or size > room:
            return rows, keys[len(rows) - 1] if rows else None
        rows.append(row)
        room -= size
    return rows, None


def _cut(row: dict[str, Any]) -> dict[str, Any]:
    """What identifies a row, without what can be long."""
    left_out = sorted(key for key, value in row.items() if isinstance(value, dict | list))
    return {**{key: value for key, value in row.items() if key not in left_out}, "left_out": left_out}


def _worker(worker: Worker, now: float) -> dict[str, Any]:
    return {
        "worker_id": worker.id,
        "state": worker.shown.value,
        "heartbeat_age_s": round(max(0.0, now - worker.seen_at), 3),
        "in_flight": worker.in_flight,
        "in_flight_reported": worker.in_flight_reported,
        "capacity": worker.capacity,
        "capabilities": [f"{offer.capability}@{offer.spec.version}" for offer in worker.offers],
        "demoted": [offer.capability for offer in worker.offers if offer.demoted and not offer.ejected_until],
        "ejected": [offer.capability for offer in worker.offers if offer.ejected_until],
        "spiffe_id": worker.spiffe_id,
    }


def capabilities(registry: Registry, query: Query, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """``{"capabilities": […], "next": …}``, in order of ``verb:name``; metadata is the newest version's."""
    fits = sorted(
        capability
        for capability in registry.groups
        if capability > query.after
        and query.verb in (None, capability.partition(":")[0])
        and query.name in (None, capability.partition(":")[2])
    )
    rows, more = page(fits, lambda capability: _capability(registry, capability), query, max_bytes)
    return {"capabilities": rows, "next": more}


def _capability(registry: Registry, capability: CapabilityId) -> dict[str, Any]:
    group = registry.groups[capability]
    verb, _, name = capability.partition(":")
    row: dict[str, Any] = {
        "verb": verb,
        "name": name,
        "versions": sorted({offer.spec.version for offer in group.offers}),
        "workers": len({offer.worker.id for offer in group.offers}),
        "healthy_workers": len(
            {offer.worker.id for offer in group.offers if offer.worker.eligible and not offer.ejected_until}
        ),
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

"""Owns objectives as OpenSLO v1 documents: how ours look there, and what has no place there.

OpenSLO (https://openslo.com) is the field's exchange format. ``crank slo export`` prints these, and ``openslo_import``
reads them and others'. The queries are for Prometheus, and count the same as the rules of ``crank.slo.rules``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import deepcopy
from decimal import Decimal
from hashlib import blake2s
from typing import Any

from controller.core.objectives import Objective
from subjects.tokens import CapabilityId, split_capability

Document = dict[str, Any]

API_VERSION = "openslo/v1"
OURS = "crank.local/"
"""What our annotations begin with. They stand at the service, which is the capability."""
QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
# A month of the calendar, whichever this one is.
MONTH = {
    "duration": "1M",
    "isRolling": False,
    "calendar": {"startTime": "2026-01-01 00:00:00", "timeZone": "Etc/UTC"},
}
_REQUESTS, _TIMES = "controller_requests_total", "controller_request_duration_seconds"
_canonical = re.compile("[a-z0-9][a-z0-9_]*").fullmatch
_not_in_names = re.compile("[^a-z0-9]")


def exported(objectives: Iterable[Objective]) -> list[Document]:
    """A ``Service`` for each capability, and an ``SLO`` for each thing that is asked of it."""
    return [document for each in objectives for document in (_service(each), *_slos(each))]


def left_out(objective: Objective) -> list[str]:
    """What of an objective its documents do not say, in words for a person."""
    left = []
    if objective.alerts:
        left.append("slo.error_budget.alerts: OpenSLO alerts on how fast a budget burns, not on how much is spent")
    if objective.availability not in (None, _target(objective)):
        left.append("slo.availability.target: in OpenSLO it leaves the whole budget, and this budget is smaller")
    if objective.phase != "log" or objective.reject_on_violation or objective.exceptions or objective.enforced_from_s:
        left.append("enforcement: OpenSLO says what is asked, and not what is done about it")
    return left


def _service(objective: Objective) -> Document:
    told = {
        "capability": objective.capability,
        "version": objective.version,
        "timeout_ms": objective.timeout_ms,
        "owner": objective.owner or None,
        "cost_center": objective.cost_center or None,
        "tier": objective.tier,
    }
    annotations = {OURS + name: str(value) for name, value in told.items() if value is not None}
    metadata = {"name": _name(objective.capability), "displayName": objective.capability, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "Service", "metadata": metadata, "spec": {}}


def _slos(objective: Objective) -> list[Document]:
    capability = objective.capability
    this = f'capability="{capability}"'
    found = []
    if (target := _target(objective)) is not None:
        good, total = f'{_REQUESTS}{{{this},status="success"}}', f'{_REQUESTS}{{{this},status=~"success|error"}}'
        found.append(_slo(capability, "availability", f"{100 * target:.10g} % succeed", target, good, total))
    for field, share in QUANTILES.items():
        bound_ms: float | None = getattr(objective, field)
        if bound_ms is not None:
            good, total = f"{_TIMES}_bucket{{{this},{_bucket(bound_ms)}}}", f"{_TIMES}_count{{{this}}}"
            title = f"{100 * share:g} % take at most {bound_ms:g} ms"
            found.append(_slo(capability, field.removesuffix("_ms"), title, share, good, total))
    return found


def _slo(capability: CapabilityId, what: str, title: str, target: float, good: str, total: str) -> Document:
    name = f"{_name(capability)}.{what}"
    ratio = {"counter": True, "good": _source(good), "total": _source(total)}
    return {
        "apiVersion": API_VERSION,
        "kind": "SLO",
        "metadata": {"name": name, "displayName": f"{capability}: {title}"},
        "spec": {
            "service": _name(capability),
            "indicator": {"metadata": {"name": name}, "spec": {"ratioMetric": ratio}},
            "timeWindow": [deepcopy(MONTH)],  # whoever changes one document changes no other
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": title, "target": target}],
        },
    }


def _source(series: str) -> Document:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": f"sum({series})"}}}


def _target(objective: Objective) -> float | None:
    """What leaves just the budget."""
    target, budget = objective.availability, objective.budget
    if budget is None or (target is not None and abs(1 - target - budget) < 1e-9):
        return target
    return round(1 - budget, 12)


def _bucket(bound_ms: float) -> str:
    # As exact as it was written, so that it can be read back.
    seconds = f"{Decimal(repr(bound_ms)) / 1000:f}"
    seconds = seconds.rstrip("0").rstrip(".") if "." in seconds else seconds
    # Some exporters write the end of a bucket as 1 and some as 1.0.
    return f'le="{seconds}"' if "." in seconds else rf'le=~"{seconds}(\\.0)?"'


def _name(capability: CapabilityId) -> str:
    """Names there have neither capitals nor ``_``; where that would make two the same, they get an end of their own."""
    parts = split_capability(capability)
    name = ".".join(_not_in_names.sub("-", part.lower()) for part in parts)
    if all(map(_canonical, parts)):
        return name
    return f"x-{name}-{blake2s(capability.encode(), digest_size=4).hexdigest()}"

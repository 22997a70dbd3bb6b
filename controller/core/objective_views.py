"""Owns what an operator is shown of objectives: one row for each, read and never changed.

What nobody measured is null, and never a perfect figure.
"""

from __future__ import annotations

from typing import Any

import msgspec

from controller.core import burn, quantiles
from controller.core.burn import WINDOWS, Standing
from controller.core.compliance import Compliance, Measured
from controller.core.objective_states import remaining_pct, rounded
from controller.core.views import MAX_BYTES, Query, page
from subjects.tokens import CapabilityId

_ASKED = ("p50_ms", "p95_ms", "p99_ms", "availability", "budget")


def objectives(compliance: Compliance, query: Query, wall_s: float, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """``{"slo": […], "next": …}``, in order of ``verb:name``. Latencies are of the last hour, the rest of the month."""
    fits = sorted(
        capability
        for capability in compliance.measured
        if capability > query.after
        and query.verb in (None, capability.partition(":")[0])
        and query.name in (None, capability.partition(":")[2])
    )
    rows, more = page(fits, lambda each: _row(each, compliance.measured[each], wall_s), query, max_bytes)
    return {"slo": rows, "next": more}


def _row(capability: CapabilityId, measured: Measured, wall_s: float) -> dict[str, Any]:
    objective, windows = measured.objective, measured.windows
    counts = burn.month(windows, wall_s)
    stands = measured.standing
    if stands is Standing.UNMEASURED:  # which may be over since it was judged
        stands = burn.standing(objective, windows, wall_s)
    hour = {f"p{share}_ms": rounded(quantiles.quantile(windows.hour, share / 100), 3) for share in (50, 95, 99)}
    return {
        "capability": capability,
        "phase": objective.phase,
        "standing": stands.value,
        **hour,
        "availability": 1 - counts.bad / counts.requests if counts.requests else None,
        "budget_remaining_pct": remaining_pct(objective, measured, wall_s),
        "judged": burn.judged(objective, counts),
        "left_pct": {name: rounded(left, 2) for name, left in burn.left_pct(objective, counts).items()},
        "burn": {name: rounded(burn.burn_rate(objective, burn.window(windows, name)), 2) for name in WINDOWS},
        "targets": {name: getattr(objective, name) for name in _ASKED},
        "enforced_from_s": objective.enforced_from_s,
        "reject_on_violation": objective.reject_on_violation,
        "events": counts._asdict(),
        "alerts": msgspec.to_builtins(objective.alerts),
        "version": objective.version,
        "owner": objective.owner,
        "tier": objective.tier,
    }

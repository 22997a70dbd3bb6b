"""Owns the Prometheus rules that watch objectives: how fast each error budget burns, and when that is told to whom.

It refuses to know where objectives come from. ``crank slo rules`` prints them. Windows, rates and floors are those by
which controllers judge themselves, so that both say the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from controller.core.burn import FEWEST, FEWEST_BAD, PAIRS, WINDOWS, Pair
from controller.core.objectives import Objective
from subjects.tokens import CapabilityId

# Longer than a deployment, and than it takes after a start until a window has two samples.
_UNMEASURED_FOR = "1h"
_REQUESTS, _TIMES = "controller_requests_total", "controller_request_duration_seconds"
_BY = "on (capability, indicator)"


def rules(objectives: Iterable[Objective]) -> dict[str, Any]:
    """The rule file's content."""
    known = sorted(objectives, key=lambda objective: objective.capability)
    by_target: dict[float, list[CapabilityId]] = defaultdict(list)
    for objective in known:
        if objective.target_ms is not None:
            by_target[objective.target_ms].append(objective.capability)
    return {
        "groups": [
            {"name": "crank_slo_objectives", "rules": [rule for each in known for rule in _allowed(each)]},
            *({"name": f"crank_slo_{window}", "rules": _measured(window, by_target)} for window in WINDOWS),
            {"name": "crank_slo_alerts", "rules": [*map(_burning, PAIRS), _unmeasured()]},
        ]
    }


def as_yaml(objectives: Iterable[Objective], head: Sequence[str]) -> str:
    """The rule file, with ``head`` as a comment on top."""
    body = yaml.dump(rules(objectives), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return "".join(f"# {line}\n" for line in head) + body


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay as they are."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _allowed(objective: Objective) -> list[dict[str, Any]]:
    """The share of its requests that may be bad, of each kind. It is there whether anything is measured or not."""
    found = []
    labels = {"owner": objective.owner, "tier": objective.tier}
    named = {"capability": objective.capability} | {name: value for name, value in labels.items() if value}
    if objective.budget is not None:
        found.append(_record("crank_slo:allowed:ratio", f"vector({objective.budget:.9g})", "availability", named))
    if objective.target_ms is not None:
        found.append(_record("crank_slo:allowed:ratio", f"vector({objective.slow_share:g})", "latency", named))
    return found


def _measured(window: str, by_target: dict[float, list[CapabilityId]]) -> list[dict[str, Any]]:
    """How many requests there were and how many of them bad, and from that how fast the budget burns."""
    all_of, bad_of = f"crank_slo:requests:increase{window}", f"crank_slo:bad:increase{window}"
    counted = f'sum by (capability) (increase({_REQUESTS}{{status=~"success|error"}}[{window}]))'
    failed = f'sum by (capability) (increase({_REQUESTS}{{status="error"}}[{window}]))'
    found = [
        _record(all_of, counted, "availability"),
        # Where nothing ever failed there may be no series of failures, and that is none of them, not nothing known.
        _record(bad_of, f"{failed}\nor 0 * {counted}", "availability"),
        _record(all_of, f"sum by (capability) (increase({_TIMES}_count[{window}]))", "latency"),
    ]
    if by_target:
        in_time = "\nor ".join(
            f"sum by (capability) (increase({_TIMES}_bucket{{{_bucket(target_ms, names)}}}[{window}]))"
            for target_ms, names in sorted(by_target.items())
        )
        timed = f"sum by (capability) (increase({_TIMES}_count[{window}]))"
        found.append(_record(bad_of, f"{timed} - (\n{in_time}\n)", "latency"))
    burn = f"({bad_of} / {all_of})\n/ {_BY} group_left (owner, tier) crank_slo:allowed:ratio"
    return [*found, {"record": f"crank_slo:burn:rate{window}", "expr": burn}]


def _bucket(target_ms: float, capabilities: list[CapabilityId]) -> str:
    seconds = f"{target_ms / 1000:.9g}"
    # Some exporters write the end of a bucket as 1 and some as 1.0.
    pattern = seconds.replace(".", r"\\.") if "." in seconds else rf"{seconds}(\\.0)?"
    return f'capability=~"{"|".join(capabilities)}",le=~"{pattern}"'


def _record(name: str, expr: str, indicator: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"record": name, "expr": expr, "labels": {**(labels or {}), "indicator": indicator}}


def _burning(pair: Pair) -> dict[str, Any]:
    long, short = (f"crank_slo:burn:rate{window} > {pair.rate:g}" for window in (pair.long, pair.short))
    enough = f"crank_slo:requests:increase{pair.short} >= {FEWEST}"
    # Of one bad request, Prometheus extrapolates 1.3 at most.
    bad = f"crank_slo:bad:increase{pair.short} >= {FEWEST_BAD}"
    return {
        "alert": "CrankErrorBudgetBurning",
        "expr": f"\nand {_BY} ".join((long, short, enough, bad)),
        "labels": {"severity": pair.standing.value, "long": pair.long, "short": pair.short, "factor": f"{pair.rate:g}"},
        "annotations": {
            "summary": "{{ $labels.capability }} burns its budget of {{ $labels.indicator }} {{ $value | humanize }} "
            "times too fast",
            "description": f"At this rate over {pair.long}, a month's budget lasts {_lasts(pair.rate)}. "
            "`crank slo status` shows what is left of it, `crank workers` who is slow or failing.",
        },
    }


def _lasts(rate: float) -> str:
    days = 30 / rate
    return f"{days:.0f} days" if days >= 3 else f"{days * 24:.0f} hours"


def _unmeasured() -> dict[str, Any]:
    """An objective that no series belongs to would otherwise never be broken."""
    return {
        "alert": "CrankObjectiveUnmeasured",
        "expr": f"crank_slo:allowed:ratio unless {_BY} crank_slo:burn:rate5m",
        "for": _UNMEASURED_FOR,
        "labels": {"severity": "ticket"},
        "annotations": {
            "summary": "Nothing measures the {{ $labels.indicator }} of {{ $labels.capability }}",
            "description": "There is an objective, and no series that belongs to it: no controller is scraped, the "
            "capability was never offered, or no bucket of the histogram ends at the latency that is asked for.",
        },
    }

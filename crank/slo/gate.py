"""Owns the verdicts of the gate: measured results against objectives, and against what was measured before.

It refuses to know where results and objectives come from and how verdicts are shown. ``crank slo gate`` calls it.
Too few requests are no pass: what cannot be told from them is ``not measured``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from controller.core.objectives import Objective
from crank.slo.measured import Measured, Results
from subjects.tokens import CapabilityId

Verdict = Literal["met", "violated", "regressed", "not measured"]

# Machines that builds share differ by a tenth or two from run to run; what has become a quarter slower has changed.
TOLERANCE = 0.25
# Below this part of the objective a difference is nobody's concern, and of times below a millisecond mostly noise.
_NOISE = 0.01
# One failure more than before says nothing.
_FEWEST_FAILURES = 2
# The chance of seeing so many requests and no bad one although there are just too many of them.
_DOUBT = 0.05
# What takes more than this, such as an objective of 99.99 %, no build waits for.
_MOST_NEEDED = 3000
_ROUNDING = 1e-9
_QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


class Check(msgspec.Struct, frozen=True):
    """One line of an objective and what became of it.

    ``asked`` and ``found`` are milliseconds for a quantile, a share (0 to 1) for availability, and for the budget how
    much of it requests like these spend: 1 is all. ``requests`` is how many it was told from.
    """

    capability: CapabilityId
    what: str
    verdict: Verdict
    asked: float
    found: float | None
    requests: float
    why: str = ""


class Judged(msgspec.Struct, frozen=True):
    """All checks, and the capabilities that were measured and of which nothing is asked."""

    checks: tuple[Check, ...]
    unasked: tuple[CapabilityId, ...]

    def failures(self, require_all: bool) -> list[Check]:
        """The checks for which a build fails: all that was not measured too, where nothing was or all has to be."""
        all_of_it = require_all or all(check.verdict == "not measured" for check in self.checks)
        passed = ("met",) if all_of_it else ("met", "not measured")
        return [check for check in self.checks if check.verdict not in passed]


def judge(
    objectives: Mapping[CapabilityId, Objective], results: Results, baseline: Results, tolerance: float = TOLERANCE
) -> Judged:
    """Every objective's checks.

    What is met is ``regressed`` where it is worse than in ``baseline`` by more than ``tolerance``: of the time that it
    took then, or of the share that may fail.
    """
    checks: list[Check] = []
    nothing = Measured(0, 0)
    for capability, objective in sorted(objectives.items()):
        found, before = results.get(capability, nothing), baseline.get(capability, nothing)
        checks += _latencies(objective, found, before, tolerance)
        checks += _failures(objective, found, before, tolerance)
    return Judged(tuple(checks), tuple(sorted(results.keys() - objectives.keys())))


def needed(allowed: float) -> int:
    """How many requests it takes to say that no more than a share of ``allowed`` is bad.

    Of fewer, all can be good by chance (more often than once in twenty) although too many are bad.
    """
    return min(_MOST_NEEDED, math.ceil(math.log(_DOUBT) / math.log1p(-allowed)))


def _latencies(objective: Objective, found: Measured, before: Measured, tolerance: float) -> Iterator[Check]:
    for what, share in _QUANTILES:
        asked: float | None = getattr(objective, f"{what}_ms")
        if asked is None:
            continue
        now, then = found.quantile(share), before.quantile(share)
        verdict, why = _judged(found.slower_than(asked), found.timed, 1 - share, "were slower")
        if verdict == "met" and found.bounds_ms and asked not in found.bounds_ms:
            verdict, why = "not measured", f"no bucket of the histogram ends at {asked:g} ms"
        if now is not None and then is not None and before.timed >= needed(1 - share):
            worse = now > max(then * (1 + tolerance), then + asked * _NOISE)
            if worse and verdict == "met":
                verdict, why = "regressed", f"it was {then:.3g} ms"
        yield Check(objective.capability, what, verdict, asked, now, found.timed, why)


def _failures(objective: Objective, found: Measured, before: Measured, tolerance: float) -> Iterator[Check]:
    share = found.failed / found.requests if found.requests else None
    if objective.availability is not None:
        allowed = 1 - objective.availability
        verdict, why = _judged(found.failed, found.requests, allowed, "failed")
        then = before.failed / before.requests if before.requests >= needed(allowed) else 1.0
        worse = share is not None and share > then + allowed * tolerance
        if verdict == "met" and worse and found.failed >= _FEWEST_FAILURES:
            verdict, why = "regressed", f"it was {1 - then:.3%}"
        yield Check(
            objective.capability, "availability", verdict, objective.availability,
            None if share is None else 1 - share, found.requests, why,
        )  # fmt: skip
    if objective.budget is not None:
        verdict, why = _judged(found.failed, found.requests, objective.budget, "failed")
        spent = share / objective.budget if share is not None else None
        yield Check(objective.capability, "budget", verdict, 1.0, spent, found.requests, why)


def _judged(bad: float, total: float, allowed: float, how: str) -> tuple[Verdict, str]:
    """Whether no more than ``allowed`` of all were bad; of too few, whether too many are, were all the others good."""
    enough = needed(allowed)
    if bad > allowed * max(total, enough) + _ROUNDING:
        return "violated", f"{bad:.0f} of {total:.0f} {how}"
    if total < enough:
        return "not measured", f"{total:.0f} of {enough} requests"
    return "met", ""

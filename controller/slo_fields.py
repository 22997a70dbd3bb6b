"""Owns what an SLO file may say, field by field, and the objective that it comes to.

It refuses to know of files and lines. ``slo_files`` reads files as ``SloFile``; ``slos/README.md`` explains the fields.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from controller.checked_files import LINE_RULE, Line, Written, fits, once_each, wrong
from controller.core.objectives import AlertAt, Excused, Objective, Phase, Tier
from subjects.tokens import TOKEN_RULE, capability_id, is_token
from subjects.versions import is_range

# Where 0.5 % and 1 − 0.995 are the same number.
_SAME = 1e-9

Token = Annotated[str, AfterValidator(fits(is_token))]
Milliseconds = Annotated[float, Field(gt=0, le=86_400_000, allow_inf_nan=False)]
_MS_RULE = "a number of milliseconds above 0 and at most 86400000, which is a day"


class CapabilityPart(Written):
    """Whose objective it is."""

    verb: Token = Field(description=TOKEN_RULE)
    name: Token = Field(description=TOKEN_RULE)
    version: Annotated[str, AfterValidator(fits(is_range))] | None = Field(
        default=None, description='a range of versions, such as ">=1,<2" or "^1.2"'
    )


class LatencyPart(Written):
    """The caller's wait."""

    p50_ms: Milliseconds | None = Field(default=None, description=_MS_RULE)
    p95_ms: Milliseconds | None = Field(default=None, description=_MS_RULE)
    p99_ms: Milliseconds | None = Field(default=None, description=_MS_RULE)

    @model_validator(mode="after")
    def _ascends(self) -> Self:
        given = [(name, value) for name, value in self if value is not None]
        for (lower, low), (upper, high) in pairwise(given):
            if high < low:
                wrong(f"must be at least {lower}, which is {low:g}, and not {high:g}", upper)
        return self


class AvailabilityPart(Written):
    """Who may fail."""

    target: float = Field(gt=0, lt=1, description="a share above 0 and below 1, such as 0.995 for 99.5 %")


class AlertPart(Written):
    """When to tell whom."""

    threshold: float = Field(
        gt=0, le=1, description="a share of the month's budget above 0 and at most 1, such as 0.9 for nine tenths"
    )
    channel: Token = Field(description=f"the name of a channel, {TOKEN_RULE}")


class BudgetPart(Written):
    """What may fail in a month, and who hears how much of it is gone."""

    monthly_pct: float | None = Field(
        default=None, gt=0, lt=100, description="a percentage of a month's requests above 0 and below 100, such as 0.5"
    )
    alerts: list[AlertPart] = Field(default=[], max_length=32, description="a list of at most 32 {threshold, channel}")


class SloPart(Written):
    """What is asked."""

    latency: LatencyPart = Field(default=LatencyPart(), description="a mapping of p50_ms, p95_ms, p99_ms")
    availability: AvailabilityPart | None = Field(default=None, description="a mapping with target")
    error_budget: BudgetPart = Field(default=BudgetPart(), description="a mapping of monthly_pct, alerts")
    timeout_ms: int | None = Field(
        default=None,
        ge=1,
        le=86_400_000,
        description="a whole number of milliseconds from 1 to 86400000",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        pct, available = self.error_budget.monthly_pct, self.availability
        latencies = [value for _, value in self.latency if value is not None]
        if not latencies and available is None and pct is None:
            wrong("or slo.availability must say something; so far nothing is asked", "latency")
        if pct is not None and available is not None and pct / 100 > 1 - available.target + _SAME:
            most = f"{100 * (1 - available.target):g}, since availability.target is {available.target:g}"
            wrong(f"must be at most {most}, and not {pct:g}", "error_budget", "monthly_pct")
        if latencies and self.timeout_ms is not None and self.timeout_ms < latencies[-1]:
            least = f"{latencies[-1]:g}, the slowest that latency allows"
            wrong(f"must be at least {least}, and not {self.timeout_ms}", "timeout_ms")
        return self


class ExceptionPart(Written):
    """For whom nothing is enforced, until the end of a day (UTC)."""

    caller: Line = Field(description=f"the identity of a caller, {LINE_RULE}")
    until: date = Field(description="the last day that it holds, one of the calendar, such as 2026-12-31")
    reason: Line = Field(description=LINE_RULE)


class EnforcementPart(Written):
    """What happens to a request that cannot meet it."""

    phase: Phase = Field(default="log", description="one of: log, exceptions, enforce")
    reject_on_violation: bool = Field(default=False, description="true or false")
    grace_period_days: int = Field(default=0, ge=0, le=366, description="a whole number of days from 0 to 366")
    since: date | None = Field(
        default=None, description="the day that grace_period_days counts from, one of the calendar, such as 2026-11-01"
    )
    exceptions: list[ExceptionPart] = Field(
        default=[], max_length=1000, description="a list of at most 1000 {caller, until, reason}"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.grace_period_days and self.since is None:
            wrong("is missing; it must be the day that grace_period_days counts from, such as 2026-11-01", "since")
        once_each((each.caller for each in self.exceptions), "exceptions")
        return self


class MetadataPart(Written):
    """Whose it is."""

    owner: Line | None = Field(default=None, description=LINE_RULE)
    cost_center: Line | None = Field(default=None, description=LINE_RULE)
    tier: Tier = Field(default="production", description="one of: production, staging, development")


class SloFile(Written):
    """One file."""

    capability: CapabilityPart = Field(description="a mapping of verb, name and, if need be, version")
    slo: SloPart = Field(description="a mapping of latency, availability, error_budget, timeout_ms")
    enforcement: EnforcementPart = Field(
        default=EnforcementPart(),
        description="a mapping of phase, reject_on_violation, grace_period_days, since, exceptions",
    )
    metadata: MetadataPart = Field(default=MetadataPart(), description="a mapping of owner, cost_center, tier")

    def objective(self) -> Objective:
        """As the core has it."""
        latency, budget, enforcement, metadata = (
            self.slo.latency, self.slo.error_budget, self.enforcement, self.metadata,
        )  # fmt: skip
        target = self.slo.availability.target if self.slo.availability is not None else None
        share = budget.monthly_pct / 100 if budget.monthly_pct is not None else None
        return Objective(
            capability=capability_id(self.capability.verb, self.capability.name),
            version=self.capability.version,
            p50_ms=latency.p50_ms,
            p95_ms=latency.p95_ms,
            p99_ms=latency.p99_ms,
            availability=target,
            budget=share if share is not None or target is None else 1 - target,
            alerts=tuple(AlertAt(each.threshold, each.channel) for each in budget.alerts),
            phase=enforcement.phase,
            reject_on_violation=enforcement.reject_on_violation,
            enforced_from_s=_midnight_s(enforcement.since, enforcement.grace_period_days),
            exceptions=tuple(
                Excused(each.caller, _midnight_s(each.until, 1), each.reason) for each in enforcement.exceptions
            ),
            timeout_ms=self.slo.timeout_ms,
            owner=metadata.owner or "",
            cost_center=metadata.cost_center or "",
            tier=metadata.tier,
        )


def _midnight_s(day: date | None, later: int) -> float:
    """The beginning of the day, UTC, so many days later; 0 without one."""
    return 0.0 if day is None else (datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(later)).timestamp()

"""Owns what operators ask of a capability, and of its callers: objectives, enforcement, rates. Plain values.

The edge reads them from files and hands them over whole, as ``Rules``; ``compliance`` measures against them,
``selection`` steers by them. Wall-clock times are seconds since 1970 in UTC.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from subjects.tokens import CapabilityId
from subjects.versions import in_range

# Every request of a capability is asked about, and few versions are registered.
_within = lru_cache(maxsize=4096)(in_range)

Phase = Literal["log", "exceptions", "enforce"]
Tier = Literal["production", "staging", "development"]


class AlertAt(msgspec.Struct, frozen=True):
    """Tell ``channel`` when this share (0 to 1) of the month's error budget is spent."""

    threshold: float
    channel: str


class Excused(msgspec.Struct, frozen=True):
    """A caller for whom nothing is enforced until ``until_s``."""

    caller: str
    until_s: float
    reason: str


class Objective(msgspec.Struct, frozen=True):
    """What is asked of one capability. Latencies are the caller's wait in milliseconds; None: nothing is asked."""

    capability: CapabilityId
    version: str | None = None
    """The range of versions that it speaks of; None: all."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    availability: float | None = None
    """The share of requests, 0 to 1, that must not fail."""
    budget: float | None = None
    """The share of a month's requests, 0 to 1, that may fail; from ``availability`` where the file says nothing."""
    alerts: tuple[AlertAt, ...] = ()
    phase: Phase = "log"
    reject_on_violation: bool = False
    enforced_from_s: float = 0.0
    """The end of the grace period."""
    exceptions: tuple[Excused, ...] = ()
    timeout_ms: int | None = None
    """How patient a caller is that does not say so."""
    owner: str = ""
    cost_center: str = ""
    tier: Tier = "production"

    @property
    def target_ms(self) -> float | None:
        """The longest that any request should take: the bound of the highest quantile that is given."""
        return self.p99_ms or self.p95_ms or self.p50_ms

    @property
    def slow_share(self) -> float:
        """The share of requests that may take longer than ``target_ms``."""
        return 0.01 if self.p99_ms else 0.05 if self.p95_ms else 0.5

    def speaks_of(self, version: str) -> bool:
        """Whether an offer of this version is meant."""
        return self.version is None or _within(version, self.version)

    def enforced(self, caller: str, wall_s: float) -> bool:
        """Whether a request that cannot meet it is refused, and not only noted."""
        if self.phase == "log" or not self.reject_on_violation or wall_s < self.enforced_from_s:
            return False
        if self.phase == "enforce":
            return True
        return not any(each.caller == caller and wall_s < each.until_s for each in self.exceptions)


class Rate(msgspec.Struct, frozen=True):
    """A token bucket: requests a second in the long run, and how many may come at once."""

    per_s: float
    burst: float


class Rates(msgspec.Struct, frozen=True):
    """How much each caller may ask for, of all controllers together; None: as much as it likes."""

    default: Rate | None = None
    callers: dict[str, Rate] = {}

    def of(self, caller: str) -> Rate | None:
        """The rate of this very caller, or everybody's."""
        return self.callers.get(caller, self.default)


class Rules(msgspec.Struct, frozen=True):
    """Everything that files tell one controller, in force from one moment to the next."""

    objectives: dict[CapabilityId, Objective] = {}
    rates: Rates = Rates()

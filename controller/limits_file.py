"""Owns what the file of rate limits may say, and what it comes to: ``limits.yaml``.

It refuses to know how a rate is kept, and who watches the file. ``controller.edge.rules_watch`` and ``crank slo check``
call ``load_rates``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from controller.checked_files import LINE_RULE, Line, Written, checked, once_each
from controller.core.objectives import Rate, Rates
from controller.yaml_files import Mistake, read_bytes

# Some ten thousand callers.
_MOST_BYTES = 1024 * 1024

PerSecond = Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]
Burst = Annotated[float, Field(ge=1, le=1e9, allow_inf_nan=False)]
_PER_S_RULE = "a number of requests a second, 0.000001 or more"
_BURST_RULE = "a number of requests that may come at once, 1 or more"


class RatePart(Written):
    """How much, in the long run and at once."""

    rate_per_s: PerSecond = Field(description=_PER_S_RULE)
    burst: Burst = Field(description=_BURST_RULE)

    def rate(self) -> Rate:
        """As the core has it."""
        return Rate(self.rate_per_s, self.burst)


class CallerPart(RatePart):
    """And who."""

    caller: Line = Field(description=f"the identity of a caller, {LINE_RULE}")


class LimitsFile(Written):
    """The file."""

    default: RatePart | None = Field(default=None, description="a mapping of rate_per_s and burst")
    callers: list[CallerPart] = Field(default=[], description="a list of {caller, rate_per_s, burst}")

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        once_each((each.caller for each in self.callers), "callers")
        return self


class LoadedRates(NamedTuple):
    """What the file says; None where it is broken."""

    rates: Rates | None
    mistakes: list[Mistake]


def load_rates(path: Path) -> LoadedRates:
    """The rates in this file. Never raises."""
    data = read_bytes(path, _MOST_BYTES)
    if isinstance(data, Mistake):
        return LoadedRates(None, [data])
    read = checked(path, data, LimitsFile)
    if read.value is None:
        return LoadedRates(None, read.mistakes)
    default, callers = read.value.default, read.value.callers
    rates = Rates(default.rate() if default is not None else None, {each.caller: each.rate() for each in callers})
    return LoadedRates(rates, [])

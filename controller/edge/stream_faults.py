"""Owns the words for what is wrong with a stream that is there, and what mends it: made otherwise, or nearly full.

It asks nobody. The stores of claims and jobs refuse by it, and ``crank doctor`` tells it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Not all of it: an update that grows must find room after the work ran.
NEARLY_FULL = 0.8


class Fault(NamedTuple):
    """How it is, and what mends it."""

    found: str
    mend: str

    def __str__(self) -> str:
        return f"{self.found}; {self.mend}"


def made_otherwise(name: str, differences: Sequence[str]) -> Fault | None:
    """The fault of a stream that has these ``differences`` (``bus.specs`` tells them), or None."""
    if not differences:
        return None
    found = f"{name} is not as controllers make it: {'; '.join(differences)}"
    return Fault(found, f"change it back with `nats stream edit {name}`")


def nearly_full(name: str, config: Mapping[str, Any], size: int, otherwise: str) -> Fault | None:
    """The fault of a stream with ``size`` bytes in it, or None; ``otherwise`` is what to do but to give it more."""
    limit = config.get("max_bytes", -1)
    if limit <= 0 or size < NEARLY_FULL * limit:
        return None
    return Fault(
        f"{name} is nearly full: over {NEARLY_FULL:.0%} of its {limit} bytes",
        f"{otherwise}, or give it more with `nats stream edit {name} --max-bytes <bytes>`",
    )

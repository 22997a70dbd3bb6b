"""Owns what is asked in the scenarios: an objective for their one capability, or nothing."""

from __future__ import annotations

from typing import Any

from controller.core.objectives import Objective, Rules
from simulation.scenarios.fleet import CAPABILITY

NOTHING = Rules()
AVAILABILITY = 0.995


def asked(p99_ms: float, **more: Any) -> Rules:
    """That 99 of 100 answers take no longer, and that no more than one in two hundred requests fails."""
    objective = Objective(
        CAPABILITY, p99_ms=p99_ms, availability=AVAILABILITY, budget=round(1.0 - AVAILABILITY, 6), **more
    )
    return Rules({CAPABILITY: objective})


def enforced(p99_ms: float) -> Rules:
    """Likewise, and whatever cannot meet it is refused."""
    return asked(p99_ms, phase="enforce", reject_on_violation=True)

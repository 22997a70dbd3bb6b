"""Owns the policy verdicts that still hold, so that the engine is not asked twice. Bounded, oldest out first."""

from __future__ import annotations

from controller.core.model import Verdict
from subjects.tokens import CapabilityId

# Callers times capabilities in use; unknown capabilities that a caller makes up push each other out.
MAX_VERDICTS = 20_000


class Verdicts:
    """Verdicts by caller and capability, each until its validity ends (seconds on the core's clock)."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, CapabilityId], tuple[Verdict, float]] = {}

    def get(self, caller: str, capability: CapabilityId, now: float) -> Verdict | None:
        """The verdict, or None when there is none that still holds."""
        kept = self._kept.get((caller, capability))
        return kept[0] if kept is not None and now < kept[1] else None

    def put(self, caller: str, capability: CapabilityId, verdict: Verdict, now: float) -> None:
        """Keep a verdict for as long as it says."""
        key = (caller, capability)
        self._kept.pop(key, None)
        if len(self._kept) >= MAX_VERDICTS:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (verdict, now + verdict.valid_for_s)

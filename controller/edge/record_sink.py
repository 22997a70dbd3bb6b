"""Owns what becomes of decision records: counted by how they ended, and by capability. Told by health and services.

Every request passes here, so it is a few additions; what a count is called and looks like is for those who read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass

from controller.core.commands import Record
from controller.core.registry import MAX_CAPABILITIES

# Callers choose much of what an error says, and the last one of each capability is kept.
MAX_DETAIL_CHARS = 256


@dataclass(slots=True, eq=False)
class Tally:
    """What was counted of one capability. An error is whatever is no success: refused, failed, lost, too late."""

    requests: int = 0
    errors: int = 0
    total_ms: float = 0.0
    """From arrival to the last word, waiting included."""
    outcome: str = ""
    """Of the last error: the suffix of its type."""
    detail: str = ""


class RecordSink:
    """Counts requests by status (success, error, rejected), by outcome, and by each capability that is ``known``."""

    def __init__(self, known: Container[str]) -> None:
        self.by_status: Counter[str] = Counter()
        self.by_outcome: Counter[str] = Counter()
        self.by_capability: dict[str, Tally] = {}
        self._known = known

    def take(self, command: Record) -> None:
        """Count one record."""
        record = command.record
        self.by_status[record.status] += 1
        self.by_outcome[record.outcome] += 1
        tally = self.by_capability.get(record.capability) or self._first(record.capability)
        if tally is None:
            return
        tally.requests += 1
        tally.total_ms += record.timings.total_ms
        if record.status != "success":
            tally.errors += 1
            tally.outcome = record.outcome
            tally.detail = (record.detail or "")[:MAX_DETAIL_CHARS]

    def _first(self, capability: str) -> Tally | None:
        """A new count, unless a caller made the capability up."""
        if capability not in self._known:
            return None
        # Capabilities are forgotten elsewhere, one by one; half of so many are, so this is rare.
        if len(self.by_capability) >= 2 * MAX_CAPABILITIES:
            self.by_capability = {name: tally for name, tally in self.by_capability.items() if name in self._known}
        tally = self.by_capability[capability] = Tally()
        return tally

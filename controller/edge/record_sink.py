"""Owns what becomes of decision records: counted by how they ended, for the health answer."""

from __future__ import annotations

from collections import Counter

from controller.core.commands import Record


class RecordSink:
    """Counts requests by status (success, error, rejected) and by outcome."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self.by_outcome: Counter[str] = Counter()

    def take(self, command: Record) -> None:
        """Count one record."""
        self.by_status[command.record.status] += 1
        self.by_outcome[command.record.outcome] += 1

"""Owns what a scenario found: a number, and the goal for it where there is one."""

from __future__ import annotations

import msgspec


class Found(msgspec.Struct, frozen=True):
    """One number of a scenario. ``goal`` None: it is told, and nothing is promised."""

    what: str
    value: float
    goal: float | None = None
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached; without one it is."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

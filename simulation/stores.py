"""Owns what happens to the stores of claims and jobs by itself: they are away, full, nearly full, or lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation.dice import Dice

if TYPE_CHECKING:
    from simulation.world import Simulation


class Stores:
    """Their troubles, by the plan's words: each for so many seconds, and says whether it could happen."""

    def __init__(self, simulation: Simulation, dice: Dice) -> None:
        self._simulation = simulation
        self._dice = dice
        self.of_claims: dict[str, Callable[[float], bool]] = {
            "away": self._claims_away,
            "full": self._claims_full,
            "filling": self._claims_filling,
            "replaced": self._claims_replaced,
        }
        self.of_jobs: dict[str, Callable[[float], bool]] = {"away": self._jobs_away}

    def _claims_away(self, for_s: float) -> bool:
        """Nothing is written or read."""
        bucket = self._simulation.bucket
        if bucket.away:
            return False
        bucket.away = True
        self._simulation.clock.after(for_s, self._claims_back)
        return True

    def _claims_back(self) -> None:
        self._simulation.bucket.away = False

    def _claims_full(self, for_s: float) -> bool:
        """Nothing more fits."""
        bucket = self._simulation.bucket
        if bucket.full:
            return False
        bucket.full = "full"
        self._simulation.clock.after(for_s, self._claims_have_room)
        return True

    def _claims_have_room(self) -> None:
        self._simulation.bucket.full = ""

    def _claims_filling(self, for_s: float) -> bool:
        """It is nearly full, and the controllers see it, each in its own time."""
        self._tell_level("nearly full")
        self._simulation.clock.after(for_s, self._tell_level, "")
        return True

    def _tell_level(self, refuses: str) -> None:
        for controller in self._simulation.controllers:
            controller.claims.level(refuses)

    def _claims_replaced(self, for_s: float) -> bool:
        """It is lost, and made anew."""
        self._simulation.bucket.replace()
        return True

    def _jobs_away(self, for_s: float) -> bool:
        jobs = self._simulation.jobs
        if jobs.away:
            return False
        jobs.away = True
        self._simulation.clock.after(for_s, self._jobs_back)
        return True

    def _jobs_back(self) -> None:
        self._simulation.jobs.away = False

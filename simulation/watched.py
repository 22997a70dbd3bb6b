"""Owns a router under watch: every event is shown to its witness before, and what it raises is a broken law.

``simulation.controllers`` runs it in the place of the real one, which it is.
"""

from __future__ import annotations

from controller.core.commands import Command, Send
from controller.core.events import Event
from controller.core.world import Life, Outcome, World
from simulation.books import AuditedRouter
from simulation.dice import Dice
from simulation.history import History
from simulation.laws import Broken, must
from simulation.watch import Watch

# Two moments of a run, in seconds, differ by more than one part of this, so that they have dice of their own.
_EXACT = 2.0**43
# Of one moment, and one router: what piled up while it was frozen is less.
_MOST_EVENTS = 100_000


class WatchedRouter(AuditedRouter):
    """A router whose every event is witnessed. What it raises is a broken law, and ends the run.

    ``dice`` start anew with every event, by the time: what is drawn does not depend on what was drawn before, so that
    a plan can be cut down without changing everything that remains.
    """

    def __init__(self, world: World, watch: Watch, history: History, dice: Dice, seed: int) -> None:
        super().__init__(world)
        self._watch = watch
        self._history = history
        self._dice = dice
        self._seed = seed
        self._turn = 0

    def handle(self, event: Event, now: float) -> list[Command]:
        """As the router does."""
        self._turn = self._turn + 1 if now == self.world.now else 0
        self._dice.start_from(self._seed, int(now * _EXACT), self._turn)
        try:
            must(self._turn < _MOST_EVENTS, "time-goes-on", f"{type(event).__name__} follows from itself for ever")
            self._watch.event(event, now)
            return super().handle(event, now)
        except Broken as broken:
            self._history.breaks(broken)
        except Exception as error:  # noqa: BLE001  # whatever it is, it breaks a law
            told = f"{type(event).__name__} makes it raise {type(error).__name__}: {error}"
            self._history.breaks(Broken("no-crash", told))
        return []

    def _send(self, life: Life, step: Send) -> None:
        self._watch.news.chosen(step.offer, life.request.reply)
        super()._send(life, step)

    def _tell(self, life: Life, outcome: Outcome) -> None:
        super()._tell(life, outcome)
        if life.delivery:
            self._watch.job_tells(life.request.request_id)

    def _finish(self, life: Life, outcome: Outcome) -> None:
        super()._finish(life, outcome)
        if life.delivery:
            self._watch.job_ends(life.request.reply)

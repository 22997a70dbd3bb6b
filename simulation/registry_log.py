"""Owns one controller's reading and writing of the registry stream, over a network that loses and delays.

Stands where ``controller.edge.registry_log`` stands: every write and read is answered in the end, and the tail brings
what is new, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.commands import ReadSubject, StoreDeparture, StoreManifest
from controller.core.events import EntrySeen, Event, RegistryRestarted, SubjectRead, WriteAnswered
from simulation.dice import Dice
from simulation.network import LEAST_S, MOST_S

if TYPE_CHECKING:
    from simulation.controllers import Controller
    from simulation.world import Simulation

# The edge gives up on JetStream after this.
_TIMEOUT_S = 2.0
_NOISE = 0.06

Asked = StoreManifest | StoreDeparture | ReadSubject


class RegistryLog:
    """That of one boot."""

    def __init__(self, controller: Controller, simulation: Simulation, dice: Dice) -> None:
        self._controller = controller
        self._boot = controller.boot
        self._simulation = simulation
        self._dice = dice
        self._follows, self._read_seq = simulation.stream.created, 0

    def ask(self, command: Asked) -> None:
        """Write or read; the answer comes as an event."""
        mishap = self._mishap()
        if mishap == "lost":
            self._unanswered(command)
        else:
            self._simulation.clock.after(self._hop_s(), self._carried_out, command, mishap)

    def _carried_out(self, command: Asked, mishap: str | None) -> None:
        stream = self._simulation.stream
        before = stream.seq
        answer = stream.answer(command)
        if stream.seq != before:
            self._simulation.stored()
        if mishap is None:
            self._simulation.clock.after(self._hop_s(), self._answered, command, answer)
        else:
            self._unanswered(command)

    def _answered(self, command: Asked, answer: Event) -> None:
        controller = self._controller
        if controller.cut_at is None:
            controller.receive_as(self._boot, controller.feed, answer)
        else:
            self._unanswered(command)

    def _unanswered(self, command: Asked) -> None:
        event: Event = WriteAnswered(command.worker_id, None, reason="no answer in time")
        if isinstance(command, ReadSubject):
            event = SubjectRead(command.worker_id, None, failed=True)
        controller = self._controller
        self._simulation.clock.after(_TIMEOUT_S, controller.due, self._boot, controller.feed, event)

    def _mishap(self) -> str | None:
        """``lost``, or ``unanswered``: it is done, and nobody says so."""
        if self._controller.cut_at is not None:
            return "lost"
        mishap = "lost" if self._simulation.store_away else None
        if mishap is None and self._simulation.network.noise and self._dice.random() < _NOISE:
            mishap = self._dice.choice(("lost", "unanswered"))
        if mishap is not None:
            self._simulation.network.faults[f"registry {mishap}"] += 1
        return mishap

    def _hop_s(self) -> float:
        return self._dice.between(LEAST_S, MOST_S)

    # The tail -------------------------------------------------------------------------

    def tail(self) -> None:
        """There may be something new. From another stream than the one that is followed comes nothing."""
        stream = self._simulation.stream
        if self._controller.cut_at is None and self._follows == stream.created:
            for entry in stream.after(self._read_seq):
                self._read_seq = entry.seq
                self._controller.feed(EntrySeen(entry))

    def check(self) -> None:
        """See whether it is still the same stream; if not, read the new one from its start."""
        if self._controller.cut_at is None and self._follows != self._simulation.stream.created:
            self._follows, self._read_seq = self._simulation.stream.created, 0
            self._controller.feed(RegistryRestarted())
            self.tail()

"""Owns one controller's way to the streams of jobs, over a network that loses.

Stands where ``controller.edge.jobs`` stands: what is stored is sent again until it is known, for a while; a pull ends
once; an acknowledgement is sent once, and nobody says whether it arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.core.model import Request
from controller.core.stored import (
    AckJob,
    AppendDead,
    Appended,
    AppendJob,
    DropDead,
    ExtendJob,
    JobDelivered,
    JobsKnown,
    KeepResult,
    NakJob,
    PullEnded,
    PullJobs,
)
from simulation.dice import Dice
from simulation.jobs import PULL_S
from simulation.network import LEAST_S, MOST_S
from subjects.tokens import CapabilityId

if TYPE_CHECKING:
    from simulation.controllers import Controller
    from simulation.world import Simulation

_TRIES, _AGAIN_S = 3, 0.7
_GRACE_S = 1.0
# A pull that fails at once is not followed by the next at once.
_LEAST_S = 1.0
_LOOK_S = 3.0
# Of messages to the streams and back.
_NOISE = 0.03
_NOISES = ("lost", "unanswered")


class _Pull:
    __slots__ = ("capability", "left")

    def __init__(self, command: PullJobs) -> None:
        self.capability, self.left = command.capability, command.count


class JobsLog:
    """That of one boot."""

    def __init__(self, controller: Controller, simulation: Simulation, dice: Dice) -> None:
        self._controller = controller
        self._boot = controller.boot
        self._simulation = simulation
        self._jobs = simulation.jobs
        self._dice = dice
        self._known: set[CapabilityId] = set()
        self._pulls: list[_Pull] = []
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            AppendJob: self._append,
            AppendDead: self._bury,
            KeepResult: self._keep,
            PullJobs: self._pull,
            AckJob: self._say,
            NakJob: self._say,
            ExtendJob: self._say,
            DropDead: self._say,
        }

    def look(self) -> None:
        """See what there are jobs of."""
        if self._reaches() == "":
            for capability in self._jobs.consumers:
                self._knows(capability)
        self._controller.later(_LOOK_S, self.look)

    def _knows(self, capability: CapabilityId) -> None:
        if capability not in self._known:
            self._known.add(capability)
            self._controller.feed(JobsKnown(capability))

    # Storing --------------------------------------------------------------------------

    def _append(self, command: AppendJob) -> None:
        self._simulation.callers.submitted(command.job_id, command.request.reply)

        def act() -> None:
            self._jobs.append(command.request, command.job_id, command.message_id)

        self._store(command.life, act)

    def _bury(self, command: AppendDead) -> None:
        def act() -> None:
            self._jobs.bury(command.request, command.job_id, command.message_id, command.record)

        self._store(command.life, act)

    def _keep(self, command: KeepResult) -> None:
        self._store(command.life, lambda: self._jobs.keep(command.job_id, command.record))

    def _store(self, life: Any, act: Callable[[], None], tries: int = _TRIES) -> None:
        mishap = self._reaches()
        if mishap != "lost":
            self._simulation.clock.after(self._hop_s(), act)
        if not mishap:
            delay_s = 2 * self._hop_s() + MOST_S
            self._simulation.clock.after(delay_s, self._controller.receive_as, self._boot, self._acknowledged, life)
        elif tries > 1:
            self._controller.later(_AGAIN_S, self._store, life, act, tries - 1)
        else:
            self._controller.later(_AGAIN_S, self._controller.feed, Appended(life, "no answer in time"))

    def _acknowledged(self, life: Any) -> None:
        self._controller.feed(Appended(life, None))
        if life.request.capability in self._jobs.consumers:
            self._knows(life.request.capability)

    # Pulling --------------------------------------------------------------------------

    def _pull(self, command: PullJobs) -> None:
        pull = _Pull(command)
        self._pulls.append(pull)
        if self._controller.cut_at is not None:
            self._controller.later(_LEAST_S, self._end, pull)
            return
        if not self._reaches():
            self._simulation.clock.after(self._hop_s(), self._jobs.pull, command.capability, command.count, self)
        self._controller.later(PULL_S + _GRACE_S, self._end, pull)

    def _end(self, pull: _Pull) -> None:
        if pull in self._pulls:
            self._pulls.remove(pull)
            self._controller.feed(PullEnded(pull.capability))

    def end_pulls(self) -> None:
        """The connection was lost, and the pulls with it."""
        for pull in list(self._pulls):
            self._end(pull)

    @property
    def listening(self) -> bool:
        """Whether the server believes that it is there."""
        return self._controller.boot == self._boot and self._controller.listed

    def deliver(self, request: Request, job_id: str, delivery: str) -> None:
        """The server sends it a job."""
        if self._reaches() != "lost":
            act = self._controller.receive_as
            self._simulation.clock.after(self._hop_s(), act, self._boot, self._delivered, request, job_id, delivery)

    def _delivered(self, request: Request, job_id: str, delivery: str) -> None:
        request = self._simulation.callers.job(request, job_id, f"job {delivery} {self._controller.name}")
        self._controller.feed(JobDelivered(request, job_id, delivery))
        for pull in self._pulls:
            if pull.capability == request.capability:
                pull.left -= 1
                if not pull.left:
                    self._end(pull)
                return

    # What is said of a delivery ---------------------------------------------------------

    def _say(self, command: AckJob | NakJob | ExtendJob | DropDead) -> None:
        if not isinstance(command, DropDead):
            self._controller.watch.says(command)
        if self._reaches() == "lost":
            return
        jobs, after, hop_s = self._jobs, self._simulation.clock.after, self._hop_s()
        match command:
            case AckJob(delivery):
                after(hop_s, jobs.ack, delivery)
            case NakJob(delivery, delay_s):
                after(hop_s, jobs.nak, delivery, delay_s)
            case ExtendJob(delivery):
                after(hop_s, jobs.extend, delivery)
            case DropDead(seq):
                after(hop_s, jobs.dead.pop, seq, None)

    def _reaches(self) -> str:
        """What happens to a message: ``lost``, ``unanswered``, or nothing."""
        if self._controller.cut_at is not None or self._jobs.away:
            return "lost"
        network = self._simulation.network
        if network.noise and self._dice.random() < _NOISE:
            mishap = self._dice.choice(_NOISES)
            network.faults[f"jobs {mishap}"] += 1
            return mishap
        return ""

    def _hop_s(self) -> float:
        return self._dice.between(LEAST_S, MOST_S)

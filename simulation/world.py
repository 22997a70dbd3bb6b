"""Owns one run: puts the world of a plan together, lets the plan happen, and looks whether all is well at the end.

``run`` is all that others call.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from controller.core.events import Event
from simulation import quiet
from simulation.bucket import Bucket
from simulation.callers import Callers
from simulation.clock import START_S, Clock
from simulation.controllers import Controller
from simulation.dice import Dice
from simulation.history import History
from simulation.jobs import Jobs
from simulation.laws import Broken
from simulation.ledger import Ledger
from simulation.network import Network
from simulation.operators import Operators
from simulation.plan import Plan, Trouble, Whom
from simulation.stores import Stores
from simulation.stream import Stream
from simulation.workers import Worker
from subjects.tokens import WorkerId

# How often the books of every controller are checked.
_LOOK_S = 0.3
# A new entry reaches a tail at once, or, when that was lost, by the tail's own checks.
_TAIL_S, _TAIL_LATE_S = (0.0003, 0.005), (0.5, 3.0)
_TAIL_NOISE = 0.1


class Result(msgspec.Struct, frozen=True):
    """What came of a run. ``law`` is "" when none was broken."""

    requests: int
    virtual_s: float
    digest: str
    outcomes: dict[str, int]
    faults: dict[str, int]
    keys: dict[str, int]
    """What happened to keys and jobs, and what operators and those who cancel were told."""
    law: str
    detail: str
    broken_at_s: float
    last: list[str]
    """What happened last, a line each."""


class Simulation:
    """The world of one plan."""

    def __init__(self, plan: Plan, tell: Callable[[int], None]) -> None:
        self.plan = plan
        self.clock = Clock()
        self.history = History(self.clock)
        self.network = Network(self.clock, noise=plan.noise)
        self.stream = Stream()
        self.store_away = False
        self.ledger = Ledger(self.clock)
        self.bucket = self.ledger.bucket = Bucket(self.clock, self.ledger)
        self.jobs = Jobs(self.clock)
        self.callers = Callers(self)
        self.controllers: list[Controller] = []
        self.workers: dict[WorkerId, Worker] = {}
        self._dice = Dice(plan.seed, 7)
        self._stores = Stores(self, self._dice)
        self._operators = Operators(self, self._dice)
        self._tell = tell
        self._at = 0
        self._calm_at = START_S
        for number in plan.controllers:
            self.controllers.append(Controller(number, self))
        for number in plan.workers:
            worker = Worker(number, self)
            self.workers[worker.id] = worker

    def run(self) -> Result:
        """Let the plan happen, and what follows from it."""
        self.clock.after(_LOOK_S, self._look)
        self._next()
        history, clock, happenings = self.history, self.clock, self.plan.happenings
        until = START_S + happenings[-1].at if happenings else START_S
        try:
            clock.run(until, self.unbroken)
            clock.run(self._calm_at, self.unbroken)
            quiet.settle(self)
        except Broken as broken:
            history.breaks(broken)
        law, detail = (history.broken.law, history.broken.detail) if history.broken is not None else ("", "")
        outcomes = {name: count for name, count in sorted(self.callers.outcomes.items()) if count}
        silent = self.callers.calls - sum(outcomes.values())
        return Result(
            self.callers.calls,
            clock.now - START_S,
            history.digest,
            outcomes | {"nothing came": silent},
            {name: count for name, count in sorted(self.network.faults.items()) if count},
            self._keys(),
            law,
            detail,
            max(0.0, history.broken_at - START_S),
            list(history.last),
        )

    def _keys(self) -> dict[str, int]:
        counts = self.ledger.counts + self.callers.side
        counts["job delivered again"] = self.jobs.redelivered
        return {name: count for name, count in sorted(counts.items()) if count}

    def unbroken(self) -> bool:
        """Whether no law was broken yet."""
        return self.history.broken is None

    def _next(self) -> None:
        """What the plan says next, when it is time for it."""
        if self._at < len(self.plan.happenings):
            self.clock.at(START_S + self.plan.happenings[self._at].at, self._happen)

    def _happen(self) -> None:
        happening = self.plan.happenings[self._at]
        self._at += 1
        self._next()
        if isinstance(happening, Trouble):
            self._trouble(happening)
            return
        self.callers.ask(happening)
        if self.callers.calls % 1000 == 0:
            self._tell(self.callers.calls)

    def _look(self) -> None:
        for controller in self.controllers:
            controller.look()
        self.clock.after(_LOOK_S, self._look)

    # What everybody shares --------------------------------------------------------------

    def one_of_group(self, dice: Dice) -> Controller | None:
        """The member of the queue group that nats-server picks."""
        members = [controller for controller in self.controllers if controller.in_group]
        return dice.choice(members) if members else None

    def to_group(self, dice: Dice, event: Event) -> None:
        """A message for the queue group arrives at the server."""
        controller = self.one_of_group(dice)
        if controller is not None:
            controller.receive(controller.feed, event)

    def answer_control(self, controller: Controller, reply: str, *, accepted: bool) -> None:
        """A controller answers a worker, at ``<worker> <boot> <what> <number>``, or a cancel, which nobody reads."""
        worker_id, *rest = reply.split()
        worker = self.workers.get(WorkerId(worker_id))
        if worker is not None and controller.cut_at is None:
            boot, what, number = rest
            self.network.carry_noisily(
                "control", worker.dice, worker.receive, worker.answered, int(boot), what, int(number), accepted
            )

    def noticed(self, key: str, by: Controller) -> None:
        """A controller tells every other one of a claim that nobody holds any more."""
        for controller in self.controllers:
            if controller is not by:
                controller.claims.noticed(key)

    def stored(self) -> None:
        """The stream has a new entry: every tail is told, some of them late."""
        dice = self._dice
        for controller in self.controllers:
            late = self.network.noise and dice.random() < _TAIL_NOISE
            self.network.faults["tail late"] += late
            self.clock.after(dice.between(*(_TAIL_LATE_S if late else _TAIL_S)), controller.receive, controller.tail)

    # Troubles ---------------------------------------------------------------------------

    def _trouble(self, trouble: Trouble) -> None:
        kind, for_s = trouble.kind, trouble.for_s
        act = self._troubles_of(trouble.whom, trouble.number).get(kind)
        if act is not None and act(for_s):
            self.network.faults[f"{trouble.whom} {kind}"] += 1
            self.history.tell(f"{trouble.whom} {trouble.number}", f"{kind} for {for_s:.3f} s")
            self._calm_at = max(self._calm_at, self.clock.now + for_s)

    def _troubles_of(self, whom: Whom, number: int) -> dict[str, Callable[[float], bool]]:
        match whom:
            case "registry":
                return {"away": self._stream_away, "replaced": self._stream_replaced}
            case "claims":
                return self._stores.of_claims
            case "jobs":
                return self._stores.of_jobs
            case "operator":
                return self._operators.troubles()
        among = self.workers.values() if whom == "worker" else self.controllers
        return next((process.troubles() for process in among if process.number == number), {})

    def _stream_away(self, for_s: float) -> bool:
        """Nothing is written or read."""
        if self.store_away:
            return False
        self.store_away = True
        self.clock.after(for_s, self._stream_back)
        return True

    def _stream_back(self) -> None:
        self.store_away = False

    def _stream_replaced(self, for_s: float) -> bool:
        """It is lost, and made anew; the controllers notice within ``for_s``, each in its own time."""
        self.stream.replace()
        for controller in self.controllers:
            # Not sooner than answers of the old stream arrive.
            controller.later(0.1 + self._dice.random() * for_s, controller.log.check)
        return True


def run(plan: Plan, tell: Callable[[int], None] = lambda calls: None) -> Result:
    """Run a plan; ``tell`` is called now and then with how many requests were made so far."""
    return Simulation(plan, tell).run()

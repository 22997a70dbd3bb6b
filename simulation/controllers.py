"""Owns a simulated controller: the real router and the real driver, surrounded by the network and the stream.

Everything that the edge does with bytes is done here with the same values; every command is shown to ``watch`` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.core.commands import (
    Alert,
    Answer,
    Authorize,
    Command,
    Dispatch,
    Publish,
    ReadSubject,
    Record,
    Refuse,
    ReplyJson,
    ReplyRefusal,
    SendControl,
    StoreDeparture,
    StoreManifest,
    WriteCounts,
)
from controller.core.events import Answered, Closing, Event, VerdictReached
from controller.core.model import Mismatch, Verdict
from controller.core.registry import Registry
from controller.core.world import Limits, World
from controller.driver import Driver
from simulation import books
from simulation.bucket import LEASE_S, WINDOW_S
from simulation.claim_watch import ClaimWatch
from simulation.claims_log import ClaimsLog
from simulation.dice import Dice
from simulation.exchange import Exchange
from simulation.jobs_log import JobsLog
from simulation.laws import Broken
from simulation.obligation import BAD
from simulation.process import Process
from simulation.registry_log import RegistryLog
from simulation.watch import Watch
from simulation.watched import WatchedRouter
from subjects.answers import Answer as WorkersAnswer
from subjects.answers import NotRun
from subjects.tokens import CapabilityId, DispatchId, WorkerId

if TYPE_CHECKING:
    from simulation.world import Simulation

INTERVAL_S = 2.0
DEFAULT_TIMEOUT_MS = 1000
# Small, so that queues fill and fleets are full.
LIMITS = Limits(queue_limit=5, max_attempts=3, lease_s=LEASE_S, window_s=WINDOW_S, job_attempts=4)
# How long it waits, when it is to stop, for what it accepted.
_DRAIN_S = (0.02, 3.0)
# Longer than a lease, mostly.
_GAP_S = (0.5, 12.0)
_SLOW_VERDICT_S = (0.001, 0.1)
_ALLOW = Verdict(True, "allowed", 1.0)
_VERDICTS = {"denied": Verdict(False, "no", 0.05), "unavailable": Verdict(False, "no answer", 0.05, unavailable=True)}


class _Patience:
    """One for all."""

    def timeout_ms(self, capability: CapabilityId) -> int:
        """Milliseconds."""
        return DEFAULT_TIMEOUT_MS


def check_body(schema: str, body: bytes) -> Mismatch | None:
    """Validate: a schema takes all but ``bad``."""
    return Mismatch(True, "name", "is wrong") if body == BAD else None


def _heard(command: Alert | WriteCounts) -> None:
    """Nobody here acts upon it: each controller has its own counts."""


class Controller(Process):
    """One of them, and the driver's ``Surroundings``."""

    def __init__(self, number: int, simulation: Simulation) -> None:
        super().__init__(number, simulation.clock)
        self.name = f"c-{number}"
        self.stopping = False
        self._simulation = simulation
        self._network = simulation.network
        self._dice = Dice(simulation.plan.seed, 4, number)
        self._timer = 0
        self._armed = self.own.now
        self._do: dict[type, Callable[[Any], Event | None]] = {
            Dispatch: self._dispatch,
            Answer: self._reply,
            Refuse: self._reply,
            Record: lambda command: self.watch.recorded(command.record),
            Authorize: self._authorize,
            SendControl: self._control,
            StoreManifest: self._write,
            StoreDeparture: self._write,
            ReadSubject: lambda command: self.log.ask(command),
            ReplyJson: self._accept,
            ReplyRefusal: self._turn_away,
            Publish: self._publish,
            Alert: _heard,
            WriteCounts: _heard,
        }
        self.start()

    @property
    def in_group(self) -> bool:
        """Whether the queue group's messages may come to it."""
        return self.listed and not self.stopping

    def start(self) -> None:
        """Begin with nothing, read the stream, serve."""
        self.begin()
        simulation, now = self._simulation, self.own.now
        self.stopping = False
        claims = ClaimWatch(simulation.ledger, simulation.jobs)
        name = f"{self.name}.{self.boot}"
        self.watch = Watch(name, simulation.history, now, DEFAULT_TIMEOUT_MS, LIMITS.max_attempts, claims)
        seed = simulation.plan.seed * 1000 + self.number * 100 + self.boot
        chance = Dice(seed)
        world = World(
            controller_id=self.name,
            registry=Registry(INTERVAL_S),
            timeouts=_Patience(),
            check=check_body,
            chance=chance,
            limits=LIMITS,
            now=now,
        )
        self.router = WatchedRouter(world, self.watch, simulation.history, chance, seed)
        self.driver = Driver(self.router, self)
        self.log = RegistryLog(self, simulation, self._dice)
        self.claims = ClaimsLog(self, simulation, self._dice)
        self.jobs = JobsLog(self, simulation, self._dice)
        self._do |= self.claims.handlers | self.jobs.handlers
        self._timer = self._looked_at = 0
        self.driver.start()
        self.log.tail()
        self.jobs.look()

    def troubles(self) -> dict[str, Callable[[float], bool]]:
        """Those of any process, and its own."""
        return {**super().troubles(), "stop": self.stop, "fast": self.fast, "slow": self.slow, "jump": self.jump}

    def clock_changed(self, jumped_s: float) -> None:
        """Its timer stands at another time of the world."""
        if jumped_s and self.frozen_at is None:
            self.watch.stood_still(self.own.now, jumped_s)
        self.wake_at(self._armed)

    def stop(self, for_s: float) -> bool:
        """Leave the queue group, finish what was accepted, say goodbye; start again after ``for_s``."""
        if not self.up or self.stopping:
            return False
        self.stopping = True
        self.later(0.0, self._finish, self.clock.now + self._dice.between(*_DRAIN_S), for_s)
        return True

    def _finish(self, until: float, for_s: float) -> None:
        if self.router.live and self.clock.now < until:
            self.later(0.02, self._finish, until, for_s)
            return
        if self.router.live:
            self.driver.feed(Closing())
        if self.watch.owed:
            reply = next(iter(self.watch.owed))
            broken = Broken("in-time", f"{reply} has no terminal reply, and its controller said goodbye")
            self._simulation.history.breaks(broken)
        self.kill(for_s)

    def feed(self, event: Event) -> None:
        """A message was read."""
        self.driver.feed(event)

    def look(self) -> None:
        """See that every law holds that holds at any time."""
        if not self.up or self.frozen_at is not None or self._looked_at == self.watch.events:
            return
        self._looked_at, now = self.watch.events, self.own.now
        try:
            books.check_all(self.router)
            books.check_liveness(self.router, now)
            books.check_claims(self.router, now, self.watch.hindered_at)
            self.watch.check(self.router, now)
        except Broken as broken:
            self._simulation.history.breaks(broken)

    # Surroundings -------------------------------------------------------------------

    def now(self) -> float:
        """The time, as far as it knows."""
        return self.own.now

    def wake_at(self, due: float) -> None:
        """Arm the one timer."""
        self._timer += 1
        self._armed = due
        self.clock.at(self.own.world(due), self.due, self.boot, self._tick, self._timer)

    def _tick(self, timer: int) -> None:
        if timer == self._timer:
            self.driver.tick()

    def perform(self, command: Command) -> Event | None:
        """Carry out a command; a law that it breaks must not be mistaken for an error of the edge, which is logged."""
        try:
            return self._do[type(command)](command)
        except Broken as broken:
            self._simulation.history.breaks(broken)
            return None

    # Callers and workers --------------------------------------------------------------

    def _dispatch(self, command: Dispatch) -> Event | None:
        self.watch.dispatched(command)
        if self.cut_at is not None:  # nothing is published while disconnected
            return Answered(DispatchId(command.dispatch_id), NotRun("busy"))
        exchange = self._simulation.callers.exchange(command.request.reply)
        if exchange.mishap("gap") is not None and self.freeze(exchange.dice.between(*_GAP_S)):
            self.later(0.0, self._sends, command, exchange)
        else:
            self._sends(command, exchange)
        return None

    def _sends(self, command: Dispatch, exchange: Exchange) -> None:
        worker = self._simulation.workers[WorkerId(command.address.partition(".")[0])]
        boot, dispatch_id = self.boot, DispatchId(command.dispatch_id)

        def answered(answer: WorkersAnswer) -> None:
            self.receive_as(boot, self.feed, Answered(dispatch_id, answer))

        exchange.carry("dispatch", worker.arrive, command, exchange, answered)

    def _reply(self, command: Answer | Refuse) -> None:
        self.watch.replied(command)
        callers = self._simulation.callers
        exchange = callers.exchange(command.reply)
        if command.reply not in self.watch.owed:
            callers.forget(command.reply)
        if self.cut_at is None:
            exchange.carry("reply", callers.got, exchange, command)

    def _authorize(self, command: Authorize) -> Event | None:
        exchange = self._simulation.callers.exchange(command.request.reply)
        mishap = exchange.mishap("verdict")
        if mishap is None:
            return VerdictReached(command.life, _ALLOW)
        event = VerdictReached(command.life, _VERDICTS.get(mishap, _ALLOW))
        for _ in range(2 if mishap == "twice" else 1):
            self.later(exchange.dice.between(*_SLOW_VERDICT_S), self.feed, event)
        return None

    def _publish(self, command: Publish) -> None:
        if "worker_id" not in command.body:
            return
        worker = self.router.world.registry.workers.get(WorkerId(str(command.body["worker_id"])))
        if command.name == "left" and worker is not None:
            self.watch.news.left(worker, INTERVAL_S)

    def _write(self, command: StoreManifest | StoreDeparture) -> None:
        self.watch.news.writes(command)
        self.log.ask(command)

    def _control(self, command: SendControl) -> None:
        if command.control.dispatch_id is not None:
            self.router.told.add(DispatchId(command.control.dispatch_id))
        if self.cut_at is None:
            worker = self._simulation.workers[command.worker_id]
            self._network.carry_noisily("control", self._dice, worker.receive, worker.told, command.control)

    def _accept(self, command: ReplyJson) -> None:
        self.watch.confirmed(command.reply)
        self._simulation.answer_control(self, command.reply, accepted=True)

    def _turn_away(self, command: ReplyRefusal) -> None:
        self.watch.news.refused(command)
        self._simulation.answer_control(self, command.reply, accepted=False)

    def tail(self) -> None:
        """The stream has something new."""
        self.log.tail()

    def thawed(self, stood_s: float) -> None:
        """It goes on."""
        self.watch.stood_still(self.own.now, stood_s)

    def connected_again(self) -> None:
        """As the edge does."""
        self.log.check()
        self.log.tail()
        self.jobs.end_pulls()

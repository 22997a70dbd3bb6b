"""Owns one scenario under way: workers, controllers and arrivals on one clock, and what is changed in the middle of it.

Each controller is the real router behind the real driver. A message takes a fifth of a millisecond, and none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from controller.core.commands import Answer, Authorize, Command, Dispatch, Publish, Refuse, WriteCounts
from controller.core.events import (
    Answered,
    CountingBegins,
    CountsKnown,
    EntrySeen,
    Event,
    HeartbeatSeen,
    PeerCounts,
    RequestArrived,
    RulesChanged,
    StoredManifest,
    VerdictReached,
)
from controller.core.fleet import Offer
from controller.core.model import Mismatch, Request, Verdict
from controller.core.objectives import Rules
from controller.core.registry import Registry
from controller.core.router import Router
from controller.core.world import World
from controller.driver import Driver
from simulation.clock import Clock
from simulation.dice import Dice
from simulation.scenarios.arrivals import Asked
from simulation.scenarios.fleet import CAPABILITY, Worker
from simulation.stream import digest_of
from subjects.answers import NotRun
from subjects.messages import Heartbeat
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import DispatchId, RequestId, WorkerId

_HOP_S = 0.0002
_INTERVAL_S = 5.0
# Callers that say nothing wait so long.
_PATIENCE_MS = 30_000
# What is still out when the last one was asked has so long to come back.
_REST_S = 35.0
_ALLOWED = Verdict(allow=True, reason="", valid_for_s=1e9)


class _Patience:
    def timeout_ms(self, capability: str) -> int:
        return _PATIENCE_MS


def _fits(schema: str, body: bytes) -> Mismatch | None:
    return None


class Controller:
    """One controller, and the driver's ``Surroundings``."""

    def __init__(self, number: int, seed: int, stage: Stage) -> None:
        self.name = f"c-{number}"
        self._stage = stage
        self._clock = stage.clock
        self._timer = 0
        self.world = World(
            self.name, Registry(_INTERVAL_S), _Patience(), _fits, Dice(seed, 3, number), now=self._clock.now
        )
        self.router = Router(self.world)
        self.driver = Driver(self.router, self)
        self.up = True
        self.driver.start()

    def feed(self, event: Event) -> None:
        """A message arrives."""
        if self.up:
            self.driver.feed(event)

    def now(self) -> float:
        """Everybody's time."""
        return self._clock.now

    def wake_at(self, due: float) -> None:
        """Arm the one timer."""
        self._timer += 1
        self._clock.at(due, self._tick, self._timer)

    def _tick(self, timer: int) -> None:
        if timer == self._timer and self.up:
            self.driver.tick()

    def perform(self, command: Command) -> Event | None:
        """What matters here; of the rest nobody hears."""
        match command:
            case Dispatch():
                self._clock.after(_HOP_S, self._stage.work, command, self)
            case Answer() | Refuse():
                self._stage.replied(command)
            case Authorize():
                return VerdictReached(command.life, _ALLOWED)
            case WriteCounts():
                self._stage.counted(self, command)
            case Publish():
                self._stage.told.append((self._stage.elapsed_s, command.name, str(command.body.get("worker_id", ""))))
        return None

    def offer(self, worker: str) -> Offer:
        """A worker's offer, as this controller knows it."""
        return self.world.registry.workers[WorkerId(worker)].offers[0]


class Stage:
    """Where a scenario plays. ``told``: when which event was published of which worker."""

    def __init__(self, seed: int, workers: Iterable[Worker], rules: Rules, *, controllers: int = 1) -> None:
        self.clock = Clock()
        self._begin = self.clock.now
        self.workers: dict[str, Worker] = {}
        self.asked: list[Asked] = []
        self.told: list[tuple[float, str, str]] = []
        self._dice = Dice(seed, 4)
        self.controllers = [Controller(number, seed, self) for number in range(1, controllers + 1)]
        for controller in self.controllers:
            controller.feed(RulesChanged(rules))
            if controllers > 1:
                controller.feed(CountingBegins())
        for controller in self.controllers:
            controller.feed(CountsKnown())
        self._seq = 0
        for worker in workers:
            self.join(worker)
        self._beat()

    @property
    def elapsed_s(self) -> float:
        """Since the beginning."""
        return self.clock.now - self._begin

    @property
    def controller(self) -> Controller:
        """The only one, or the first."""
        return self.controllers[0]

    def at(self, elapsed_s: float, act: Callable[..., object], *args: Any) -> None:
        """Have something happen in the middle of it."""
        self.clock.at(self._begin + elapsed_s, act, *args)

    def join(self, worker: Worker) -> None:
        """One more worker registers; it is heard at once."""
        self._seq += 1
        self.workers[worker.id] = worker
        stored = StoredManifest(worker.id, self._seq, worker.manifest, digest_of(msgspec.json.encode(worker.manifest)))
        for controller in self.controllers:
            controller.feed(EntrySeen(stored))
            controller.feed(HeartbeatSeen(worker.id, Heartbeat(1, worker.manifest.instance)))

    def _beat(self) -> None:
        self._seq += 1
        for worker in self.workers.values():
            for controller in self.controllers:
                controller.feed(HeartbeatSeen(worker.id, Heartbeat(self._seq, worker.manifest.instance)))
        self.clock.after(_INTERVAL_S, self._beat)

    def play(self, arrivals: Iterable[Asked]) -> Sequence[Asked]:
        """Have all of these asked, and wait until all are answered."""
        first = len(self.asked)
        for asked in arrivals:
            self.clock.run(self._begin + asked.at, lambda: True)
            self._ask(asked)
        until, up = self.clock.now + _REST_S, [controller for controller in self.controllers if controller.up]
        self.clock.run(self.clock.now + _HOP_S, lambda: True)
        while any(controller.router.live for controller in up) and self.clock.now < until:
            self.clock.run(self.clock.now + 0.1, lambda: True)
        return self.asked[first:]

    def _ask(self, asked: Asked) -> None:
        number = str(len(self.asked))
        self.asked.append(asked)
        headers = NO_HEADERS
        if asked.latency_ms is not None or asked.priority != "normal":
            headers = RequestHeaders(latency_ms=asked.latency_ms, priority=asked.priority)
        request = Request(CAPABILITY, asked.caller, RequestId(number), number, headers, b"{}")
        among = [controller for controller in self.controllers if controller.up]
        controller = among[0] if len(among) == 1 else self._dice.choice(among)
        self.clock.after(_HOP_S, controller.feed, RequestArrived(request))

    # What controllers do ------------------------------------------------------------

    def work(self, dispatch: Dispatch, by: Controller) -> None:
        """A worker gets a dispatch."""
        worker = self.workers[dispatch.address.partition(".")[0]]
        takes_s, answer = worker.begins()
        ran = not isinstance(answer, NotRun)
        if ran:
            asked = self.asked[int(dispatch.request.reply)]
            asked.workers += (worker.id,)
            asked.tokens += worker.kind.price
        event = Answered(DispatchId(dispatch.dispatch_id), answer)
        self.clock.after(takes_s, self._done, worker, ran, by, event)

    def _done(self, worker: Worker, ran: bool, by: Controller, event: Event) -> None:
        worker.running -= ran
        self.clock.after(_HOP_S, by.feed, event)

    def replied(self, command: Answer | Refuse) -> None:
        """A caller is told."""
        asked = self.asked[int(command.reply)]
        asked.took_ms = (self.elapsed_s + _HOP_S - asked.at) * 1000
        asked.outcome = "answered" if isinstance(command, Answer) else command.refusal.kind.suffix

    def counted(self, by: Controller, command: WriteCounts) -> None:
        """A controller tells the others its counts."""
        for controller in self.controllers:
            if controller is not by:
                self.clock.after(_HOP_S, controller.feed, PeerCounts(command.period, command.message, live=True))

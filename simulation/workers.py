"""Owns a simulated worker: its standing with the controllers, and what troubles do to it. ``work`` does its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from controller.core.commands import Dispatch
from controller.core.events import DeregisterAsked, HeartbeatSeen, RegisterAsked
from simulation.controllers import INTERVAL_S
from simulation.dice import Dice
from simulation.exchange import Exchange
from simulation.plan import PROMISES
from simulation.process import Process
from simulation.stream import digest_of
from simulation.work import Desk
from subjects.answers import NO_RESPONDERS, Answer
from subjects.manifests import Capability, Manifest
from subjects.messages import Control, Deregister, Heartbeat
from subjects.tokens import WorkerId

if TYPE_CHECKING:
    from simulation.world import Simulation

_VERSIONS = (("1.0.0",), ("1.0.0",), ("2.1.0",), ("1.0.0", "2.1.0"))
_REGISTER_TIMEOUT_S = 2.0
_AGAIN_S = (0.1, 2.0)
# It waits so long for its work before it goes.
_DRAIN_S = 3.0


class Worker(Process):
    """One of them. Each start is a new instance, which may offer something else."""

    def __init__(self, number: int, simulation: Simulation) -> None:
        super().__init__(number, simulation.clock)
        self.id = WorkerId(f"w-{number}")
        self.dice = Dice(simulation.plan.seed, 6, number)
        self.draining = False
        self.registered = False
        self._simulation = simulation
        self._network = simulation.network
        self.desk = Desk(self)
        self.start()

    def start(self) -> None:
        """Come up and register."""
        self.begin()
        seed = self._simulation.plan.seed
        # A simple worker knows nothing of instances, and is always the same.
        simple = Dice(seed, 8, self.number).random() < 0.15
        self.instance = None if simple else f"{self.id}-{self.boot}"
        self.dice.start_from(seed, 6, self.number, 0 if simple else self.boot)
        self.draining = self.registered = self._beating = False
        self._asking = False
        self._asked = self._seq = 0
        self.manifest = Manifest(self.id, self._offers(), self.instance)
        self.body = msgspec.json.encode(self.manifest)
        self.desk.open(self.manifest.capabilities, self.dice.choice((1.0, 1.0, 0.5)))
        self.later(self.dice.between(0.0, 0.2), self._register)

    def _offers(self) -> tuple[Capability, ...]:
        offers: list[Capability] = []
        for capability, promise in PROMISES.items():
            if self.dice.random() < 0.25 and offers:
                continue
            verb, _, name = capability.partition(":")
            constraints: dict[str, int | float] = {"gpu": 2} if self.dice.random() < 0.3 else {}
            if promise.timeout_s:
                constraints["timeout_s"] = promise.timeout_s
            if promise.max_output_bytes:
                constraints["max_output_bytes"] = promise.max_output_bytes
            offers += (
                Capability(
                    verb,
                    name,
                    version,
                    max_concurrency=self.dice.choice((1, 2, 2, 4)),
                    idempotent=promise.idempotent,
                    cost_tokens_per_invocation=1.0,
                    streaming=promise.streaming,
                    input_schema=True if promise.schemas else None,
                    output_schema=True if promise.schemas else None,
                    constraints=constraints or None,
                )
                for version in self.dice.choice(_VERSIONS)
            )
        return tuple(offers)

    # Standing -------------------------------------------------------------------------

    def _register(self) -> None:
        if self.draining:
            return
        self._asking = True
        self._asked += 1
        event = RegisterAsked(self.manifest, digest_of(self.body), self.body, self._reply("register"))
        if self.cut_at is None:
            self._network.carry_noisily("register", self.dice, self._simulation.to_group, self.dice, event)
        self.later(_REGISTER_TIMEOUT_S, self._unanswered, self._asked)

    def _reply(self, what: str) -> str:
        return f"{self.id} {self.boot} {what} {self._asked}"

    def _unanswered(self, asked: int) -> None:
        if self._asking and asked == self._asked:
            self._register()

    def answered(self, boot: int, what: str, asked: int, accepted: bool) -> None:
        """A controller answers a registration; what becomes of a departure is no matter to who leaves."""
        if boot != self.boot or what != "register" or asked != self._asked or not self._asking:
            return
        if not accepted:
            self._asked += 1  # whatever else comes for this one, it asks again by itself
            self.later(self.dice.between(*_AGAIN_S), self._register)
            return
        self._asking = False
        self.registered = True
        if not self._beating:
            self._beating = True
            self._beat_for_ever()

    def told(self, control: Control) -> None:
        """A controller tells it something."""
        if control.op == "reregister" and not self._asking:
            self._register()
        elif control.op == "cancel" and control.dispatch_id is not None:
            self.desk.cancel(control.dispatch_id)

    def _beat_for_ever(self) -> None:
        self._beat()
        self.later(INTERVAL_S, self._beat_for_ever)

    def _beat(self) -> None:
        self._seq += 1
        if self.cut_at is not None:
            return
        desk = self.desk
        beat = Heartbeat(self._seq, self.instance, len(desk.runs), desk.capacity, self.draining)
        event = HeartbeatSeen(self.id, beat)
        for controller in self._simulation.controllers:
            self._network.carry_noisily("heartbeat", self.dice, controller.receive, controller.feed, event)

    # Work -------------------------------------------------------------------------------

    def arrive(self, dispatch: Dispatch, exchange: Exchange, answered: Callable[[Answer], None]) -> None:
        """nats-server has a dispatch for it."""
        if self.listed:
            self.receive(self.desk.take, dispatch, exchange, answered)
        else:
            exchange.carry("answer", answered, NO_RESPONDERS)

    def begins(self, dispatch_id: str, *, twice_is_safe: bool) -> None:
        """It begins with a dispatch: whatever happens to it from now on, it may have been done."""
        self._simulation.ledger.ran(dispatch_id, twice_is_safe=twice_is_safe)

    def takes_back(self, dispatch_id: str) -> None:
        """It says that it did not begin after all: if that is not true, nobody can know."""
        self._simulation.ledger.did_not_run(dispatch_id)

    # Troubles -----------------------------------------------------------------------------

    def troubles(self) -> dict[str, Callable[[float], bool]]:
        """Those of any process, and its own."""
        return {**super().troubles(), "drain": self.drain, "hang": self.desk.hang, "slow": self.desk.slow_down}

    def drain(self, for_s: float) -> bool:
        """Leave in good order, and come back as a new instance."""
        if not self.up or self.draining:
            return False
        self.draining = True
        self.desk.draining = True
        if self._beating and self.dice.random() < 0.5:  # what it may say at once, it need not
            self._beat()
        self._asked += 1
        event = DeregisterAsked(self.id, Deregister("shutdown", self.instance), self._reply("deregister"))
        if self.cut_at is None:
            self._network.carry_noisily("deregister", self.dice, self._simulation.to_group, self.dice, event)
        self.later(0.05, self._leave, self.clock.now + _DRAIN_S, for_s)
        return True

    def _leave(self, until: float, for_s: float) -> None:
        if self.desk.runs and self.clock.now < until:
            self.later(0.05, self._leave, until, for_s)
        else:
            self.kill(for_s)

"""Owns simulated callers: what they ask, what goes wrong on the way, and what they get. They decide nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from controller.core.commands import Answer, Refuse
from controller.core.events import CancelAsked, RequestArrived
from controller.core.model import Request
from simulation.dice import Dice
from simulation.network import LEAST_S, MOST_S, Network
from simulation.obligation import BAD
from simulation.plan import Call, Hop
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import RequestId

if TYPE_CHECKING:
    from simulation.world import Simulation


class Exchange:
    """One request, its dice, and what the plan does to its messages."""

    __slots__ = ("_network", "_seen", "call", "calm", "delay_s", "dice", "outcome")

    def __init__(self, call: Call, seed: int, network: Network, *, calm: bool = False) -> None:
        self.call = call
        self.calm = calm
        """Whether it is quickly done, by whoever does it."""
        self.dice = Dice(seed, 5, call.number)
        self.delay_s = self.dice.between(LEAST_S, MOST_S)
        self.outcome = ""
        """``answered``, or the suffix of the error that came; "" while nothing came."""
        self._network = network
        self._seen: Counter[Hop] = Counter()

    def mishap(self, hop: Hop) -> str | None:
        """What the plan does to the next message, or worker, of this hop."""
        if not self.call.mishaps:
            return None
        self._seen[hop] += 1
        nth = self._seen[hop]
        for mishap in self.call.mishaps:
            if mishap.on == hop and mishap.nth == nth:
                self._network.faults[f"{hop} {mishap.kind}"] += 1
                return mishap.kind
        return None

    def carry(self, hop: Hop, act: Callable[..., object], *args: Any) -> None:
        """Carry the next message of this hop."""
        self._network.carry(self.mishap(hop), self.delay_s, self.dice, act, *args)


class Callers:
    """All of them."""

    def __init__(self, simulation: Simulation) -> None:
        self.calls = 0
        self.outcomes: Counter[str] = Counter()
        self._simulation = simulation
        self._exchanges: dict[str, Exchange] = {}
        """By reply subject; one that never gets a reply stays."""

    def ask(self, call: Call) -> Exchange:
        """A caller publishes a request."""
        simulation = self._simulation
        self.calls += 1
        exchange = Exchange(call, simulation.plan.seed, simulation.network)
        exchange.carry("request", self._arrives, exchange)
        if call.cancel_after_s is not None:
            simulation.clock.after(call.cancel_after_s, self._cancel, exchange)
        return exchange

    def _arrives(self, exchange: Exchange) -> None:
        """nats-server hands it to one of the queue group; one that is doubled is a request of its own there."""
        controller = self._simulation.one_of_group(exchange.dice)
        if controller is None:
            self._ends(exchange, "no_responders")
            return
        event = self.request(exchange)
        controller.receive(controller.feed, event)

    def request(self, exchange: Exchange) -> RequestArrived:
        """It as it arrives, with a reply subject of its own."""
        call = exchange.call
        reply = str(call.number)
        if reply in self._exchanges:
            reply += "+"
        self._exchanges[reply] = exchange
        headers = NO_HEADERS
        if call.timeout_ms or call.version or call.constraints or call.key or call.dry_run:
            headers = RequestHeaders(
                timeout_ms=call.timeout_ms,
                version=call.version,
                constraints=call.constraints,
                idempotency_key="k" if call.key else None,
                dry_run=call.dry_run,
            )
        body = BAD if call.bad else b"{}"
        return RequestArrived(Request(call.capability, call.caller, _id(call), reply, headers, body))

    def _cancel(self, exchange: Exchange) -> None:
        simulation, dice = self._simulation, exchange.dice
        call = exchange.call
        simulation.network.faults["request cancelled"] += 1
        last = simulation.one_of_group(dice)
        for controller in simulation.controllers:
            for is_last in (False, True) if controller is last else (False,):
                event = CancelAsked(call.caller, _id(call), f"cancel {call.number}", is_last)
                simulation.network.carry_noisily("cancel", dice, controller.receive, controller.feed, event)

    def exchange(self, reply: str) -> Exchange:
        """Whose reply subject this is."""
        return self._exchanges[reply]

    def forget(self, reply: str) -> None:
        """Its terminal reply was sent: nothing follows."""
        del self._exchanges[reply]

    def got(self, exchange: Exchange, command: Answer | Refuse) -> None:
        """A reply or frame arrives."""
        if isinstance(command, Refuse):
            self._ends(exchange, command.refusal.kind.suffix)
        elif command.frame in ("", "end"):
            self._ends(exchange, "answered")

    def _ends(self, exchange: Exchange, outcome: str) -> None:
        if not exchange.outcome:
            exchange.outcome = outcome
            self.outcomes[outcome] += 1


def _id(call: Call) -> RequestId:
    return RequestId("twin" if call.twin else f"r-{call.number}")

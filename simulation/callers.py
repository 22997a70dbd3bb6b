"""Owns simulated callers: what they ask, and what they get. They decide nothing; ``exchange`` is one of their requests.

A request has a reply subject of its own: its number. Jobs that are delivered, operators and whoever cancels a job have
one too, so that whatever goes wrong on the way is drawn in one place.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from controller.core.commands import Answer, Refuse
from controller.core.events import CancelAsked, RequestArrived
from controller.core.model import Request
from simulation.dice import Dice
from simulation.exchange import Exchange
from simulation.obligation import BAD
from simulation.plan import Call
from subjects.requests import NO_HEADERS, RequestHeaders
from subjects.tokens import CapabilityId, RequestId

if TYPE_CHECKING:
    from simulation.world import Simulation

PAYLOADS = (b"{}", b"[1]", BAD)
"""The usual one, another one, and one that fits no schema."""
_NO_CALL = Call(0.0, 0, CapabilityId(""))


class _Accepted(msgspec.Struct):
    job_id: str = ""


_accepted = msgspec.json.Decoder(_Accepted).decode


class Callers:
    """All of them."""

    def __init__(self, simulation: Simulation) -> None:
        self.calls = 0
        self.outcomes: Counter[str] = Counter()
        self.side: Counter[str] = Counter()
        """What came of what no call of the plan asked for."""
        self._simulation = simulation
        self._exchanges: dict[str, Exchange] = {}
        """By reply subject; one that never gets a reply stays."""
        self._jobs: dict[str, Exchange] = {}
        """Who submitted a job, last."""
        self._accepted: dict[int, str] = {}
        """Jobs by the numbers of the calls that submitted them."""

    def ask(self, call: Call) -> Exchange:
        """A caller publishes a request."""
        simulation = self._simulation
        self.calls += 1
        exchange = Exchange(call, simulation.plan.seed, simulation.network)
        if call.action in ("result", "cancel") and call.about not in self._accepted:
            self._ends(exchange, "no job to ask for")
        elif call.action == "cancel":
            self._cancel(exchange, RequestId(self._accepted[call.about]))
        else:
            exchange.carry("request", self._arrives, exchange)
        if call.cancel_after_s is not None:
            simulation.network.faults["request cancelled"] += 1
            simulation.clock.after(call.cancel_after_s, self._cancel, exchange, _id(call))
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
        reply, request_id = str(call.number), _id(call)
        if exchange.arrived:
            reply += "+"
            request_id = RequestId(f"{request_id}-again")
        exchange.arrived = True
        self._exchanges[reply] = exchange
        headers = NO_HEADERS
        if call.timeout_ms or call.version or call.constraints or call.key or call.dry_run:
            headers = RequestHeaders(
                timeout_ms=call.timeout_ms,
                version=call.version,
                constraints=call.constraints,
                idempotency_key=call.key or None,
                on_duplicate="reject" if call.reject else "attach",
                dry_run=call.dry_run,
            )
        body = PAYLOADS[2 if call.bad else int(call.other)]
        job_id = self._accepted.get(call.about, "")
        return RequestArrived(
            Request(call.capability, call.caller, request_id, reply, headers, body, action=call.action, job_id=job_id)
        )

    def _cancel(self, exchange: Exchange, request_id: RequestId) -> None:
        """Everybody is told; one of them says so when nobody has it."""
        call = exchange.call
        self.cancel(call.caller, request_id, f"cancel {call.number}", exchange.dice)

    def cancel(self, caller: str, request_id: RequestId, reply: str, dice: Dice) -> None:
        """Somebody cancels a request or a job."""
        simulation = self._simulation
        self.aside(reply, "cancel")
        last = simulation.one_of_group(dice)
        for controller in simulation.controllers:
            for is_last in (False, True) if controller is last else (False,):
                event = CancelAsked(caller, request_id, reply, is_last)
                simulation.network.carry_noisily("cancel", dice, controller.receive, controller.feed, event)

    # Others who have a reply subject ------------------------------------------------------

    def aside(self, reply: str, who: str, call: Call = _NO_CALL) -> Exchange:
        """Somebody asks who is no caller of the plan."""
        simulation = self._simulation
        exchange = Exchange(call, simulation.plan.seed, simulation.network, who=who, calm=True)
        self._exchanges[reply] = exchange
        return exchange

    def submitted(self, job_id: str, reply: str) -> None:
        """A job goes to its stream for whoever has this reply subject."""
        exchange = self._exchanges.get(reply)
        if exchange is not None and not exchange.who:
            self._jobs[job_id] = exchange

    def job(self, request: Request, job_id: str, reply: str) -> Request:
        """The request that a delivery stands for."""
        self._exchanges[reply] = self._jobs[job_id]
        return replace(request, reply=reply, action="job", job_id=job_id)

    # What they get ------------------------------------------------------------------------

    def exchange(self, reply: str) -> Exchange:
        """Whose reply subject this is."""
        return self._exchanges[reply]

    def forget(self, reply: str) -> None:
        """Nothing goes there any more. A cancel is answered by whoever had the request."""
        if not reply.startswith("cancel"):
            self._exchanges.pop(reply, None)

    def got(self, exchange: Exchange, command: Answer | Refuse) -> None:
        """A reply or frame arrives."""
        if isinstance(command, Refuse):
            self._ends(exchange, command.refusal.kind.suffix)
        elif command.frame in ("", "end"):
            meta = command.meta
            if meta.job_status:
                self._ends(exchange, f"result {meta.job_status}")
            elif exchange.call.action == "submit" and not exchange.who:
                self._accepted[exchange.call.number] = _accepted(command.body).job_id
                self._ends(exchange, "accepted")
            else:
                self._ends(exchange, "replayed" if meta.replayed else "answered")

    def _ends(self, exchange: Exchange, outcome: str) -> None:
        if not exchange.outcome:
            exchange.outcome = outcome
            if exchange.who:
                self.side[f"{exchange.who} {outcome}"] += 1
            else:
                self.outcomes[outcome] += 1


def _id(call: Call) -> RequestId:
    return RequestId("twin" if call.twin else f"r-{call.number}")

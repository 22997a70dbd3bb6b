"""Owns simulated operators: they settle what is unknown, and have dead jobs tried again or dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from controller.core.events import Event, ResolveAsked, RetryAsked
from controller.core.model import Request
from simulation.dice import Dice
from simulation.jobs import Dead
from subjects.claims import StoredAnswer
from subjects.requests import NO_HEADERS
from subjects.tokens import CapabilityId, RequestId

if TYPE_CHECKING:
    from simulation.world import Simulation

_SETTLED = StoredAnswer("", "", 0, b'"settled"', "application/json")


class Operators:
    """All of them."""

    def __init__(self, simulation: Simulation, dice: Dice) -> None:
        self._simulation = simulation
        self._dice = dice
        self._asked = 0

    def troubles(self) -> dict[str, Callable[[float], bool]]:
        """What they do, by the plan's words."""
        return {
            "settle": lambda for_s: self._resolve(_SETTLED),
            "release": lambda for_s: self._resolve(None),
            "retry": self._retry,
            "drop": self._drop,
        }

    def _resolve(self, answer: StoredAnswer | None) -> bool:
        """Say what became of a request that nobody knows the outcome of; now and then of one that is known."""
        records = self._simulation.bucket.records()
        unknown = [key for key, record in records.items() if record.state == "unknown"]
        if not records:
            return False
        key = self._dice.choice(unknown or list(records))
        request = Request(CapabilityId(""), "op", *self._name(), NO_HEADERS, b"", action="resolve", job_id=key)
        return self._ask(ResolveAsked(request, answer))

    def _retry(self, for_s: float) -> bool:
        dead = self._one_dead()
        if dead is None:
            return False
        request_id, reply = self._name()
        request = replace(dead.request, request_id=request_id, reply=reply, action="retry", job_id=dead.job_id)
        return self._ask(RetryAsked(request, dead.seq))

    def _drop(self, for_s: float) -> bool:
        dead = self._one_dead()
        if dead is not None:
            del self._simulation.jobs.dead[dead.seq]
        return dead is not None

    def _one_dead(self) -> Dead | None:
        dead = list(self._simulation.jobs.dead.values())
        return self._dice.choice(dead) if dead else None

    def _name(self) -> tuple[RequestId, str]:
        self._asked += 1
        reply = f"op {self._asked}"
        self._simulation.callers.aside(reply, "operator")
        return RequestId(f"op-{self._asked}"), reply

    def _ask(self, event: Event) -> bool:
        self._simulation.to_group(self._dice, event)
        return True

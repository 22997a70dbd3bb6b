"""Owns the plan: everything that will happen by itself, written down before anything does.

A plan is data, so a failing one is cut down by leaving things out, kept as JSON, and run again. What follows from it
is drawn from dice that belong to the things planned, by their numbers. ``draw`` makes plans, ``shrink`` cuts them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from subjects.tokens import CapabilityId

Hop = Literal["request", "verdict", "gap", "dispatch", "work", "answer", "reply"]
Whom = Literal["worker", "controller", "registry", "claims", "jobs", "operator"]


class Promise(NamedTuple):
    """What a capability says of itself, the same at every worker, so that laws can be judged from outside."""

    idempotent: bool = False
    streaming: bool = False
    schemas: bool = False
    timeout_s: float | None = None
    max_output_bytes: int | None = None


PROMISES = {
    CapabilityId("run:once"): Promise(max_output_bytes=50),
    CapabilityId("run:pure"): Promise(idempotent=True, schemas=True),
    CapabilityId("run:hasty"): Promise(idempotent=True, timeout_s=0.25),
    CapabilityId("run:stream"): Promise(idempotent=True, streaming=True),
    CapabilityId("run:feed"): Promise(streaming=True),
}

Ask = Literal["request", "submit", "result", "cancel"]

_CARRIED = ("lost", "late", "doubled", "overtaken")
MISHAPS: dict[Hop, tuple[str, ...]] = {
    "request": _CARRIED,
    "verdict": ("late", "denied", "unavailable", "twice"),
    "gap": ("frozen",),
    "dispatch": _CARRIED,
    "work": (
        *("error", "retryable", "retryable", "busy", "draining", "deadline", "never", "slow", "slow"),
        *("garbage", "large", "bad", "frames", "gap", "repeated", "whole", "taken-back", "broken-off"),
    ),
    "answer": _CARRIED,
    "reply": _CARRIED,
}
"""What can go wrong on a request's way, by place; what is listed twice comes twice as often.

The gap is between an acknowledged claim and the dispatch: its controller stands still just there.
"""


class Mishap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something goes wrong with the ``nth`` message that takes this hop, or the ``nth`` worker that does the work."""

    on: Hop
    nth: int
    kind: str


class Call(msgspec.Struct, frozen=True, tag="call", omit_defaults=True):
    """A caller asks. ``at`` is in seconds since the start; ``number`` is the seed of all that is drawn for it."""

    at: float
    number: int
    capability: CapabilityId
    caller: str = "ann"
    timeout_ms: int | None = None
    version: str | None = None
    constraints: str | None = None
    action: Ask = "request"
    about: int = 0
    """The number of the call whose job it asks for, or cancels."""
    key: str = ""
    """Its idempotency key."""
    other: bool = False
    """Whether its payload is another one than that of most."""
    reject: bool = False
    """Whether it does not wait for the first one with its key."""
    dry_run: bool = False
    bad: bool = False
    """Whether its payload does not fit the input schema."""
    twin: bool = False
    """Whether its request id is one that others use too."""
    cancel_after_s: float | None = None
    mishaps: tuple[Mishap, ...] = ()


class Trouble(msgspec.Struct, frozen=True, tag="trouble"):
    """Something happens to a process or a store, for ``for_s`` seconds, 0 being for ever; or somebody acts."""

    at: float
    whom: Whom
    number: int
    kind: str
    for_s: float


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. ``noise``: whether heartbeats, registrations and the like are lost, late and doubled, too."""

    seed: int
    controllers: tuple[int, ...]
    workers: tuple[int, ...]
    noise: bool
    happenings: tuple[Call | Trouble, ...]

    @property
    def calls(self) -> int:
        """How many requests there are."""
        return sum(isinstance(happening, Call) for happening in self.happenings)


def as_json(plan: Plan) -> bytes:
    """A plan as a file that a person can read."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def from_json(text: bytes) -> Plan:
    """A plan from its file.

    Raises:
        msgspec.DecodeError: it is none; the message says where.

    """
    return msgspec.json.decode(text, type=Plan)

"""Owns what the tests of keys start from: one controller with a worker, or two that share a store."""

from __future__ import annotations

from harness import HELLO, Call, House, spec
from stores import Stores

from subjects.claims import claim_key

KEY = claim_key("ann", HELLO, "k")


def house(**fields: object) -> House:
    """One with a worker that takes four at a time and is not safe to ask twice."""
    made = House(timeout_ms=100_000)
    made.register("w-1", spec(max_concurrency=4, **fields))
    made.beating = {"w-1"}
    return made


def pair(**fields: object) -> tuple[House, House]:
    """Two controllers that share a store and a worker."""
    stores = Stores()
    houses = House(timeout_ms=100_000, stores=stores), House(timeout_ms=100_000, stores=stores, name="c-2", seed=2)
    for one in houses:
        one.register("w-1", spec(**{"max_concurrency": 4} | fields))
        one.beating = {"w-1"}
    return houses


def body_of(call: Call) -> bytes:
    """What the caller got, of an answer or a kept one."""
    return call.answer.body

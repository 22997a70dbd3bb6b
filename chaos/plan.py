"""Owns what a run does, all of it drawn from its seed: what is asked when, and what is done to whom when.

Pure. Times are seconds from the start of the load.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Literal, NamedTuple

ONCE, AGAIN, FRAMES = "chaos:once", "chaos:again", "chaos:frames"
IDEMPOTENT = frozenset({AGAIN})
FAILS_WITH = 422
"""The code of a worker that was asked to fail; its message names the execution."""

CONTROLLERS = ("c-1", "c-2")
WORKERS = ("w-1", "w-2", "w-3", "w-4", "w-5")
SERVER = "nats-server"

What = Literal["kill", "restart", "short freeze", "long freeze"]
WHATS: tuple[What, ...] = ("kill", "restart", "short freeze", "long freeze")
# The last part of the time is for what the last troubles leave behind, still under load.
_TROUBLED = 0.85
# A trouble is over, or known to everybody, before the next one comes; sometimes it is not.
_PAUSE_S = 1.6


class Operation(NamedTuple):
    """Something that a caller wants done, however often it has to ask. ``ms`` is how long it takes."""

    id: str
    at_s: float
    kind: Literal["request", "stream", "job"]
    capability: str
    keyed: bool
    ms: int
    fails: bool
    """The worker is to answer with an error, which is an answer like any other."""
    twin: Literal["", "attach", "reject"]
    """Somebody else asks for the same thing, with the same key, at the same time."""
    repeated: bool
    """It is asked for once more when the answer is there."""
    cancelled: bool
    """The caller changes its mind soon after."""

    @property
    def once(self) -> bool:
        """Whether it must not be done twice."""
        return self.capability not in IDEMPOTENT


# Weight, kind, capability, keyed.
_MIX: tuple[tuple[int, Literal["request", "stream", "job"], str, bool], ...] = (
    (15, "request", ONCE, False),
    (10, "request", AGAIN, False),
    (30, "request", ONCE, True),
    (15, "request", AGAIN, True),
    (6, "stream", FRAMES, False),
    (4, "stream", FRAMES, True),
    (12, "job", ONCE, True),
    (6, "job", AGAIN, True),
    (4, "job", ONCE, False),
)


def draw_operations(seed: int, seconds: float, rate: float) -> Iterator[Operation]:
    """What is asked, in order, ``rate`` a second for so many ``seconds``."""
    random = Random(f"operations {seed}")
    weights = [weight for weight, *_ in _MIX]
    for number in count():
        at_s = number / rate
        if at_s >= seconds:
            return
        _, kind, capability, keyed = random.choices(_MIX, weights)[0]
        # Most work is short; some is long enough to be in the middle of when its worker or controller dies.
        ms = random.randint(300, 1500) if random.random() < 0.03 else random.randint(1, 60)
        yield Operation(
            id=f"o{number}",
            at_s=at_s,
            kind=kind,
            capability=capability,
            keyed=keyed,
            ms=ms,
            fails=kind != "stream" and random.random() < 0.05,
            twin=random.choice(("attach", "attach", "reject")) if keyed and random.random() < 0.1 else "",
            repeated=keyed and random.random() < 0.2,
            cancelled=random.random() < 0.02,
        )


class Trouble(NamedTuple):
    """What is done to whom; ``for_s`` is how long a process is away, after a kill, or frozen."""

    at_s: float
    who: str
    what: What
    for_s: float


def draw_troubles(seed: int, seconds: float, lease_s: float) -> list[Trouble]:
    """Troubles in order. However short a run, each kind of process has each kind of trouble; then everyone has."""
    random = Random(f"troubles {seed}")
    order = _order(random)
    until_s = seconds * _TROUBLED
    few = len(WHATS) * 3
    pause_s = min(_PAUSE_S, until_s / few)
    found = []
    at_s = pause_s / 2
    while at_s < until_s:
        who, what = next(order)
        found.append(Trouble(at_s, who, what, _for_s(random, what, lease_s)))
        at_s += pause_s * random.uniform(0.7, 1.3)
    return found


def _order(random: Random) -> Iterator[tuple[str, What]]:
    turns = {kind: _turns(random, names) for kind, names in enumerate((CONTROLLERS, WORKERS, (SERVER,)))}
    first = [(kind, what) for kind in turns for what in WHATS]
    while True:
        random.shuffle(first)
        for kind, what in first:
            yield next(turns[kind]), what
        every = [(name, what) for name in (*CONTROLLERS, *WORKERS) for what in WHATS]
        random.shuffle(every)
        yield from every


def _turns(random: Random, names: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from random.sample(names, len(names))


def _for_s(random: Random, what: What, lease_s: float) -> float:
    match what:
        case "kill":
            return random.uniform(0.1, 1.5)
        case "restart":
            return 0.0
        case "short freeze":
            return lease_s * random.uniform(0.2, 0.8)
        case "long freeze":
            return lease_s * random.uniform(1.3, 2.5)

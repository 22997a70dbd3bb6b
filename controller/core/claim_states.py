"""Owns what the state of a claim may become, as a table. ``claims`` writes nothing that it does not allow.

::

    free ──► waiting ──► dispatching ──► done
      └──────────────────────┘ │ ├─────► unknown ──► done | free   (its first claimant, or an operator)
                               │ └─────► free                      (nothing ran, or running it again is safe)
                               └───────► waiting                   (a job that is tried again later)

    a job also: waiting, dispatching, unknown ──► cancelled | dead;  dead ──► waiting   (an operator has it tried again)

*Dispatching* reads as "may have run": it is stored before anything is sent. A state that stays is a renewed lease.
"""

from __future__ import annotations

from subjects.claims import ClaimState

FREE = None
State = ClaimState | None

NEXT: dict[State, frozenset[State]] = {
    # A late answer to a claim that an operator released is stored too: the next duplicate gets it, and runs nothing.
    FREE: frozenset({"waiting", "dispatching", "done", "dead"}),
    "waiting": frozenset({"waiting", "dispatching", FREE, "cancelled", "dead"}),
    "dispatching": frozenset({"dispatching", "waiting", "done", "unknown", FREE, "cancelled", "dead"}),
    "unknown": frozenset({"done", FREE, "dead", "cancelled"}),
    "dead": frozenset({"waiting"}),
    "done": frozenset(),
    "cancelled": frozenset(),
}

HELD = frozenset({"waiting", "dispatching"})
"""States that have an owner, who renews a lease."""


def may(state: State, following: State) -> bool:
    """Whether ``following`` may be stored over ``state``."""
    return following in NEXT[state]

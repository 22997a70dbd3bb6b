"""Owns what is compared with: a queue group, which hands each request to any of its members, with a line at each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapreplace

from simulation.dice import Dice
from simulation.scenarios.arrivals import Asked
from simulation.scenarios.fleet import Worker


def at_random(seed: int, workers: Sequence[Worker], arrivals: Iterable[Asked]) -> Sequence[Asked]:
    """Have all of these done, each by whoever is drawn; a message takes no time here."""
    dice = Dice(seed, 5)
    free_at = {worker.id: [0.0] * worker.kind.places for worker in workers}
    done = []
    for asked in arrivals:
        worker = dice.choice(workers)
        places = free_at[worker.id]
        ends = max(asked.at, places[0]) + worker.takes_s()
        heapreplace(places, ends)
        asked.took_ms, asked.outcome = (ends - asked.at) * 1000, "answered"
        asked.workers, asked.tokens = (worker.id,), worker.kind.price
        done.append(asked)
    return done

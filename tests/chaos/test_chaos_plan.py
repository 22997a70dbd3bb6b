"""What a chaos run does, before it does it."""

from __future__ import annotations

from itertools import pairwise

from chaos.plan import CONTROLLERS, SERVER, WHATS, WORKERS, draw_operations, draw_troubles

_KIND = {**dict.fromkeys(CONTROLLERS, "controller"), **dict.fromkeys(WORKERS, "worker"), SERVER: "server"}


def test_the_shortest_run_does_everything_to_every_kind_of_process() -> None:
    """Twelve seconds: each kind of process is killed, restarted, and frozen for shorter and longer than a lease."""
    troubles = draw_troubles(seed=3, seconds=12, lease_s=2.0)
    assert {(_KIND[one.who], one.what) for one in troubles} == {
        (kind, what) for kind in set(_KIND.values()) for what in WHATS
    }
    for one in troubles:
        assert one.what != "short freeze" or one.for_s < 2.0
        assert one.what != "long freeze" or one.for_s > 2.0


def test_a_minute_troubles_everybody() -> None:
    """Nobody is spared, and troubles come one after another, while there is still load."""
    troubles = draw_troubles(seed=1, seconds=60, lease_s=2.0)
    assert {one.who for one in troubles} == set(_KIND)
    assert all(a.at_s < b.at_s for a, b in pairwise(troubles))
    assert troubles[-1].at_s < 60


def test_a_seed_draws_the_same_run_each_time() -> None:
    """Same seed, same operations and troubles; another seed, others."""
    first, again, other = (list(draw_operations(seed, 10, 100)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len(first) == 1000
    assert draw_troubles(1, 60, 2.0) == draw_troubles(1, 60, 2.0) != draw_troubles(2, 60, 2.0)
    kinds = {(one.kind, one.once, one.keyed) for one in first}
    assert {("request", True, True), ("request", False, True), ("stream", True, False), ("job", True, True)} <= kinds

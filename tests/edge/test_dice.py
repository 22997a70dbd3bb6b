"""Chance: ids that nobody can guess, of the size that was asked for."""

from __future__ import annotations

import random

from controller.edge.dice import Dice


def test_an_id_has_the_bytes_that_were_asked_for() -> None:
    """Every size, larger than a block too; every bit of it is used, and none of none."""
    dice = Dice()
    for size in (1, 8, 12, 24, 5000):
        drawn = [dice.randbytes(size) for _ in range(200)]
        assert {len(one) for one in drawn} == {size}
        seen = 0
        for one in drawn:
            seen |= int.from_bytes(one, "big")
        assert seen == (1 << 8 * size) - 1
    assert dice.randbytes(0) == b""


def test_ids_do_not_repeat_across_blocks() -> None:
    """A block that is used up is replaced, not read again."""
    dice = Dice()
    assert len({dice.randbytes(12) for _ in range(20_000)}) == 20_000


def test_ids_do_not_follow_from_a_seed() -> None:
    """Who knows the state of Python's generator knows nothing of the ids."""
    random.seed(1)
    first = Dice().randbytes(12)
    random.seed(1)
    assert Dice().randbytes(12) != first


def test_load_is_spread_evenly() -> None:
    """``random()`` is between 0 and 1, and centred."""
    dice = Dice()
    numbers = [dice.random() for _ in range(10_000)]
    assert 0 <= min(numbers) < max(numbers) < 1
    assert 0.45 < sum(numbers) / len(numbers) < 0.55

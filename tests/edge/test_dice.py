"""Chance: ids that nobody can guess, of the size that was asked for."""

from __future__ import annotations

import random

from controller.edge.dice import Dice


def test_an_id_has_the_bits_that_were_asked_for() -> None:
    """Every size within its range, every bit of it is used, and none of none."""
    dice = Dice()
    for k in (1, 7, 8, 12, 62, 64, 96, 128, 192, 1000):
        seen = 0
        for _ in range(200):
            number = dice.getrandbits(k)
            assert 0 <= number < 1 << k
            seen |= number
        assert seen == (1 << k) - 1
    assert dice.getrandbits(0) == 0


def test_ids_do_not_repeat_across_blocks() -> None:
    """A block that is used up is replaced, not read again."""
    dice = Dice()
    assert len({dice.getrandbits(96) for _ in range(20_000)}) == 20_000


def test_ids_do_not_follow_from_a_seed() -> None:
    """Who knows the state of Python's generator knows nothing of the ids."""
    random.seed(1)
    first = Dice().getrandbits(96)
    random.seed(1)
    assert Dice().getrandbits(96) != first


def test_load_is_spread_evenly() -> None:
    """``random()`` is between 0 and 1, and centred."""
    dice = Dice()
    numbers = [dice.random() for _ in range(10_000)]
    assert 0 <= min(numbers) < max(numbers) < 1
    assert 0.45 < sum(numbers) / len(numbers) < 0.55

"""Owns chance: fast numbers that spread load, and ids that nobody can guess. The core gets it as an argument.

A dispatch id is the only secret in a reply subject, so it must not follow from ids seen before, as the output of
``random.Random`` does (624 words of 32 bits give its state away).
"""

from __future__ import annotations

import os
import random
import struct

# One system call for 250 ids; a call for each would cost more than all else in making it.
_WORDS = 512
_unpack = struct.Struct(f"={_WORDS}Q").unpack


class Dice:
    """``random()`` for balancing, ``getrandbits()`` for ids. Not for use in several threads or after a fork."""

    def __init__(self) -> None:
        self.random = random.Random().random
        self._words: list[int] = []

    def getrandbits(self, k: int, /) -> int:
        """``k`` bits from the system; none is given out twice."""
        words = self._words
        while len(words) << 6 < k:
            words += _unpack(os.urandom(8 * _WORDS))
        number, bits = 0, 0
        while bits < k:
            number = number << 64 | words.pop()
            bits += 64
        return number >> bits - k

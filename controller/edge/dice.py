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
        """``k`` bits, up to 128, from the system; none is given out twice."""
        words = self._words
        if len(words) < 2:
            words += _unpack(os.urandom(8 * _WORDS))
        if k <= 64:
            return words.pop() >> 64 - k
        return (words.pop() << 64 | words.pop()) >> 128 - k

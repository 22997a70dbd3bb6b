"""Owns chance: fast numbers that spread load, and ids that nobody can guess. The core gets it as an argument.

A dispatch id is the only secret in a reply subject, so it must not follow from ids seen before, as the output of
``random.Random`` does (624 words of 32 bits give its state away).
"""

from __future__ import annotations

import os
import random

# One system call for some 90 requests; a call for each would cost more than all else in making its ids.
_POOL_BYTES = 4096


class Dice:
    """``random()`` for balancing, ``randbytes()`` for ids. Not for use in several threads or after a fork."""

    def __init__(self) -> None:
        self.random = random.Random().random
        self._pool = b""
        self._at = 0

    def randbytes(self, n: int, /) -> bytes:
        """``n`` bytes from the system; none is given out twice."""
        start = self._at
        self._at = end = start + n
        if end > len(self._pool):
            self._pool = os.urandom(max(n, _POOL_BYTES))
            start, end = 0, n
            self._at = n
        return self._pool[start:end]

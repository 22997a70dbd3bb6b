"""The compliance check of a build: ``crank slo gate``, with its options. ``--help`` lists them."""

from __future__ import annotations

import sys

from crank.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["slo", "gate"]
    main()

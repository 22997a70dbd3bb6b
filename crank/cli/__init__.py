"""The command line."""

from crank.cli.entry import main

__all__ = ["main"]

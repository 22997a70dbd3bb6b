"""Owns who a message comes from. In the open topology nobody proves anything, so everybody is ``anonymous``."""

from __future__ import annotations

from subjects.headers import Block

ANONYMOUS = "anonymous"


def caller_of(block: Block) -> str:
    """The verified identity of whoever sent these headers; never what a header merely claims."""
    del block  # the secured topology reads nats-server's stamp here
    return ANONYMOUS

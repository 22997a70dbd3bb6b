"""A worker as someone writes it with the SDK; ``crank worker bench.sdk:worker`` runs it."""

from __future__ import annotations

import msgspec

from bench.paths import VERB
from crank import Worker

worker = Worker("bench-sdk", max_concurrency=1000)


class Text(msgspec.Struct):
    """The payload, for a handler that wants it read."""

    text: str


@worker.capability(f"{VERB}:bytes")
async def echo_bytes(payload: bytes) -> bytes:
    """Send back what came."""
    return payload


@worker.capability(f"{VERB}:typed")
async def echo_typed(payload: Text) -> Text:
    """Send back what came, read and written."""
    return payload

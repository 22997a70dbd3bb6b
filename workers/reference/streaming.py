"""Streams a text word by word: as plain text, and as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from workers import Worker

worker = Worker(
    "streaming",
    runtime="python3.11",
    env_profile="python-core",
    constraints={"min_memory_mb": 64, "max_memory_mb": 256, "network_bandwidth_mbps": 10},
    slo={"latency_p50_ms": 100, "latency_p95_ms": 250, "latency_p99_ms": 500, "availability_pct": 99.9},
    spiffe_id="spiffe://crank.local/worker/streaming",
    required_capabilities=("convert:text_to_stream",),
    max_concurrency=32,
    idempotent=True,
)

# A word with the white space around it: the pieces joined are the text.
_pieces = re.compile(r"\s*\S+\s*|\s+").finditer


class Text(Struct):
    """A text, and how long to wait before each piece but the first, in milliseconds."""

    text: Annotated[str, Meta(max_length=200_000)]
    delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0


async def _words(text: Text) -> AsyncIterator[str]:
    for number, piece in enumerate(_pieces(text.text)):
        if number and text.delay_ms:
            await asyncio.sleep(text.delay_ms / 1000)
        yield piece[0]


@worker.capability("stream:text_events", version="1.0.0")
async def text_events(text: Text) -> AsyncIterator[str]:
    """The text, a word at a time."""
    async for word in _words(text):
        yield word


@worker.capability("stream:sse_events", version="1.0.0", content_type="text/event-stream")
async def sse_events(text: Text) -> AsyncIterator[str]:
    """The text's words as events with ids from 0, then one event ``done`` that counts them."""
    number = 0
    async for word in _words(text):
        if data := word.strip():
            yield f"id: {number}\ndata: {data}\n\n"
            number += 1
    yield f"event: done\ndata: {number}\n\n"


if __name__ == "__main__":
    worker.run()

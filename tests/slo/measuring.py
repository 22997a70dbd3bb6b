"""Six hundred requests to each capability of the reference workers, for ``pytest --metrics-output`` to measure.

The name is none that pytest collects by itself: this is for the gate, which says whether it was fast enough.
"""

from __future__ import annotations

import asyncio

import pytest

from crank import Client
from tests.cli.conftest import ROOT

# What it takes to tell that 99.5 % succeed is 598.
_REQUESTS = 600
# So few that none waits for a place at a worker.
_AT_ONCE = 4
_TEXT = b'{"text": "as the loom weaves flowers and leaves"}'
_ASKED = {
    "greet:hello_world": b'{"name": "Ada"}',
    "stream:text_events": _TEXT,
    "stream:sse_events": _TEXT,
    "parse:email_message": (ROOT / "examples" / "mail.eml").read_bytes(),
}


@pytest.mark.parametrize("capability", _ASKED)
async def test_it_answers(installation: dict[str, str], capability: str) -> None:
    """Every time."""
    content_type = "message/rfc822" if capability == "parse:email_message" else "application/json"
    async with await Client.connect(installation["CRANK_NATS_URL"]) as client:

        async def ask() -> None:
            for _ in range(_REQUESTS // _AT_ONCE):
                await client.request(capability, _ASKED[capability], content_type=content_type)

        await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))

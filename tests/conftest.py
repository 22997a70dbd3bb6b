"""A real nats-server on a free port with a store of its own, for every test that asks for one.

Tests that need more than Python call ``need``: where the tool is missing they are skipped, and where everything has to
run (``CRANK_TEST_EVERYTHING=1``, as in CI) they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from crank.natsd import NatsServer


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running nats-server with JetStream; its port stays the same when a test stops and starts it again."""
    server = NatsServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


def missing(what: str) -> NoReturn:
    """End a test for want of something: skipped, or failed where everything has to run. ``what`` says how to get it."""
    if os.environ.get("CRANK_TEST_EVERYTHING") == "1":
        pytest.fail(what)
    pytest.skip(what)


def need(tool: str, install: str) -> str:
    """The path of ``tool``, a command on the PATH or a path of its own; ``install`` says how to get it."""
    found = shutil.which(tool)
    if found is None:
        missing(f"{tool} is not here; {install}")
    return found

"""Where the foreign tools are, and how to run one beside controllers in this process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import missing, need
from tests.edge.conftest import caller, controller, start_controller, start_worker  # noqa: F401  # as fixtures here

ROOT = Path(__file__).resolve().parents[2]
JAVASCRIPT = ROOT / "examples" / "javascript"
# The tool's own settings and contexts, and variables of ours, must not come from whoever runs the tests.
_PLAIN = {key: value for key, value in os.environ.items() if not key.startswith(("CRANK_", "NATS_"))}


def plain_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of somebody who has just arrived."""
    return _PLAIN | {"HOME": str(home), "XDG_CONFIG_HOME": str(home)} | more


@pytest.fixture
def node() -> str:
    """Node, with the official NATS client beside the JavaScript example."""
    found = need("node", "install Node 18 or newer, then run: make tools")
    if not (JAVASCRIPT / "node_modules" / "@nats-io" / "services").is_dir():
        missing("the NATS client for JavaScript is not here; run: make tools")
    return found


@pytest.fixture
def nats_command() -> str:
    """The ``nats`` command."""
    own = ROOT / ".tools" / "bin" / "nats"
    return need(str(own) if own.exists() else "nats", "install Go 1.26 or newer, then run: make tools")


async def run(*command: str, cwd: Path, env: dict[str, str], stdin: str = "") -> str:
    """What ``command`` printed; it must end well, and soon."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return out.decode()

"""NATS's own tools find a controller, describe it, count it and call it, as they do any service."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from crank.natsd import NatsServer
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller
from tests.interop.conftest import JAVASCRIPT, plain_environment, run

HERE = Path(__file__).parent
SUBJECT = "crank.request.test.echo"
Nats = Callable[..., Awaitable[str]]


@pytest.fixture
async def counted(start_controller: StartController, start_worker: StartWorker, caller: Caller) -> None:
    """Two controllers, one of another installation; one has answered three requests and refused a fourth."""
    await start_controller(controller_id="c-1")
    await start_controller(controller_id="c-1", prefix="other")
    await start_worker()
    for _ in range(3):
        assert (await caller.ask("test:echo"))[0] == 0
    assert (await caller.ask("test:echo", Crank_Version="^9"))[0] == 412


@pytest.fixture
def nats(nats_command: str, nats_server: NatsServer, tmp_path: Path) -> Nats:
    """The ``nats`` command on this server."""

    async def ask(*arguments: str) -> str:
        command = (nats_command, "--server", nats_server.url, *arguments)
        return await run(*command, cwd=tmp_path, env=plain_environment(tmp_path))

    return ask


def _of(prefix: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [answer for answer in answers if answer["metadata"]["prefix"] == prefix]
    return found


@pytest.mark.usefixtures("counted")
async def test_the_javascript_services_client_lists_and_counts(
    node: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    """The official client: both instances by ping and by name, the endpoint with its subject, the requests counted."""
    script = (HERE / "services.mjs").read_text()
    env = plain_environment(tmp_path, NATS_URL=nats_server.url)
    # From the folder that has the client, since that is where modules of a script without a file are looked for.
    seen = json.loads(await run(node, "--input-type=module", "-", cwd=JAVASCRIPT, env=env, stdin=script))
    ids = {answer["id"] for answer in seen["ping"]}
    assert len(ids) == 2
    assert {answer["id"] for answer in seen["info"]} == {answer["id"] for answer in seen["stats"]} == ids
    assert {answer["name"] for answer in seen["ping"]} == {"crank-controller"}
    (endpoint,) = _of("crank", seen["info"])["endpoints"]
    assert (endpoint["subject"], endpoint["queue_group"]) == (SUBJECT, "controllers")
    assert endpoint["metadata"]["versions"] == "1.0.0"
    (counts,) = _of("crank", seen["stats"])["endpoints"]
    assert (counts["subject"], counts["num_requests"], counts["num_errors"]) == (SUBJECT, 4, 1)
    assert counts["last_error"].startswith("412:")
    assert _of("other", seen["stats"])["endpoints"] == []


@pytest.mark.usefixtures("counted")
async def test_the_nats_command_lists_describes_and_counts(nats: Nats) -> None:
    """``nats micro ls``, ``info`` and ``stats``: its own validation passes, and its tables have us."""
    table = await nats("micro", "ls")
    listed = json.loads(await nats("micro", "ls", "--json"))
    for prefix in ("crank", "other"):
        one = _of(prefix, listed)
        assert one["id"] in table
        assert one["description"] in table
    me = _of("crank", listed)["id"]
    told = await nats("micro", "info", "crank-controller", me)
    for words in (f"crank-controller ({me})", SUBJECT, "versions: 1.0.0", "Errors: 1", "Last Error: 412:"):
        assert words in told
    (row,) = [line.split() for line in (await nats("micro", "stats", "crank-controller")).splitlines() if me in line]
    assert [cell for cell in row if cell not in "│|"][:5] == [me, "test-echo", "4", "controllers", "1"]


async def test_the_nats_command_calls_a_capability_as_an_endpoint(
    nats: Nats, start_controller: StartController, start_worker: StartWorker
) -> None:
    """``nats micro request`` takes the subject from what the controller says of itself."""
    await start_controller()
    await start_worker()
    answer = await nats("micro", "request", "--raw", "crank-controller", "test-echo", '{"hello": "you"}')
    assert json.loads(answer) == {"hello": "you"}

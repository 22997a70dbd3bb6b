"""Clocks, versions, controllers and workers."""

from __future__ import annotations

import time

import pytest

from bus import Bus
from crank.natsd import NatsServer
from tests.doctoring.looking import fault, looked, of
from tests.edge.conftest import StartController, StartWorker


@pytest.mark.parametrize(("ahead_s", "told"), [(5.0, "5.0 s ahead of"), (-90.0, "90.0 s behind")])
async def test_clocks_that_disagree_are_warned_of(nats_server: NatsServer, ahead_s: float, told: str) -> None:
    """By which way, and how far."""
    found = await fault(nats_server.url, "clock", now=lambda: time.time() + ahead_s)
    assert found.result == "warning"
    assert told in found.found


async def test_no_controller_is_a_problem_and_another_prefix_is_proposed(
    nats_server: NatsServer, start_controller: StartController
) -> None:
    """The one that is there listens elsewhere."""
    found = await fault(nats_server.url, "controllers")
    assert found.result == "problem"
    assert "crank controller" in found.mend
    await start_controller(prefix="ours")
    assert "--prefix ours" in (await fault(nats_server.url, "controllers")).mend


async def test_controllers_of_one_name_and_of_another_version_are_told(
    nats_server: NatsServer, start_controller: StartController
) -> None:
    """Each of both."""
    await start_controller(controller_id="c-1")
    assert "9.9.9" in (await fault(nats_server.url, "controllers", version="9.9.9")).found
    await start_controller(controller_id="c-1")
    found = await fault(nats_server.url, "controllers")
    assert (found.result, found.found) == ("problem", "more than one controller is called c-1")


async def test_what_no_controller_says_is_passed_over(
    nats_server: NatsServer, start_controller: StartController
) -> None:
    """Anybody can answer where controllers do."""
    bus = await Bus.connect(nats_server.url, name="liar")
    long = b'{"id":"x","version":"9.9.9","metadata":{"prefix":"crank","controller":"' + b"x" * 65 + b'"}}'

    def lie(subject: str, reply: str, headers: bytes | None, body: bytes) -> None:
        for answer in (long, b"\xff", b"[" * 9000, b"{}") if reply else ():
            bus.publish(reply, answer)

    await bus.subscribe("$SRV.PING.crank-controller", lie)
    await start_controller(controller_id="c-1")
    (found,) = of(await looked(nats_server.url), "controllers")
    assert found.found.startswith("1 under the prefix crank: c-1, version ")
    await bus.close()


async def test_a_controller_that_is_stopped_is_told_from_none(
    nats_server: NatsServer, start_controller: StartController
) -> None:
    """It listens and does not answer."""
    bus = await Bus.connect(nats_server.url, name="frozen")
    await bus.subscribe("crank.admin.>", lambda *_: None, "controllers")
    await bus.flush()
    found = await fault(nats_server.url, "controllers")
    assert "does not answer" in found.found
    await bus.close()


async def test_a_worker_that_nobody_has_heard_of_lately_is_warned_of(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker
) -> None:
    """As after a restart of the controllers, while it still counts."""
    first = await start_controller(heartbeat_interval_s=20)
    await start_worker("w-1", heartbeat_s=0)
    assert (await looked(nats_server.url)).findings[-1].result == "ok"
    await start_controller(heartbeat_interval_s=20)
    await first.stop()
    found = await fault(nats_server.url, "workers")
    assert (found.result, found.found.partition(":")[0]) == ("warning", "w-1")


async def test_a_capability_that_nobody_offers_any_more_is_warned_of(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker
) -> None:
    """With no worker at all, and with one for something else."""
    await start_controller()
    assert "there are none" in (await fault(nats_server.url, "workers")).found
    worker = await start_worker("w-1")
    await start_worker("w-2", capabilities=[{"verb": "other", "name": "thing", "version": "1.0.0"}])
    await worker.stop_heartbeat()
    assert await worker.bus.request("crank.deregister.w-1", b"{}")
    found = await fault(nats_server.url, "workers")
    assert (found.result, found.found) == ("warning", "nobody healthy offers test:echo")

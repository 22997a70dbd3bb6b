"""Objectives on a real nats-server: the month's budget outlives every controller, and all controllers see one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bus import Bus, Streams
from controller.app import Controller
from controller.core import counting
from controller.core.commands import WriteCounts
from controller.edge import slo_counts
from crank.natsd import NatsServer
from subjects.headers import build_block
from subjects.slo_counts import CountsMessage, Period, Totals
from subjects.tokens import CapabilityId
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Answer, Caller

FAILS = build_block([("Nats-Service-Error-Code", "500"), ("Nats-Service-Error", "no luck")])
SLO = """
capability: {{verb: test, name: echo}}
slo:
  latency: {{p99_ms: 60000}}
  availability: {{target: 0.9}}
  error_budget: {{alerts: [{{threshold: 0.5, channel: {channel}}}]}}
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens every five seconds happens several times a second."""
    monkeypatch.setattr(counting, "EVERY_S", 0.2)
    monkeypatch.setattr(slo_counts, "_RETRY_S", 0.1)


@pytest.fixture
def slos(tmp_path: Path) -> Path:
    """A folder with one objective."""
    folder = tmp_path / "slos"
    folder.mkdir()
    (folder / "test_echo.yaml").write_text(SLO.format(channel="log"))
    return folder


def behave(subject: str, headers: object, body: bytes) -> list[Answer]:
    """Do as the request says."""
    return [(FAILS, b"")] if body == b'"bad"' else [(None, body)]


async def ask(caller: Caller, good: int, bad: int) -> None:
    """So many of each."""
    for body, count in ((b'"good"', good), (b'"bad"', bad)):
        for _ in range(count):
            await caller.ask("test:echo", body)


async def row(controller: Controller) -> dict[str, Any]:
    """What this very controller tells an operator."""
    assert controller._parts is not None
    shown = controller._parts.router.counting.shown(counting.Query(), 100_000)
    return dict(shown["slo"][0])


async def requests_at(controller: Controller, count: int) -> dict[str, Any]:
    """The row, as soon as it tells of so many requests."""
    async with asyncio.timeout(10):
        while (found := await row(controller))["events"]["requests"] != count:
            await asyncio.sleep(0.02)
    return found


async def vanish(controller: Controller) -> None:
    """Go as a kill goes: without a word, and without writing anything more."""
    assert controller._parts is not None
    assert controller._bus is not None
    await controller._bus.close()
    assert controller._parts.counts._task is not None
    controller._parts.counts._task.cancel()
    controller._parts.loop.stop()
    await controller._parts.rules.stop()
    assert controller._http is not None
    await controller._http.stop()
    controller._bus = None  # the end of the test does not stop it again


async def soon_is(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_every_controller_is_killed_and_the_months_budget_is_what_it_was(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path
) -> None:
    """A controller that knows nothing reads in the stream what is left, how it burns, and the last hour's latencies."""
    first = [await start_controller(controller_id=name, slos=slos) for name in ("c-1", "c-2")]
    await start_worker(behave=behave)
    await ask(caller, 95, 5)
    for controller in first:
        await requests_at(controller, 100)
    await soon_is(lambda: _agree(*first))
    before = await row(first[0])
    assert before["budget_remaining_pct"] == 50.0
    for controller in first:
        await vanish(controller)
    third = await start_controller(controller_id="c-3", slos=slos)
    await requests_at(third, 100)
    await soon_is(lambda: _is(third, before))


async def test_two_controllers_agree(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path
) -> None:
    """What each counts is one budget to both, and is counted once, however often it is told."""
    one, two = [await start_controller(controller_id=name, slos=slos) for name in ("c-1", "c-2")]
    await start_worker(behave=behave)
    for part in range(1, 4):
        await ask(caller, 18, 2)
        await requests_at(one, 20 * part)
        await requests_at(two, 20 * part)
        await soon_is(lambda: _agree(one, two))
    assert all(await asyncio.gather(*(_counted(each) for each in (one, two)))), "both had requests"
    assert one._parts is not None
    assert one._parts.router.world.controllers == 2
    await two.stop()
    await soon_is(lambda: _alone(one))
    assert (await requests_at(one, 60))["events"]["bad"] == 6


async def _is(controller: Controller, told: dict[str, Any]) -> bool:
    return await row(controller) == told


async def _agree(one: Controller, two: Controller) -> bool:
    return await row(one) == await row(two)


async def _counted(controller: Controller) -> bool:
    assert controller._parts is not None
    (measured,) = controller._parts.router.world.compliance.measured.values()
    return measured.day[1].requests > 0


async def _alone(controller: Controller) -> bool:
    assert controller._parts is not None
    return controller._parts.router.world.controllers == 1


async def test_a_stop_loses_nothing_and_says_goodbye(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The last counts are written although their time has not come."""
    with monkeypatch.context() as patch:
        patch.setattr(counting, "EVERY_S", 60.0)
        first = await start_controller(controller_id="c-1", slos=slos)
        await start_worker(behave=behave)
        await ask(caller, 3, 1)
        await first.stop()
    second = await start_controller(controller_id="c-2", slos=slos)
    await requests_at(second, 4)
    assert await _alone(second)


async def test_without_a_store_counts_go_on_and_are_written_when_it_is_back(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path, nats_server: NatsServer,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The stream is deleted: requests are served and counted, the operator is told once, and nothing is lost."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("bus.tail._CHECK_EVERY_S", 1.0)
    first = await start_controller(controller_id="c-1", slos=slos)
    await start_worker(behave=behave)
    await ask(caller, 5, 1)
    await requests_at(first, 6)
    bus = await Bus.connect(nats_server.url, name="operator")
    await soon_is(lambda: _stored(bus))
    await bus.request("$JS.API.STREAM.DELETE.CRANK_SLO", b"")
    await ask(caller, 5, 1)
    await soon_is(lambda: _stored(bus))
    second = await start_controller(controller_id="c-2", slos=slos)
    await requests_at(second, 12)
    assert len([each for each in caplog.messages if "CRANK_SLO cannot be used" in each]) == 1
    assert [each for each in caplog.messages if "CRANK_SLO takes counts" in each]
    await bus.close()


async def _stored(bus: Bus) -> bool:
    state = await Streams(bus).state("CRANK_SLO")
    return state is not None and state.last_seq > 2


async def test_a_stream_that_is_otherwise_never_keeps_a_controller_from_serving(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path, nats_server: NatsServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Where messages of the stream may not have a time to live, nothing is stored, and everything else works."""
    bus = await Bus.connect(nats_server.url, name="operator")
    config = b'{"name": "CRANK_SLO", "subjects": ["crank.slo.*.*.*"], "max_msgs_per_subject": 1}'
    await bus.request("$JS.API.STREAM.CREATE.CRANK_SLO", config)
    controller = await start_controller(controller_id="c-1", slos=slos)
    await start_worker(behave=behave)
    await ask(caller, 2, 0)
    await requests_at(controller, 2)
    assert [each for each in caplog.messages if "CRANK_SLO cannot be used" in each]
    await bus.close()


async def test_counts_that_are_too_large_to_be_stored_keep_no_others_waiting(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """What the stream, or the server, will never take is dropped, and the operator is told once; the rest is stored."""
    config = b'{"name": "CRANK_SLO", "subjects": ["crank.slo.*.*.*"], "max_msgs_per_subject": 1, "allow_msg_ttl": true'
    await caller.bus.request("$JS.API.STREAM.CREATE.CRANK_SLO", config + b', "max_msg_size": 5000}')
    first = await start_controller(controller_id="c-1", slos=slos)
    assert first._parts is not None
    for minute, size in ((1, 500), (2, 100_000)):
        many = {CapabilityId(f"x:number-{number}"): Totals(1, 0, 1) for number in range(size)}
        first._parts.counts.handlers[WriteCounts](WriteCounts(Period("c-1", "b", minute), CountsMessage(0.0, many)))
    await start_worker(behave=behave)
    await ask(caller, 5, 1)
    await requests_at(first, 6)
    second = await start_controller(controller_id="c-2", slos=slos)
    await requests_at(second, 6)
    assert len([each for each in caplog.messages if "too large for CRANK_SLO" in each]) == 1
    assert not [each for each in caplog.messages if "CRANK_SLO cannot be used" in each]


async def test_an_operator_asks_how_objectives_are_met(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path
) -> None:
    """The answer holds what is asked, what was measured and what is left; before anything was measured, nothing."""
    await start_controller(controller_id="c-1", slos=slos)
    code, body = await caller.tell("crank.admin.slo")
    assert code == 0
    (empty,) = body["slo"]
    assert (empty["capability"], empty["phase"], empty["standing"]) == ("test:echo", "log", "unmeasured")
    for name in ("p50_ms", "p95_ms", "p99_ms", "availability", "budget_remaining_pct"):
        assert empty[name] is None
    assert set(empty["burn"].values()) == {None}
    await start_worker(behave=behave)
    await ask(caller, 9, 1)
    code, body = await caller.tell("crank.admin.slo", {"verb": "test"})
    (full,) = body["slo"]
    assert full["events"] == {"requests": 10, "bad": 1, "served": 9, "slow": 0, "would": 0}
    assert full["availability"] == 0.9
    assert full["standing"] == "ok"
    assert full["burn"]["5m"] == 1.0
    assert 0 < full["p50_ms"] <= full["p99_ms"] < 60_000
    assert full["targets"]["p99_ms"] == 60_000
    (slos / "test_broken.yaml").write_text("capability: 3")
    async with asyncio.timeout(10):
        while not body["mistakes"]:
            code, body = await caller.tell("crank.admin.slo")
    assert "test_broken.yaml" in body["mistakes"][0]
    assert len(body["slo"]) == 1


async def test_what_others_write_there_is_read_with_care(
    start_controller: StartController, start_worker: StartWorker, caller: Caller, slos: Path
) -> None:
    """Nonsense on its subjects changes nothing."""
    controller = await start_controller(controller_id="c-1", slos=slos)
    await start_worker(behave=behave)
    await ask(caller, 3, 0)
    minute = int(time.time() / 60)
    for body in (
        b"",
        b"[]",
        b"{" * 5000,
        b'{"at":1,"counts":{"test:echo":{"requests":-3}}}',
        b'{"at":1,"counts":{"test:echo":{"requests":1,"bad":2}}}',
        b'{"at":1,"counts":{"../x":{}}}',
    ):
        await caller.bus.request(f"crank.slo.c-9.b.{minute}", body)
    for token in ("x", "1x", "d", "9999999999", "-1"):
        await caller.bus.request(f"crank.slo.c-9.b.{token}", b'{"at":1,"counts":{"test:echo":{"requests":1}}}')
    await asyncio.sleep(0.3)
    await requests_at(controller, 3)

"""Objectives: broken files, and budgets that are spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.core import counting
from crank.natsd import NatsServer
from tests.doctoring.looking import fault, looked, of
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller
from tests.edge.test_slo_counts import SLO, ask, behave


async def test_without_objectives_nothing_is_said_of_them(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker
) -> None:
    """Nobody has to have any."""
    await start_controller()
    await start_worker()
    assert of(await looked(nats_server.url), "objectives") == []


async def test_a_broken_file_is_a_problem(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker, tmp_path: Path
) -> None:
    """With its place, and the controller that reads it; whole again, all is well."""
    file = tmp_path / "test_echo.yaml"
    file.write_text(SLO.format(channel="log").replace("target:", "tagret:"))
    await start_controller(controller_id="c-1", slos=tmp_path)
    await start_worker()
    found = await fault(nats_server.url, "objectives")
    assert (found.result, "controller c-1" in found.found, f"{file}:" in found.found) == ("problem", True, True)
    file.write_text(SLO.format(channel="log"))
    for _ in range(50):
        (found,) = of(await looked(nats_server.url), "objectives")
        if found.result == "ok":
            break
    assert found.found.startswith("1 in force")


async def test_a_budget_that_is_spent_is_warned_of(
    nats_server: NatsServer, start_controller: StartController, start_worker: StartWorker, caller: Caller,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """By capability, and with the command that shows more."""
    monkeypatch.setattr(counting, "EVERY_S", 0.2)
    (tmp_path / "test_echo.yaml").write_text(SLO.format(channel="log"))
    await start_controller(slos=tmp_path)
    await start_worker(behave=behave)
    await ask(caller, 10, 20)
    for _ in range(50):
        (found,) = of(await looked(nats_server.url), "objectives")
        if found.result != "ok":
            break
    assert (found.result, found.found) == ("warning", "test:echo: this month's error budget is spent")
    assert found.mend.endswith("crank slo status test:echo")

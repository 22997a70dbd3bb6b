"""All controllers are killed at once: their processes are gone, and the month's error budget is what it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.edge.conftest import StartWorker
from tests.edge.peers import Caller
from tests.edge.test_slo_counts import SLO, ask, behave
from tests.recovery.conftest import StartProcess


async def _told(caller: Caller, requests: int, times: int) -> dict[str, Any]:
    """What controllers tell, once so many answers in a row, of whichever, know of so many requests."""
    in_a_row = 0
    async with asyncio.timeout(30):
        while True:
            code, body = await caller.tell("crank.admin.slo")
            assert code == 0
            (row,) = body["slo"]
            in_a_row = in_a_row + 1 if row["events"]["requests"] == requests else 0
            if in_a_row == times:
                return dict(row)
            await asyncio.sleep(0.05)


async def test_kill_every_controller_and_the_months_budget_is_what_it_was(
    start_process: StartProcess, start_worker: StartWorker, caller: Caller, tmp_path: Path
) -> None:
    """What one counted the other knows within seconds; and a third, that is started when both are killed, knows all."""
    slos = tmp_path / "slos"
    slos.mkdir()
    (slos / "test_echo.yaml").write_text(SLO.format(channel="log"))
    processes = [await start_process(name, slos=str(slos)) for name in ("c-1", "c-2")]
    await start_worker(behave=behave)
    await ask(caller, 57, 3)
    before = await _told(caller, 60, times=20)
    assert before["budget_remaining_pct"] == 50.0
    for process in processes:
        await process.kill()
    await start_process("c-3", slos=str(slos))
    after = await _told(caller, 60, times=1)
    for name in ("events", "availability", "budget_remaining_pct", "left_pct", "p50_ms", "p99_ms"):
        assert after[name] == before[name], name

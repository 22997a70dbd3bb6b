"""``crank slo status``: what an operator sees of budgets, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crank.natsd import NatsServer
from subjects.replies import JSON_BLOCK
from tests.cli.conftest import Crank
from tests.cli.peer import Asked, Peer, Reply
from tests.cli.terminal import on_terminal

_NONE = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "availability", "budget_remaining_pct"))
UNMEASURED: dict[str, Any] = {
    "capability": "a:quiet", "phase": "log", "standing": "unmeasured", "burn": {"5m": None, "1h": None},
    "targets": {"p99_ms": 200.0, "budget": 0.005}, "events": {"requests": 0},
} | _NONE  # fmt: skip
BURNING: dict[str, Any] = {
    "capability": "b:busy", "phase": "enforce", "standing": "page", "p50_ms": 12.34, "p95_ms": 80.0, "p99_ms": 412.0,
    "availability": 0.999999, "budget_remaining_pct": 62.5, "burn": {"5m": 20.0, "1h": 15.5, "6h": 3.0, "3d": 0.4},
    "targets": {"p50_ms": 50.0, "p95_ms": 100.0, "p99_ms": 200.0, "budget": 0.005}, "events": {"requests": 1234567},
    "left_pct": {"availability": 99.0, "latency": 62.5}, "judged": True, "reject_on_violation": True,
}  # fmt: skip
SPENT = BURNING | {
    "capability": "c:gone", "standing": "exhausted", "budget_remaining_pct": -240.0, "availability": 1.0,
    "left_pct": {"availability": -240.0, "latency": 10.0},
}  # fmt: skip
_colour = re.compile(r"\x1b\[[0-9;]*m")


class Answer:
    """What the peer answers."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [UNMEASURED, BURNING, SPENT]
        self.mistakes: list[str] = []


@pytest.fixture
async def answer(nats_server: NatsServer) -> AsyncIterator[Answer]:
    """A peer answers with this."""
    given = Answer()

    def script(asked: Asked) -> Iterator[Reply]:
        assert asked.subject == "crank.admin.slo"
        question = msgspec.json.decode(asked.body)
        rows = [
            row
            for row in given.rows
            if "verb" not in question or row["capability"] == f"{question['verb']}:{question['name']}"
        ]
        about = {"mistakes": given.mistakes, "controller": "c-1"}
        yield JSON_BLOCK, msgspec.json.encode({"slo": rows, "next": None, **about})

    peer = await Peer.start(nats_server.url, script)
    yield given
    await peer.stop()


async def test_a_terminal_shows_a_bar_for_each_budget(answer: Answer, nats_server: NatsServer, tmp_path: Path) -> None:
    """80 columns hold it; where nothing is measured it says so, and what failed never reads as 100 %."""
    code, shown = await on_terminal(tmp_path, "slo", "status", env={"CRANK_NATS_URL": nats_server.url})
    assert code == 0
    lines = [line.rstrip() for line in _colour.sub("", shown).splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "a:quiet  no data  (phase log)"
    at = lines.index("b:busy  page  (phase enforce)")
    assert lines[at + 1] == "  budget   " + "█" * 19 + "░" * 11 + "  62.5 % left (latency)"
    assert lines[at + 2] == "  good     99.99+ % of 1,234,567 requests, 99.5 % asked for"
    assert lines[at + 3] == "  latency  p50 12.3 of 50, p95 80.0 of 100, p99 412 of 200 ms"
    assert lines[at + 4] == "  burns    20.0× in 5m, 15.5× in 1h, 3.0× in 6h, 0.4× in 3d"
    assert lines[0] == "c:gone  exhausted  (phase enforce)", "the worst first"
    assert lines[1] == "  budget   " + "░" * 30 + "  spent 3.4 times (availability)"
    assert lines[2] == "  good     100.00 % of 1,234,567 requests, 99.5 % asked for"


async def test_what_enforcement_would_refuse_is_told_while_it_refuses_nobody(
    answer: Answer, nats_server: NatsServer, tmp_path: Path
) -> None:
    """In the phase log, in the grace period and without reject_on_violation; few requests are not judged."""
    some = BURNING | {"events": {"requests": 12, "would": 3}, "judged": False}
    answer.rows = [
        some | {"capability": "a:log", "phase": "log"},
        some | {"capability": "a:grace", "enforced_from_s": 4e9},
        some | {"capability": "a:lenient", "reject_on_violation": False},
        some | {"capability": "a:strict"},
    ]
    _, shown = await on_terminal(tmp_path, "slo", "status", env={"CRANK_NATS_URL": nats_server.url})
    parts = _colour.sub("", shown).replace("\r", "").split("\n\n")
    assert ["3 would be refused" in part for part in parts] == [True, True, True, False]
    assert all("few requests: not judged yet" in part for part in parts)


async def test_those_that_are_named_are_shown_and_no_other(
    answer: Answer, nats_server: NatsServer, crank: Crank
) -> None:
    """One that nothing is asked of is told of, and fails."""
    env = {"CRANK_NATS_URL": nats_server.url}
    done = await asyncio.to_thread(crank, "slo", "status", "b:busy", "c:gone", env=env)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["c:gone", "b:busy"]
    assert (done.returncode, done.stderr) == (0, "")
    done = await asyncio.to_thread(crank, "slo", "status", "b:busy", "x:y", env=env)
    assert "b:busy" in done.stdout
    assert (done.returncode, "No objective is in force for x:y." in done.stderr) == (1, True)


async def test_a_pipe_gets_a_line_for_each(answer: Answer, nats_server: NatsServer, crank: Crank) -> None:
    """For grep and awk: a dash where nothing is known. Mistakes in files are told beside it."""
    answer.mistakes = ["slos/a_b.yaml:3: slo.latency.p99_ms must be a number"]
    done = await asyncio.to_thread(crank, "slo", "status", env={"CRANK_NATS_URL": nats_server.url})
    lines = [line.split() for line in done.stdout.splitlines()]
    assert (done.returncode, lines[0][:4]) == (0, ["capability", "phase", "standing", "left_pct"])
    assert lines[3] == ["a:quiet", "log", "unmeasured", "-", "-", "0", "-", "-", "-", "-"]
    assert lines[2][:5] == ["b:busy", "enforce", "page", "62.5", "99.9999"]
    assert done.stderr.startswith(answer.mistakes[0] + "\nSo says controller c-1. What a broken file said before stays")
    done = await asyncio.to_thread(crank, "slo", "status", "--json", env={"CRANK_NATS_URL": nats_server.url})
    assert json.loads(done.stdout) == {"slo": answer.rows, "mistakes": answer.mistakes, "controller": "c-1"}


async def test_nothing_asked_for_says_what_to_do(answer: Answer, nats_server: NatsServer, crank: Crank) -> None:
    """No objectives is no error, and no empty table."""
    answer.rows = []
    done = await asyncio.to_thread(crank, "slo", "status", env={"CRANK_NATS_URL": nats_server.url})
    assert (done.returncode, done.stdout) == (0, "")
    assert "crank slo check" in done.stderr


async def test_what_a_controller_says_cannot_move_a_cursor(
    answer: Answer, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Nonsense in every field is shown as such, or not at all."""
    answer.rows = [dict.fromkeys(BURNING, "\x1b[2J") | {"events": [1], "burn": 3}]
    code, shown = await on_terminal(tmp_path, "slo", "status", env={"CRANK_NATS_URL": nats_server.url})
    assert code == 0
    assert "\x1b[2J" not in shown

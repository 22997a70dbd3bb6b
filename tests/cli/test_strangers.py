"""Answers that no controller gives: whatever comes, a command ends with a line and a code."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from crank.cli.entry import crank as command
from crank.natsd import NatsServer
from subjects.replies import JSON_BLOCK
from tests.cli.peer import Peer, Reply

JOB = "t5khpp77mpkbukrzhtzf2jw2ehgayzu2tpm5apu4de24u5krggwa"
COMMANDS = [
    ["jobs"], ["dead", "list"], ["dead", "show", JOB], ["dead", "retry", JOB], ["dead", "drop", JOB, "--yes"],
    ["resolve", JOB, "--release", "--yes"], ["recovery"], ["submit", "a:b", "1"], ["result", JOB], ["cancel", JOB],
]  # fmt: skip
_LISTS = ("jobs", "dead", "resolved", "recovery", "unfinished", "counts")
_ODD: list[Any] = [
    7, "x", None, [7], [None], [[]], {}, [{}], [{"job_id": 7, "age_s": "x", "attempts": {}, "status": None, "body": 7}],
    [{"job_id": "\x1b[2J" * 1000, "age_s": 1e308, "attempts": -1, "body_base64": "?", "detail": ["x" * 9000] * 9}],
    [{"age_s": True, "body_base64": 7, "messages": 10**30, "warning": {"a": 1}, "state": []}],
]  # fmt: skip
HOSTILE: list[Reply] = [
    (None, b""), (JSON_BLOCK, b"{"), (JSON_BLOCK, b"\xff" * 1000), (JSON_BLOCK, b"[" * 100_000), (JSON_BLOCK, b"[]"),
    (b"NATS/1.0\r\nCrank-Job-Status: queued\r\nCrank-Job-Status: done\r\n\r\n", b"{}"), (b"\xff", b"{}"),
    (b"NATS/1.0\r\nNats-Service-Error-Code: 999\r\n\r\n", b"{}"),
    (b"NATS/1.0\r\nNats-Service-Error-Code: 503\r\nCrank-Job-Status: \x7f\r\n\r\n", b'{"type":7}'),
    *((JSON_BLOCK, msgspec.json.encode(dict.fromkeys(_LISTS, odd))) for odd in _ODD),
]  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False])
async def test_no_answer_makes_a_command_fall_over(nats_server: NatsServer, as_json: bool) -> None:
    """Not JSON, fields that are missing or of another type, huge ones: a line for people, a code, and never a trace."""
    runner = CliRunner(env={"CRANK_NATS_URL": nats_server.url})
    for reply in HOSTILE:
        peer = await Peer.start(nats_server.url, lambda asked, reply=reply: iter([reply]))
        for arguments in COMMANDS:
            words = [*arguments, "--json"] if as_json else arguments
            result = await asyncio.to_thread(runner.invoke, command, words)
            assert isinstance(result.exception, SystemExit | None), (words, reply, result.exception)
            assert result.exit_code in (0, 1, 3), (words, reply)
            assert "Traceback" not in result.output
            assert "\x1b" not in result.output
        await peer.stop()

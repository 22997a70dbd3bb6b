"""``crank submit``: one job, and a file of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from callers import Client, CrankError, Unreachable
from callers.asking import Options
from crank.cli.batch import Batch, name_of
from crank.cli.lines import lines
from crank.natsd import NatsServer
from subjects.claims import claim_key
from subjects.errors import ErrorKind, Refusal
from subjects.headers import Block, parse_block
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal
from tests.cli.conftest import Crank, clean_environment
from tests.cli.peer import Asked, Peer
from tests.cli.terminal import on_terminal

Env = dict[str, str]
META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
NOBODY: Options = {}


# Lines --------------------------------------------------------------------------


async def _lines(*chunks: bytes, most: int = 100) -> list[tuple[int, bytes | None, int]]:
    reading, writing = os.pipe()
    for chunk in chunks:
        os.write(writing, chunk)
    os.close(writing)
    found = [tuple(line) async for line in lines(reading, most)]
    os.close(reading)
    return found


async def test_lines_are_numbered_and_say_where_they_end() -> None:
    """Empty ones too; the last needs no end, and some editors' first three bytes are none of it."""
    assert await _lines(b"a\n\nbc\r\n", b"d") == [(1, b"a", 2), (2, b"", 3), (3, b"bc\r", 7), (4, b"d", 8)]
    assert await _lines(b"\xef\xbb\xbfa\n\xef\xbb\xbfb") == [(1, b"a", 5), (2, b"\xef\xbb\xbfb", 9)]
    assert await _lines(b"") == []


@pytest.mark.parametrize("chunk", [1, 3, 7, 10_000])
async def test_a_line_that_is_too_long_is_passed_over_and_the_next_is_read(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pieces it comes in, and at the end too."""
    monkeypatch.setattr("crank.cli.lines._CHUNK_BYTES", chunk)
    found = await _lines(b"ab\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\n" + b"z" * 50, most=10)
    assert found == [(1, b"ab", 3), (2, None, 15), (3, b"y" * 10, 26), (4, None, 76)]


async def test_a_source_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """As a folder cannot."""
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        [line async for line in lines(folder, 10)]
    os.close(folder)


# Batches ------------------------------------------------------------------------


class Ledger:
    """A peer's script that keeps jobs by key, as controllers do; what a body asks for happens to it."""

    def __init__(self) -> None:
        self.jobs: dict[str, bytes] = {}
        self.asked = 0
        self.away = False

    def __call__(self, asked: Asked) -> Iterator[tuple[bytes | None, bytes]]:
        self.asked += 1
        block = parse_block(asked.headers.encode())
        assert isinstance(block, Block)
        capability = ":".join(asked.subject.split(".")[2:])
        job = claim_key("anonymous", capability, block.ours["idempotency-key"])
        if self.away:
            yield build_refusal(Refusal(ErrorKind.STORE_UNAVAILABLE, "Away.", retry_after_ms=86_400_000), META)
        elif b"unfit" in asked.body:
            yield build_refusal(Refusal(ErrorKind.INVALID_INPUT, "It does not fit."), META)
        elif capability == "no:such":
            yield build_refusal(Refusal(ErrorKind.NO_SUCH_CAPABILITY, "Nobody offers it."), META)
        elif self.jobs.get(job, asked.body) != asked.body:
            yield build_refusal(Refusal(ErrorKind.KEY_REUSED, "Another payload."), META)
        else:
            before = job in self.jobs
            self.jobs[job] = asked.body
            yield JSON_BLOCK, msgspec.json.encode({"job_id": job, "status": "accepted", "duplicate": before})


@pytest.fixture
async def ledger(nats_server: NatsServer) -> AsyncIterator[Ledger]:
    """It answers on the server."""
    ledger = Ledger()
    peer = await Peer.start(nats_server.url, ledger)
    yield ledger
    await peer.stop()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client of the server."""
    async with await Client.connect(nats_server.url) as client:
        yield client


async def _run(
    client: Client, file: Path, capability: str | None = "a:b", said: Options = NOBODY, name: str = ""
) -> Batch:
    batch = Batch(client, name or name_of(str(file)), capability, said, as_json=False)
    source = os.open(file, os.O_RDONLY)
    try:
        await batch.run(source, bar=False)
    finally:
        os.close(source)
    return batch


def _counts(batch: Batch) -> tuple[int, int, int]:
    return batch.accepted, batch.before, batch.failed


async def test_the_same_file_again_submits_nothing_twice(ledger: Ledger, client: Client, tmp_path: Path) -> None:
    """Equal lines are jobs of their own, more lines are added, another name is another batch."""
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"n":1}\n' * 200)
    assert _counts(await _run(client, file)) == (200, 0, 0)
    file.write_text('{"n":1}\n' * 210)
    assert _counts(await _run(client, file)) == (10, 200, 0)
    assert len(ledger.jobs) == 210
    assert _counts(await _run(client, file, name="again")) == (210, 0, 0)


async def test_a_line_that_changed_after_it_was_submitted_is_refused(
    ledger: Ledger, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is neither run twice nor lost silently; one that never was accepted may be mended."""
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"n":1}\n{"n":"unfit"}\n')
    assert _counts(await _run(client, file)) == (1, 0, 1)
    file.write_text('{"n":2}\n{"n":"fit"}\n')
    assert _counts(await _run(client, file)) == (1, 0, 1)
    said = capsys.readouterr().err
    assert "line 2: 422 invalid_input: It does not fit." in said
    assert "line 1: 422 key_reused: Another payload." in said
    assert "--key NAME" in said


async def test_a_line_can_say_what_is_to_be_done_and_its_own_key(
    ledger: Ledger, client: Client, tmp_path: Path
) -> None:
    """Then each is an object; its data go out as they were written, and none are an empty body."""
    file = tmp_path / "jobs.jsonl"
    file.write_text(
        '{"capability":"a:b","data":{"n": 1.50},"key":"mine"}\n\n  \n'
        '{"capability":"a:c"}\r\n{"data":"x","capability":"a:b"}'
    )
    assert _counts(await _run(client, file, None)) == (3, 0, 0)
    assert ledger.jobs[claim_key("anonymous", "a:b", "mine")] == b'{"n": 1.50}'
    assert ledger.jobs[claim_key("anonymous", "a:c", f"{name_of(str(file))}.4")] == b""
    assert sorted(ledger.jobs.values()) == [b"", b'"x"', b'{"n": 1.50}']


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nope", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"capability":"a:b","data":' + b"[" * 3000, "is not JSON"),
        (b"[1]", 'is not {"capability"'),
        (b'{"capabilty":"a:b"}', "capabilty"),
        (b'{"capability":"a.b"}', "verb:name"),
        (b'{"capability":"a:b","key":"o wn"}', "idempotency key"),
        (b'{"capability":"a:b","key":7}', 'is not {"capability"'),
        (b'"' + b"x" * 3_000_000 + b'"', "longer than"),
    ],
)
async def test_a_line_that_is_none_is_told_and_the_others_are_submitted(
    ledger: Ledger, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, said: str
) -> None:
    """By its number, and what is wrong with it."""
    file = tmp_path / "jobs.jsonl"
    file.write_bytes(b'{"capability":"a:b"}\n' + line + b'\n{"capability":"a:b"}\n')
    assert _counts(await _run(client, file, None)) == (2, 0, 1)
    told = capsys.readouterr().err
    assert told.startswith("line 2: 4")
    assert said in told


async def test_other_types_than_json_are_not_read(ledger: Ledger, client: Client, tmp_path: Path) -> None:
    """Where the lines are said to be text."""
    file = tmp_path / "words.txt"
    file.write_text("one\ntwo\n")
    assert _counts(await _run(client, file, said={"content_type": "text/plain"})) == (2, 0, 0)


async def test_what_every_line_would_hear_ends_it(ledger: Ledger, client: Client, tmp_path: Path) -> None:
    """A capability that nobody offers is told once; of several capabilities the others may be offered."""
    file = tmp_path / "jobs.jsonl"
    file.write_text("1\n" * 2000)
    with pytest.raises(CrankError, match="Nobody offers it"):
        await _run(client, file, "no:such")
    assert ledger.asked < 2000
    file.write_text('{"capability":"no:such"}\n{"capability":"a:b"}\n')
    assert _counts(await _run(client, file, None)) == (1, 0, 1)


async def test_it_stops_where_nothing_is_accepted_any_more_and_goes_on_later(
    ledger: Ledger, client: Client, tmp_path: Path
) -> None:
    """No line is passed over because the store is away."""
    file = tmp_path / "jobs.jsonl"
    file.write_text("1\n" * 500)
    ledger.away = True
    with pytest.raises(CrankError, match="Away"):
        await _run(client, file)
    ledger.away = False
    batch = await _run(client, file)
    assert (batch.accepted + batch.before, batch.failed, len(ledger.jobs)) == (500, 0, 500)


async def test_whoever_named_the_wrong_server_hears_it_at_once(client: Client, tmp_path: Path) -> None:
    """Patience is for a controller that was there."""
    file = tmp_path / "jobs.jsonl"
    file.write_text("1\n" * 500)
    with pytest.raises(Unreachable, match="no controller listens"):
        await asyncio.wait_for(_run(client, file), 5)


async def test_a_million_wrong_lines_are_told_once(
    ledger: Ledger, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of them, and where to see the others."""
    file = tmp_path / "jobs.jsonl"
    file.write_text("nope\n" * 100)
    assert (await _run(client, file)).failed == 100
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 21
    assert "--json" in told[-1]


# The command --------------------------------------------------------------------


def test_a_job_is_done_and_its_answer_kept(crank: Crank, installation: Env) -> None:
    """The id alone goes to a pipe; the same key is the same job, and its answer is the worker's bytes."""
    submit = ["submit", "greet:hello_world", '{"name":"Ada"}', "--key", "cli-1"]
    done = crank(*submit, env=installation)
    assert (done.returncode, done.stderr) == (0, "")
    job = done.stdout.removesuffix("\n")
    again = json.loads(crank(*submit, "--json", env=installation).stdout)
    assert again == {"ok": True, "job_id": job, "duplicate": True}
    found = crank("result", job, "--wait", "20", env=installation)
    assert (found.returncode, found.stdout, found.stderr) == (0, '{"greeting":"Hello, Ada!"}', "")
    found = json.loads(crank("result", job, "--json", env=installation).stdout)
    assert (found["ok"], found["body"], found["meta"]["job_status"]) == (True, {"greeting": "Hello, Ada!"}, "done")
    reused = crank("submit", "greet:hello_world", '{"name":"Bob"}', "--key", "cli-1", env=installation)
    assert (reused.returncode, reused.stdout) == (1, "")
    assert "422 key_reused" in reused.stderr


def test_a_job_that_waits_can_be_cancelled(crank: Crank, installation: Env) -> None:
    """Until then its result is that it waits: code 1, for there is no answer."""
    job = crank("submit", "greet:hello_world", "{}", "--version", "^9", env=installation)
    assert job.returncode == 0, job.stderr
    ident = job.stdout.strip()
    waits = crank("result", ident, env=installation)
    assert (waits.returncode, waits.stdout) == (1, "")
    assert f"the job is queued; wait for it:\n  python -m crank result {ident} --wait 60" in waits.stderr
    waits = crank("result", ident, "--json", "--wait", "0.1", env=installation)
    assert json.loads(waits.stdout) == {"ok": False, "job_id": ident, "status": "queued"}
    done = crank("cancel", ident, env=installation)
    assert (done.returncode, done.stdout) == (0, f"cancelled {ident}\n")
    gone = crank("result", ident, env=installation)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "499 cancelled" in gone.stderr


def test_a_result_that_never_was_is_404(crank: Crank, installation: Env) -> None:
    """So is cancelling it."""
    for command, said in (("result", "no_such_job"), ("cancel", "no_such_request")):
        done = crank(command, "a" * 52, env=installation)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


def test_a_key_protects_a_request(crank: Crank, installation: Env) -> None:
    """The second answer is the first one's, and says so."""
    ask = ["request", "greet:hello_world", '{"name":"Ada"}', "--key", "cli-2", "--json"]
    first, second = (json.loads(crank(*ask, env=installation).stdout) for _ in range(2))
    assert first["body"] == second["body"]
    assert ("replayed" in first["meta"], second["meta"]["replayed"]) == (False, True)
    other = ["request", "greet:hello_world", '{"name":"Bob"}', "--key", "cli-2", "--on-duplicate", "reject"]
    assert "422 key_reused" in crank(*other, env=installation).stderr


def test_a_file_is_submitted_and_can_be_submitted_again(crank: Crank, installation: Env, tmp_path: Path) -> None:
    """Counts for people; for machines each line's job, and the counts where they are in nobody's way."""
    (tmp_path / "names.jsonl").write_text('{"name":"Ada"}\n{"name":7}\n{"name":"Bob"}\n')
    submit = ["submit", "greet:hello_world", "--from", "names.jsonl"]
    done = crank(*submit, env=installation)
    assert (done.returncode, done.stdout) == (1, "accepted 2, there before 0, failed 1\n")
    assert done.stderr.startswith("line 2: 422 invalid_input: name does not fit")
    done = crank(*submit, "--json", env=installation)
    assert (done.returncode, done.stderr) == (1, "accepted 0, there before 2, failed 1\n")
    rows: dict[int, Any] = {row["line"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert [rows[line]["ok"] for line in (1, 2, 3)] == [True, False, True]
    assert (rows[1]["duplicate"], rows[2]["code"]) == (True, 422)
    found = crank("result", rows[3]["job_id"], "--wait", "20", env=installation)
    assert found.stdout == '{"greeting":"Hello, Bob!"}'
    piped = crank("submit", "greet:hello_world", "--from", "-", env=installation, stdin='{"name":"Eve"}\n')
    assert (piped.returncode, piped.stdout) == (0, "accepted 1, there before 0, failed 0\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "VERB:NAME, or --from FILE"),
        (["a:b", "{}", "--from", "-"], "leave DATA out"),
        (["a:b", "--from", "nowhere.jsonl"], "nowhere.jsonl cannot be read: No such file"),
        (["a:b", "--from", "."], "cannot be read: Is a directory"),
        (["a:b", "{}", "--key", "a b"], "1 to 255 visible ASCII characters"),
        (["a:b", "--from", "-", "--key", "x" * 250], "followed by 16 more"),
        (["a.b", "{}"], "did you mean a:b?"),
    ],
)
def test_wrong_usage_is_code_2(crank: Crank, arguments: list[str], said: str) -> None:
    """It is said before anything is connected to."""
    done = crank("submit", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_ctrl_c_stops_a_pipe_that_is_silent(installation: Env, tmp_path: Path) -> None:
    """And says under which name the batch goes on."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "crank", "submit", "greet:hello_world", "--from", "-", "--json"],
        cwd=tmp_path, env=clean_environment() | installation,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"name":"Ada"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["ok"]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "stopped: accepted 1, there before 0, failed 0. Submit the same again to go on" in said
    assert "--key " in said


async def test_on_a_terminal_there_is_a_bar(installation: Env, tmp_path: Path) -> None:
    """While it lasts; then the counts stand alone."""
    (tmp_path / "names.jsonl").write_text('{"name":"Ada"}\n' * 3000)
    submit = ("submit", "greet:hello_world", "--from", "names.jsonl")
    code, screen = await on_terminal(tmp_path, *submit, env=installation)
    assert code == 0
    assert "━" in screen
    assert " % accepted" in screen
    assert screen.rstrip().endswith("accepted 3,000, there before 0, failed 0")

"""A file of jobs: which line is which job, and what stops it; against a peer that keeps jobs by key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from callers import Client, CrankError, Unreachable
from callers.asking import Options
from crank.cli.batch import Batch, name_of
from crank.natsd import NatsServer
from subjects.claims import claim_key
from subjects.errors import ErrorKind, Refusal
from subjects.headers import Block, parse_block
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal
from tests.cli.peer import Asked, Peer, Reply

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
NOTHING: Options = {}


class Ledger:
    """A peer's script that keeps jobs by key, as controllers do; what a body asks for happens to it."""

    def __init__(self) -> None:
        self.jobs: dict[str, bytes] = {}
        self.asked = 0
        self.away = False

    def __call__(self, asked: Asked) -> Iterator[Reply]:
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
    client: Client, file: Path, capability: str | None = "a:b", said: Options = NOTHING, name: str = ""
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

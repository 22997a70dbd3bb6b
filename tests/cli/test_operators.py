"""``crank jobs``, ``dead``, ``resolve`` and ``recovery``: what is asked, and what is shown."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crank.cli.show import age
from crank.natsd import NatsServer
from subjects.errors import ErrorKind, Refusal
from subjects.replies import JSON_BLOCK, ReplyMeta, build_refusal
from tests.cli.conftest import Crank
from tests.cli.peer import Asked, Peer, Reply
from tests.cli.terminal import on_terminal

META = ReplyMeta("r-1", "c-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
JOB = "t5khpp77mpkbukrzhtzf2jw2ehgayzu2tpm5apu4de24u5krggwa"
OTHER = "zknatrjrv5jjpf55sprhgfw77xu7nme2c4q3gckbcine4ymxmoia"
_COMMON = {"caller": "anonymous", "request_id": "r-1"}
JOBS = [
    {"job_id": JOB, "capability": "a:b", "status": "queued", "attempts": 0, "age_s": 12.3, "seq": 1} | _COMMON,
    {"job_id": OTHER, "capability": "c:d", "status": "running", "attempts": 2, "age_s": 9000, "seq": 2} | _COMMON,
]
DEAD = [
    {"job_id": JOB, "capability": "a:b", "reason": "outcome_unknown", "attempts": 1, "age_s": 100_000, "seq": 3,
     "detail": "It may have run at worker w-1, \x1b[2J and nobody can say whether the charge was made, so look."}
    | _COMMON,
]  # fmt: skip
RECOVERY: dict[str, Any] = {
    "recovery": [
        {"stream": "CRANK_JOBS", "purpose": "accepted jobs", "messages": 12345, "bytes": 1, "first_seq": 1,
         "last_seq": 2}
    ],
    "unfinished": [
        {"job_id": OTHER, "capability": "c:d", "caller": "anonymous", "state": "unknown", "job": False,
         "owner": "c-1.b7", "worker": "w-1", "age_s": 3}
    ],
    "counts": {"done": 7, "unknown": 1},
}  # fmt: skip


class Operators:
    """A peer's script that answers as controllers do, or with ``instead``."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, Any]] = []
        self.instead: Reply | None = None

    def __call__(self, asked: Asked) -> Iterator[Reply]:
        op = asked.subject.rpartition(".")[2]
        question = msgspec.json.decode(asked.body) if asked.body else {}
        self.questions.append((op, question))
        if self.instead is not None:
            yield self.instead
        elif question.get("job_id") == "nope":
            yield build_refusal(Refusal(ErrorKind.NO_SUCH_JOB, "There is no job nope."), META)
        else:
            yield JSON_BLOCK, msgspec.json.encode(self._answer(op, question))

    def _answer(self, op: str, question: dict[str, Any]) -> dict[str, Any]:
        match op, question.get("op"):
            case "jobs", _:
                return {"jobs": JOBS[: question["limit"]]}
            case "dead", "list":
                return {"dead": DEAD}
            case "dead", "show":
                return {"dead": [DEAD[0] | {"content_type": "application/json", "body": '{"amount": 7}'}]}
            case "dead", done:
                status = {"retry": "accepted", "drop": "dropped"}[str(done)]
                return {"dead": [{"job_id": question["job_id"], "status": status}]}
            case "resolve", _:
                warning = {"warning": "It may still run."} if question["outcome"] == "released" else {}
                return {"resolved": [{"job_id": JOB, "state": question["outcome"], **warning}]}
        return RECOVERY


@pytest.fixture
async def operators(nats_server: NatsServer) -> AsyncIterator[Operators]:
    """It answers on the server."""
    script = Operators()
    peer = await Peer.start(nats_server.url, script)
    yield script
    await peer.stop()


Run = subprocess.CompletedProcess[str]
Ask = Callable[..., Awaitable[Run]]


@pytest.fixture
def ask(crank: Crank, nats_server: NatsServer) -> Ask:
    """Runs the command while the peer answers."""

    async def run(*arguments: str, stdin: str | None = None) -> Run:
        env = {"CRANK_NATS_URL": nats_server.url}
        return await asyncio.to_thread(crank, *arguments, env=env, stdin=stdin)

    return run


async def test_jobs_are_a_line_each_in_a_pipe(ask: Ask, operators: Operators) -> None:
    """All that is known, for grep; the same as JSON."""
    done = await ask("jobs", "--capability", "a:b", "--limit", "7")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["job", "status", "age", "tries", "capability", "caller"]
    assert lines[1] == [JOB, "queued", "12", "s", "0", "a:b", "anonymous"]
    assert operators.questions == [("jobs", {"capability": "a:b", "limit": 7})]
    done = await ask("jobs", "--json", "--limit", "1")
    assert (json.loads(done.stdout), done.stderr) == ({"jobs": JOBS[:1]}, "")


async def test_dead_jobs_are_listed_with_why(ask: Ask, operators: Operators) -> None:
    """And what a worker said cannot move a cursor."""
    done = await ask("dead", "list")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert "outcome_unknown" in done.stdout
    assert "\x1b" not in done.stdout
    assert operators.questions == [("dead", {"op": "list", "limit": 200})]


async def test_a_dead_jobs_data_can_be_saved(ask: Ask, operators: Operators) -> None:
    """Exactly its bytes go into a pipe, and why it is dead beside it."""
    done = await ask("dead", "show", JOB)
    assert (done.returncode, done.stdout) == (0, '{"amount": 7}')
    assert "reason        outcome_unknown" in done.stderr
    row = DEAD[0] | {"body_base64": base64.b64encode(b"\x00\xff").decode()}
    operators.instead = JSON_BLOCK, msgspec.json.encode({"dead": [row]})
    done = await ask("dead", "show", JOB, "--json")
    assert json.loads(done.stdout) == row


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
async def test_data_that_the_answer_leaves_out_are_not_taken_for_none(
    ask: Ask, operators: Operators, more: list[str]
) -> None:
    """An empty file, and the job dropped after it, would be all that is left."""
    row = DEAD[0] | {"content_type": "image/png", "size": 1_900_000, "left_out": ["body"]}
    operators.instead = JSON_BLOCK, msgspec.json.encode({"dead": [row]})
    done = await ask("dead", "show", JOB, *more)
    assert (done.returncode, json.loads(done.stdout or "null")) == (1, row if more else None)
    assert "1900000 bytes" in done.stderr
    assert "nats stream get CRANK_DEAD 3" in done.stderr


async def test_dead_jobs_are_retried_and_dropped_one_by_one(ask: Ask, operators: Operators) -> None:
    """One that is not there stops none of the others, and is code 1."""
    done = await ask("dead", "retry", JOB, "nope", OTHER)
    assert (done.returncode, done.stdout) == (1, f"accepted {JOB}\naccepted {OTHER}\n")
    assert "404 no_such_job" in done.stderr
    done = await ask("dead", "drop", JOB, "nope", "--yes", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert (rows[0], rows[1]["code"]) == ({"ok": True, "job_id": JOB, "status": "dropped"}, 404)
    assert [question for _, question in operators.questions][-2:] == [
        {"op": "drop", "job_id": JOB}, {"op": "drop", "job_id": "nope"}
    ]  # fmt: skip


async def test_what_cannot_be_undone_is_asked_first(ask: Ask, operators: Operators) -> None:
    """Where nobody can be asked nothing is done: scripts say --yes."""
    for arguments in (["dead", "drop", JOB], ["resolve", JOB, "--release"], ["resolve", JOB, "--done", "{}"]):
        done = await ask(*arguments, stdin="y\n")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--yes" in done.stderr
    assert operators.questions == []


async def test_an_outcome_is_settled_by_job_or_by_key(ask: Ask, operators: Operators) -> None:
    """An answer goes out byte for byte with its type; a release comes back with its warning."""
    done = await ask("resolve", JOB, "--done", '{"n": 1.50}', "--yes")
    assert (done.returncode, done.stdout) == (0, f"done {JOB}\n")
    assert "gets this answer from now on" not in done.stderr
    done = await ask("resolve", "--capability", "a:b", "--key", "k", "--caller", "x", "--release", "--yes")
    assert (done.returncode, done.stdout) == (0, f"released {JOB}\n")
    assert done.stderr == "crank: warning: It may still run.\n"
    done = await ask("resolve", JOB, "--done", "-", "--content-type", "text/plain", "--yes", "--json", stdin="ok")
    assert json.loads(done.stdout) == {"ok": True, "job_id": JOB, "state": "done"}
    assert [question for _, question in operators.questions] == [
        {"job_id": JOB, "outcome": "done", "answer_base64": base64.b64encode(b'{"n": 1.50}').decode(),
         "content_type": "application/json"},
        {"capability": "a:b", "key": "k", "caller": "x", "outcome": "released"},
        {"job_id": JOB, "outcome": "done", "answer_base64": base64.b64encode(b"ok").decode(),
         "content_type": "text/plain"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["resolve", "--release"], "name JOB, or --capability and --key"),
        (["resolve", "--key", "k", "--release"], "name JOB, or --capability and --key"),
        (["resolve", JOB, "--key", "k", "--release"], "leave --capability, --key and --caller out"),
        (["resolve", JOB], "either --done ANSWER or --release"),
        (["resolve", JOB, "--done", "1", "--release"], "either --done ANSWER or --release"),
        (["resolve", JOB, "--done", "nope", "--yes"], "--content-type, such as text/plain"),
        (["result", "a.b"], "is not 1 to 64 of the characters"),
        (["result", JOB, "--wait", "soon"], "--wait"),
        (["cancel"], "ID"),
        (["dead", "retry"], "JOB"),
        (["dead", "drpo", JOB], "drpo"),
        (["jobs", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_code_2(crank: Crank, arguments: list[str], said: str) -> None:
    """It is said before anything is connected to."""
    done = crank(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


async def test_recovery_shows_what_there_is_and_what_waits_for_whom(ask: Ask, operators: Operators) -> None:
    """The streams, the states, and the requests that only an operator can end."""
    done = await ask("recovery")
    assert done.returncode == 0
    assert "CRANK_JOBS" in done.stdout
    assert "12,345" in done.stdout
    assert OTHER in done.stdout
    assert "Keys by state: done 7, unknown 1." in done.stderr
    assert "resolve JOB --done ANSWER, or --release" in done.stderr
    assert json.loads((await ask("recovery", "--json")).stdout) == RECOVERY


async def test_on_a_terminal_an_id_stays_whole(nats_server: NatsServer, operators: Operators, tmp_path: Path) -> None:
    """On a line of 80 columns, to be copied; questions are answered there."""
    env = {"CRANK_NATS_URL": nats_server.url}
    for arguments in (["jobs"], ["dead", "list"], ["recovery"], ["dead", "show", JOB]):
        code, screen = await on_terminal(tmp_path, *arguments, env=env)
        assert code == 0
        assert JOB in screen or OTHER in screen
        assert "\x1b[2J" not in screen
        assert max(len(line) for line in _bare(screen).splitlines()) <= 80
    code, screen = await on_terminal(tmp_path, "dead", "drop", JOB, env=env, typed="n\n")
    assert code == 1
    assert "Nothing was changed." in screen
    code, screen = await on_terminal(tmp_path, "resolve", JOB, "--release", env=env, typed="y\n")
    assert code == 0
    assert "may still run" in screen
    assert f"released {JOB}" in screen
    assert operators.questions[-1] == ("resolve", {"job_id": JOB, "outcome": "released"})
    assert ("dead", {"op": "drop", "job_id": JOB}) not in operators.questions


def _bare(screen: str) -> str:
    """Without what makes it bold."""
    return screen.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_an_age_is_short() -> None:
    """And of what is none, nothing."""
    told = [age(seconds) for seconds in (0, 9.94, 12, 119, 120, 7199, 7200, 172_799, 172_800, 1e9)]
    assert told == ["0.0 s", "9.9 s", "12 s", "119 s", "2 min", "120 min", "2.0 h", "48.0 h", "2 d", "11574 d"]
    assert {age(odd) for odd in (None, "x", True, -1, float("nan"), float("inf"), [])} == {""}


def test_a_job_that_fails_is_dead_until_an_operator_ends_it(crank: Crank, installation: dict[str, str]) -> None:
    """It is listed with why, its data can be saved, it can be tried again and dropped; its result stays."""
    submit = ["submit", "parse:email_message", "no mail", "--content-type", "message/rfc822"]
    job = crank(*submit, env=installation).stdout.strip()
    result = crank("result", job, "--wait", "20", env=installation)
    assert (result.returncode, result.stdout) == (1, "")
    assert "unless an operator has dropped it" in result.stderr
    assert f"dead retry {job}" in result.stderr
    assert _until_dead(crank, installation, job)["reason"] == "worker_error"
    assert crank("dead", "show", job, env=installation).stdout == "no mail"
    assert crank("dead", "retry", job, env=installation).stdout == f"accepted {job}\n"
    assert crank("result", job, "--wait", "20", env=installation).returncode == 1
    assert _until_dead(crank, installation, job)["capability"] == "parse:email_message"
    assert crank("dead", "drop", job, "--yes", env=installation).stdout == f"dropped {job}\n"
    assert job not in crank("dead", "list", env=installation).stdout
    assert "404 no_such_job" in crank("dead", "retry", job, env=installation).stderr


def _until_dead(crank: Crank, env: dict[str, str], job: str) -> dict[str, Any]:
    until = time.monotonic() + 10
    while True:
        rows = json.loads(crank("dead", "list", "--json", env=env).stdout)["dead"]
        found: dict[str, Any] | None = next((row for row in rows if row["job_id"] == job), None)
        if found is not None:
            return found
        assert time.monotonic() < until, "it never was among the dead"


def test_what_waits_is_listed_and_counted(crank: Crank, installation: dict[str, str]) -> None:
    """By capability, and among what a controller that starts would find unfinished."""
    job = crank("submit", "greet:hello_world", "{}", "--version", "^9", env=installation).stdout.strip()
    assert job in crank("jobs", "--capability", "greet:hello_world", env=installation).stdout
    assert job not in crank("jobs", "--capability", "parse:email_message", env=installation).stdout
    told = json.loads(crank("recovery", "--json", env=installation).stdout)
    assert job in [row["job_id"] for row in told["unfinished"]]
    assert {"CRANK_JOBS", "CRANK_DEAD", "CRANK_REGISTRY"} <= {row["stream"] for row in told["recovery"]}
    assert crank("cancel", job, env=installation).returncode == 0
    settled = crank("resolve", job, "--release", "--yes", env=installation)
    assert (settled.returncode, settled.stdout) == (1, "")
    assert "nothing to resolve" in settled.stderr

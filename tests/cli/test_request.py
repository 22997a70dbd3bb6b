"""``crank request``, ``crank workers``, ``crank capabilities``: what is printed where, and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]


_REFERENCE = {"email_parser-1", "hello_world-1", "streaming-1"}


def test_an_answer_is_the_body_and_nothing_else(crank: Crank, installation: Env) -> None:
    """A pipe gets exactly the bytes; stderr stays empty."""
    done = crank("request", "greet:hello_world", '{"name":"Ada"}', env=installation)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"greeting":"Hello, Ada!"}', "")


def test_json_is_one_object_with_the_answer_and_who_gave_it(crank: Crank, installation: Env) -> None:
    """Machines read worker, version, attempts and controller beside the body."""
    done = crank("request", "greet:hello_world", "-", "--json", env=installation, stdin='{"name":"Ada"}')
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert answer["body"] == {"greeting": "Hello, Ada!"}
    assert (
        answer["meta"].items()
        >= {"worker": "hello_world-1", "version": "1.0.0", "attempts": 1, "controller": "c-1"}.items()
    )


def test_a_file_brings_its_content_type(crank: Crank, installation: Env) -> None:
    """@mail.eml goes out as message/rfc822, and comes back with its attachments."""
    done = crank("request", "parse:email_message", f"@{ROOT / 'examples' / 'mail.eml'}", env=installation)
    assert done.returncode == 0, done.stderr
    mail = json.loads(done.stdout)
    assert [attachment["filename"] for attachment in mail["attachments"]] == ["bernoulli.csv", "Rechnung Mühle.png"]
    assert "B₇" in mail["text"]


def test_a_stream_is_printed_piece_by_piece(crank: Crank, installation: Env) -> None:
    """The pieces joined are the text; as JSON, one object a line and an end."""
    body = '{"text":"one two three"}'
    assert crank("request", "stream:text_events", body, "--stream", env=installation).stdout == "one two three"
    assert crank("request", "stream:text_events", body, env=installation).stdout == "one two three"
    lines = crank("request", "stream:text_events", body, "--stream", "--json", env=installation).stdout.splitlines()
    frames = [json.loads(line) for line in lines]
    assert [(frame["frame"], frame["seq"], frame["body"]) for frame in frames] == [
        ("chunk", 0, "one "), ("chunk", 1, "two "), ("chunk", 2, "three"), ("end", 3, "")
    ]  # fmt: skip


def test_a_dry_run_runs_nothing_and_tells_the_decision(crank: Crank, installation: Env) -> None:
    """Candidates, who would be chosen, the verdict."""
    done = crank("request", "greet:hello_world", '{"name":"Ada"}', "--dry-run", env=installation)
    record = json.loads(done.stdout)
    assert record["chosen"] == "hello_world-1"
    assert record["verdict"]["allow"] is True
    assert record["candidates"][0]["worker_id"] == "hello_world-1"
    assert record["attempts"] == []


def test_options_become_the_headers_of_the_contract(crank: Crank, installation: Env) -> None:
    """A header given by hand, a priority, a time-out and a range all reach the controller."""
    options = ["--priority", "high", "--timeout-ms", "2000", "--version", "^1", "--header", "Crank-Request-Id=mine-1"]
    done = crank("request", "greet:hello_world", '{"name":"Ada"}', "--json", *options, env=installation)
    assert json.loads(done.stdout)["meta"]["request_id"] == "mine-1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["greet:helo_world", "{}"], ["404 no_such_capability", "greet:hello_world"]),
        (["greet:hello_world", '{"name": ""}'], ["422 invalid_input", "name"]),
        (["greet:hello_world", "nope"], ["400 malformed", "not JSON"]),
        (["greet:hello_world", '{"name":"A"}', "--version", "^2"], ["412 no_match", "hello_world-1", "1.0.0"]),
        (["greet:hello_world", '{"name":"A"}', "--header", "Crank-Latency-Ms=0"], ["400", "Crank-Latency-Ms"]),
        (["greet:hello_world", '{"name":"A"}', "--budget-tokens", "0.01"], ["402 over_budget", "0.1"]),
        (["greet:hello_world", '{"name":"A"}', "--constraints", '{"gpu_count": 1}'], ["412 no_match", "gpu_count"]),
        (["parse:email_message", "no mail", "--content-type", "message/rfc822"], ["500 worker_error", "no mail"]),
        (["stream:text_events", '{"text": 1}', "--stream"], ["422 invalid_input", "text"]),
    ],
)  # fmt: skip
def test_a_refusal_goes_to_stderr_with_code_1(
    crank: Crank, installation: Env, arguments: list[str], said: list[str]
) -> None:
    """Code, title and what to do; stdout stays empty, for whoever pipes it."""
    done = crank("request", *arguments, env=installation)
    assert (done.returncode, done.stdout) == (1, "")
    for part in said:
        assert part in done.stderr


def test_a_refusal_as_json_is_the_problem(crank: Crank, installation: Env) -> None:
    """Machines branch on the code and the type."""
    done = crank("request", "no:such", "--json", env=installation)
    assert (done.returncode, done.stderr) == (1, "")
    failed = json.loads(done.stdout)
    assert (failed["ok"], failed["code"]) == (False, 404)
    assert failed["problem"]["type"] == "urn:crank:error:no_such_capability"


@pytest.mark.parametrize("command", [["request", "a:b"], ["workers"], ["capabilities"]])
def test_without_a_controller_there_is_nothing_to_talk_to_and_code_3(
    crank: Crank, command: list[str], installation: Env
) -> None:
    """A server on which nobody of this prefix listens."""
    no_controller = crank(*command, "--prefix", "elsewhere", env=installation)
    assert (no_controller.returncode, no_controller.stdout) == (3, "")
    assert "no controller listens" in no_controller.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["greet.hello_world"], "did you mean greet:hello_world?"),
        (["crank.request.greet.hello_world"], "did you mean greet:hello_world?"),
        (["a:b c"], "is not VERB:NAME"),
        (["a:b", "@no-such-file"], "no-such-file cannot be read"),
        (["a:b", "--timeout-ms", "0"], "--timeout-ms"),
        (["a:b", "--priority", "urgent"], "urgent"),
        (["a:b", "--budget-tokens", "-1"], "-1.0 is not in the range"),
        (["a:b", "--budget-tokens", "nan"], "'nan' is not a number of tokens"),
        (["a:b", "--constraints", "gpu_count=1"], "'gpu_count=1' is not a JSON object, such as"),
        (["a:b", "--constraints", "[1]"], "'[1]' is not a JSON object, such as"),
        (["a:b", "--header", "Idempotency-Key"], "is not KEY=VALUE"),
        (["a:b", "--header", "A=x\ny"], "control character"),
        (["a:b", "--header", "Ä=x"], "is not KEY=VALUE"),
        (["a:b", "--bogus"], "--bogus"),
        (["a:b", "--prefix", "a.b"], "--prefix"),
        ([], "VERB:NAME"),
    ],
)
def test_wrong_usage_is_code_2(crank: Crank, arguments: list[str], said: str) -> None:
    """It is said before anything is connected to."""
    done = crank("request", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_workers_and_capabilities_are_listed(crank: Crank, installation: Env) -> None:
    """A table for people, whole lines in a pipe; JSON for machines."""
    table = crank("workers", env=installation).stdout.splitlines()
    assert table[0].split() == ["worker", "state", "heartbeat", "in", "flight", "capabilities"]
    states = dict(line.split()[:2] for line in table[1:])  # beside what other tests have left
    assert [states[worker_id] for worker_id in _REFERENCE] == ["alive"] * 3
    workers = json.loads(crank("workers", "--json", env=installation).stdout)["workers"]
    assert {worker["worker_id"] for worker in workers} >= _REFERENCE
    table = crank("capabilities", env=installation).stdout.splitlines()
    assert "greet:hello_world" in table[1]
    capabilities = json.loads(crank("capabilities", "--json", env=installation).stdout)["capabilities"]
    greet = next(row for row in capabilities if row["verb"] == "greet")
    assert (greet["name"], greet["versions"], greet["healthy_workers"]) == ("hello_world", ["1.0.0"], 1)


def test_ctrl_c_cancels_the_request_and_not_only_the_wait(crank: Crank, installation: Env, tmp_path: Path) -> None:
    """The worker stops working for somebody who left, and who gave a key is told how to learn what came of it."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "crank", "request", "--stream", "stream:text_events",
         '{"text": "one two", "delay_ms": 10000}', "--key", "left"],
        cwd=tmp_path, env=clean_environment() | installation, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(4) == "one "
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert said.strip() == "crank: cancelled; the work may have run. To know, ask again with --key left"
    assert process.returncode == 130
    until = time.monotonic() + 5
    while _in_flight(crank, installation, "streaming-1"):
        assert time.monotonic() < until


def test_what_a_second_request_does_is_said_of_a_key(crank: Crank) -> None:
    """Without one nothing is a second request, and nobody is to think so."""
    done = crank("request", "greet:hello_world", "{}", "--on-duplicate", "reject")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give a --key" in done.stderr


def _in_flight(crank: Crank, installation: Env, worker_id: str) -> int:
    workers = json.loads(crank("workers", "--json", env=installation).stdout)["workers"]
    return int(next(worker["in_flight"] for worker in workers if worker["worker_id"] == worker_id))


def test_help_and_version_need_nobody(crank: Crank, tmp_path: Path) -> None:
    """The first things that people type."""
    shown = crank("--help")
    assert shown.returncode == 0
    for command in ("up", "demo", "request", "workers", "capabilities", "controller", "worker"):
        assert command in shown.stdout
        assert crank(command, "--help").returncode == 0
    assert crank("--version").stdout.startswith("crank ")
    assert crank("nonsense").returncode == 2

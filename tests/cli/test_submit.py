"""``crank submit`` and ``result``: what is printed where, and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Crank, clean_environment
from tests.cli.terminal import on_terminal

Env = dict[str, str]


def test_a_job_is_done_and_its_answer_kept(crank: Crank, installation: Env) -> None:
    """The id alone goes to a pipe; the same key is the same job, and its answer is the worker's bytes."""
    submit = ["submit", "greet:hello_world", '{"name":"Ada"}', "--key", "cli-1"]
    done = crank(*submit, env=installation)
    assert (done.returncode, done.stderr) == (0, "")
    job = done.stdout.removesuffix("\n")
    again = json.loads(crank(*submit, "--json", env=installation).stdout)
    assert again == {"ok": True, "job_id": job, "duplicate": True}
    found = crank("result", job, "--wait", env=installation)  # until there is one
    assert (found.returncode, found.stdout, found.stderr) == (0, '{"greeting":"Hello, Ada!"}', "")
    found = json.loads(crank("result", job, "--wait", "20", "--json", env=installation).stdout)
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

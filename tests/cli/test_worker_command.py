"""``crank worker`` and ``crank controller``: a worker of one's own, names that hide ours, mistakes, signals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crank.natsd import NatsServer
from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]
_HEAD = 'from crank import Worker\n\nworker = Worker("own")\n\n\n'
_BODY = '@worker.capability("own:thing")\nasync def thing() -> str:\n    return "mine"\n'


def _start(folder: Path, *arguments: str, env: Env) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "crank", *arguments],
        cwd=folder, env=clean_environment() | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _until_done(crank: Crank, *arguments: str, env: Env) -> subprocess.CompletedProcess[str]:
    """The command's result once it succeeds: what was just started needs a moment."""
    until = time.monotonic() + 15
    while True:
        done = crank(*arguments, env=env)
        if done.returncode == 0 or time.monotonic() > until:
            return done


def _stopped(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str]:
    process.send_signal(how)
    _, err = process.communicate(timeout=15)
    return process.returncode, err


def test_the_ten_line_worker_of_the_readme_works(crank: Crank, installation: Env, tmp_path: Path) -> None:
    """examples/shout.py beside a running installation; it leaves when asked to."""
    assert len((ROOT / "examples" / "shout.py").read_text().splitlines()) <= 10
    shutil.copy(ROOT / "examples" / "shout.py", tmp_path)
    worker = _start(tmp_path, "worker", "shout:worker", "--id", "shout-7", env=installation)
    try:
        done = _until_done(crank, "request", "text:shout", "hello", env=installation)
        assert (done.returncode, done.stdout) == (0, "HELLO!")
    finally:
        code, err = _stopped(worker, signal.SIGTERM)
    assert code == 0, err
    gone = crank("request", "text:shout", "hello", env=installation)
    assert gone.returncode == 1
    assert "503 no_worker" in gone.stderr


@pytest.mark.parametrize("start", [["-P", "-m", "crank"], ["-m", "crank"]])
def test_a_workers_folder_of_the_users_own_hides_nothing(
    crank: Crank, installation: Env, tmp_path: Path, start: list[str]
) -> None:
    """Ours still start, however the command is called; theirs runs by its file or its module's name."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("")
    (tmp_path / "workers" / "own.py").write_text(_HEAD + _BODY)
    for target, number in (("hello_world", 9), ("workers/own.py", 8), ("workers.own:worker", 7)):
        command = [sys.executable, *start, "worker", target, "--id", f"here-{number}"]
        environment = clean_environment() | installation
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        assert worker.stderr is not None
        assert f"here-{number} is registered" in worker.stderr.readline()
        if number < 9:
            assert crank("request", "own:thing", env=installation).stdout == "mine"
        assert _stopped(worker, signal.SIGINT)[0] == 0


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("no_such", "", "hello_world, streaming, email_parser"),
        ("hello_wrld", "", "did you mean hello_world?"),
        ("nowhere:worker", "", "there is no module 'nowhere'"),
        ("own:other", _HEAD + _BODY, "workers there: worker"),
        ("own:worker", "worker = 1\n", "there is none in that module"),
        ("own:worker", "import no_such_thing\n", "no_such_thing"),
        ("own:worker", _HEAD + "boom()\n", "own.py:6"),
        ("own:worker", "def (:\n", "own.py:1"),
        ("own:worker", _HEAD + '@worker.capability("a.b")\nasync def f() -> str: ...\n', "own.py:6"),
        ("json:worker", "", "has the name of the module 'json'"),
        ("a b:c", "", "is not module:attribute"),
    ],
)
def test_a_worker_that_cannot_be_found_is_wrong_usage(
    crank: Crank, tmp_path: Path, target: str, text: str, said: str
) -> None:
    """What was looked for, what there is, and at which line of the user's it broke; never a traceback."""
    if text:
        (tmp_path / "own.py").write_text(text)
    if target.startswith("json"):
        (tmp_path / "json.py").touch()
    done = crank("worker", target)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_whose_id_is_taken_says_so_and_waits(crank: Crank, installation: Env, tmp_path: Path) -> None:
    """It may be its own former self, not yet given up; meanwhile it can be stopped."""
    worker = _start(tmp_path, "worker", "hello_world", "--id", "hello_world-1", env=installation)
    assert worker.stderr is not None
    line = worker.stderr.readline()
    assert "409" in line
    assert "choose another id" in line
    assert _stopped(worker, signal.SIGTERM)[0] == 0


def test_without_a_server_there_is_nothing_to_talk_to_and_code_3(tmp_path: Path) -> None:
    """The address is in the message, and how to start one. They wait a few seconds for it, here all at once."""
    env = {"CRANK_NATS_URL": "nats://127.0.0.1:1", "CRANK_HTTP_PORT": "0"}
    commands = (["worker", "hello_world"], ["controller"], ["request", "a:b"])
    processes = [_start(tmp_path, *words, env=env) for words in commands]
    said = [process.communicate(timeout=30) for process in processes]
    for process, (out, err) in zip(processes, said, strict=True):
        assert (process.returncode, out) == (3, ""), err
        assert "no NATS server answers at nats://127.0.0.1:1" in err
        assert "crank up" in err
        assert "Traceback" not in err


def test_every_mistake_in_the_settings_is_one_line_and_code_2(crank: Crank, tmp_path: Path) -> None:
    """Flag, variable and file are named."""
    (tmp_path / "crank.yaml").write_text("replicas: none\nprefx: a\n")
    environment = {"CRANK_CONFIG": "crank.yaml", "CRANK_LOG_LEVEL": "loud"}
    done = crank("controller", "--http-port", "x", env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for start in (
        "--http-port must be",
        "CRANK_LOG_LEVEL must be",
        "crank.yaml: replicas must be",
        "crank.yaml: prefx is",
    ):
        assert any(line.startswith(f"crank: {start}") for line in lines), lines


async def test_a_controller_alone_serves_and_drains(nats_server: NatsServer, crank: Crank, tmp_path: Path) -> None:
    """Started by hand it writes its ready file, answers, and leaves with code 0."""
    environment = {"CRANK_NATS_URL": nats_server.url, "CRANK_HTTP_PORT": "0"}
    controller = _start(tmp_path, "controller", "--id", "c-9", "--ready-file", "ready.json", env=environment)
    done = _until_done(crank, "capabilities", "--json", env=environment)
    assert done.stdout == '{"capabilities":[]}\n'
    ready = json.loads((tmp_path / "ready.json").read_text())
    assert ready["pid"] == controller.pid
    assert ready["http"].startswith("http://127.0.0.1:")
    assert _stopped(controller, signal.SIGTERM)[0] == 0


def test_a_worker_that_cannot_open_what_it_needs_says_so_and_ends(
    crank: Crank, installation: Env, tmp_path: Path
) -> None:
    """Which lifespan, why and where; no traceback, and code 1, however it is started."""
    lifespan = '\n\n@worker.lifespan\ndef model() -> None:\n    raise OSError("no model.bin")\n'
    (tmp_path / "own.py").write_text(f'{_HEAD}{_BODY}{lifespan}\nif __name__ == "__main__":\n    worker.run()\n')
    line = (_HEAD + _BODY + lifespan).count("\n")
    environment = clean_environment() | installation
    by_itself = subprocess.run(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    for done in (crank("worker", "own:worker", env=installation), by_itself):
        assert done.returncode == 1, done.stderr
        assert "the lifespan model did not open: OSError: no model.bin" in done.stderr
        assert f"own.py:{line}" in done.stderr
        assert "Traceback" not in done.stderr

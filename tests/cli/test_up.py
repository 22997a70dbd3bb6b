"""``crank up`` from its first line to its last: ready, stopped, killed, half of it dead."""

from __future__ import annotations

import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Crank
from tests.cli.installation import Up, alive, kill, until_gone

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(*flags)`` starts ``crank up``; whatever a test leaves is ended."""
    started: list[Up] = []

    def run(*flags: str, env: dict[str, str] | None = None) -> Up:
        folder = tmp_path / f"up{len(started)}"
        folder.mkdir()
        started.append(Up(folder, *flags, env=env))
        return started[-1]

    yield run
    for up in started:
        up.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_when_it_says_so_and_leaves_nothing_when_asked_to_stop(
    start: Start, crank: Crank, how: signal.Signals
) -> None:
    """The ready file names where it is; a signal ends all of it with code 0."""
    up = start("--workers", "hello_world")
    ready = up.ready()
    assert ready["pid"] == up.process.pid
    with urllib.request.urlopen(f"{ready['http']}/readyz", timeout=5) as answer:
        assert answer.status == 200
    done = crank("request", "greet:hello_world", '{"name":"Ada"}', "--nats", ready["nats"])
    assert (done.returncode, done.stdout) == (0, '{"greeting":"Hello, Ada!"}')
    children = up.children()
    assert len([line for line in children.values() if "crank worker hello_world" in line]) == 1
    up.signal(how)
    code, out, err = up.ended()
    assert code == 0, err
    assert "hello_world-1" in out
    assert ready["nats"] in out
    assert f'request greet:hello_world \'{{"name":"Ada"}}\' \\\n      --nats {ready["nats"]}\n' in out
    assert max(map(len, (line for line in out.splitlines() if str(up.folder) not in line))) <= 80
    assert not up.ready_file.exists()
    assert [pid for pid in children if alive(pid)] == []


@pytest.mark.parametrize(
    ("victim", "named"),
    [
        ("crank worker", "worker hello_world-1 was killed by SIGKILL"),
        ("crank controller", "controller c-1 was killed by SIGKILL"),
        ("nats-server.conf", "nats-server ended"),
    ],
)
def test_when_one_of_them_dies_the_others_are_stopped_and_it_is_named(start: Start, victim: str, named: str) -> None:
    """Half an installation is worse than none: exit code 1, who it was, and its last words."""
    up = start("--workers", "hello_world")
    up.ready()
    children = up.children()
    kill(next(pid for pid, line in children.items() if victim in line and "/bin/sh" not in line))
    code, _, err = up.ended()
    assert code == 1
    assert named in err
    assert "  | " in err or "nats-server" in named
    assert until_gone(list(children)) == []


def test_nothing_outlives_a_parent_that_was_killed(start: Start) -> None:
    """A kill -9 leaves no server, no controller and no worker behind."""
    up = start("--workers", "hello_world,streaming")
    up.ready()
    children = list(up.children())
    assert len(children) >= 4
    kill(up.process.pid)
    assert until_gone(children) == []


def test_a_worker_that_cannot_start_is_told_with_its_reason(start: Start) -> None:
    """The log's end says why; nothing is left."""
    up = start("--workers", "json:worker")
    code, _, err = up.ended()
    assert code == 1
    assert "worker json-1 exited with 2" in err
    assert "json has no worker called 'worker'" in err
    assert not up.ready_file.exists()


def test_a_port_that_is_taken_is_said_before_anything_starts(crank: Crank) -> None:
    """Which flag to change, and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        nats = crank("up", "--nats-port", port, "--http-port", "0")
        assert (nats.returncode, nats.stdout) == (1, "")
        assert f"port {port} is taken" in nats.stderr
        assert "--nats-port" in nats.stderr
        http = crank("up", "--nats-port", "0", env={"CRANK_HTTP_PORT": port})
        assert http.returncode == 1
        assert "--http-port" in http.stderr


def test_two_in_one_folder_are_kept_apart(start: Start, crank: Crank) -> None:
    """A second one would write into the first one's store."""
    up = start("--workers", "none")
    up.ready()
    second = crank("up", "--nats-port", "0", "--http-port", "0", "--state", str(up.folder / ".crank"))
    assert second.returncode == 1
    assert "in use by another `crank up`" in second.stderr


def test_what_was_registered_is_still_there_after_a_restart(start: Start, crank: Crank, tmp_path: Path) -> None:
    """The state folder is the installation's memory."""
    state = str(tmp_path / "state")
    first = start("--workers", "hello_world", "--state", state)
    first.ready()
    first.signal(signal.SIGTERM)
    assert first.ended()[0] == 0
    second = start("--workers", "none", "--state", state)
    refused = crank("request", "greet:hello_world", '{"name":"Ada"}', "--nats", second.ready()["nats"])
    assert refused.returncode == 1
    assert "503 no_worker" in refused.stderr


def test_it_lists_what_it_started_and_nobody_from_before(start: Start, tmp_path: Path) -> None:
    """A worker that died is known for a while, and is none of these."""
    state = str(tmp_path / "state")
    first = start("--workers", "hello_world", "--state", state)
    first.ready()
    kill(next(pid for pid, line in first.children().items() if "crank worker" in line and "/bin/sh" not in line))
    assert first.ended()[0] == 1
    second = start("--workers", "streaming", "--state", state)
    second.ready()
    second.signal(signal.SIGTERM)
    _, out, _ = second.ended()
    assert "streaming-1" in out
    assert "hello_world-1" not in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workers", "no_such"], "there is no no_such"),
        (["--workers", "hello_wrld"], "did you mean hello_world?"),
        (["--workers", ""], "hello_world, streaming, email_parser"),
        (["--http-port", "many"], "--http-port must be a port"),
        (["--nats-port", "70000"], "--nats-port"),
        (["--config", "no.yaml"], "--config: no.yaml cannot be read"),
    ],
)
def test_wrong_usage_is_code_2(crank: Crank, flags: list[str], said: str) -> None:
    """Nothing is started for a typing mistake."""
    done = crank("up", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr

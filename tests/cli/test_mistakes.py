"""What people mistype and what machines refuse: said in a line that helps, with the right exit code, no traceback."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from bus.addresses import is_nats_url, public
from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def _shell(line: str, folder: Path, env: Env) -> subprocess.CompletedProcess[str]:
    """``line`` in a shell, where ``crank`` is the command."""
    script = f'crank() {{ "{sys.executable}" -P -m crank "$@"; }}; {line}'
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=folder, env=clean_environment() | env, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@full
@pytest.mark.parametrize(
    "command",
    ["workers", "workers --json", "request greet:hello_world '{\"name\":\"A\"}'", "request stream:text_events "
     "'{\"text\":\"a b\"}' --stream", "--version"],
)  # fmt: skip
def test_output_that_cannot_be_written_is_one_line(tmp_path: Path, installation: Env, command: str) -> None:
    """A full disk is told by its name."""
    done = _shell(f"crank {command} > /dev/full", tmp_path, installation)
    assert (done.returncode, done.stderr) == (1, "crank: No space left on device\n")


@full
def test_an_installation_that_cannot_be_told_of_is_stopped(tmp_path: Path) -> None:
    """By the same line; nobody could stop what they do not know of."""
    done = _shell("crank up --nats-port 0 --http-port 0 --workers none > /dev/full", tmp_path, {})
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "crank: No space left on device")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_output_is_output_that_nobody_reads(tmp_path: Path, installation: Env, closed: str) -> None:
    """Services start commands like this."""
    done = _shell(f'crank request greet:hello_world \'{{"name":"A"}}\' {closed}', tmp_path, installation)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_state_folder_that_is_a_file_is_one_line(crank: Crank, tmp_path: Path) -> None:
    """And nothing is started."""
    (tmp_path / "README.md").touch()
    done = crank("up", "--nats-port", "0", "--http-port", "0", "--state", "README.md")
    assert done.returncode == 1
    assert done.stderr == f"crank: the state folder {tmp_path / 'README.md'} cannot be used: it is a file\n"


@pytest.mark.parametrize("command", [["controller"], ["up", "--nats-port", "0"]])
@pytest.mark.parametrize(("place", "why"), [("no/such/ready.json", "No such file"), (".", "it is a folder")])
def test_a_ready_file_that_cannot_be_written_is_told_before_anything_starts(
    crank: Crank, command: list[str], place: str, why: str
) -> None:
    """Whoever waits for the file would wait for ever."""
    done = crank(*command, "--http-port", "0", "--ready-file", place)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--ready-file: {place} cannot be written: {why}" in done.stderr


@pytest.mark.parametrize("command", [["request", "a:b"], ["controller"]])
def test_what_is_no_nats_url_is_told_before_anything_is_connected_to(crank: Crank, command: list[str]) -> None:
    """By the flag that it came in."""
    done = crank(*command, "--nats", "http://127.0.0.1:4222")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a NATS URL, such as nats://127.0.0.1:4222" in done.stderr
    assert "--nats" in done.stderr


def test_a_nats_url_has_a_scheme_of_nats_and_a_host() -> None:
    """Several may be separated by commas."""
    assert all(map(is_nats_url, ("nats://a", "tls://u:p@[::1]:4222", "ws://a:1, wss://b")))
    assert not any(map(is_nats_url, ("4222", "bogus", "http://a", "nats://", "nats://a:b", "nats://a,", "", None)))
    assert not any(map(is_nats_url, ("nats://a..b", f"nats://{'a' * 64}.b")))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://a:1", "nats://a:1"),
        ("nats://user:secret@a:1", "nats://a:1"),
        ("nats://secret@a, tls://user:secret@[::1]:1,ws://b", "nats://a, tls://[::1]:1,ws://b"),
        ("nats://user:se,cret@a", "nats://a"),
        ("nats://user:secret://secret/secret@secret@a", "nats://a"),
        ("user:secret@a", "a"),
    ],
)
def test_what_is_told_of_an_address_holds_no_secret(url: str, told: str) -> None:
    """Neither of one nor of several, nor of what is no address."""
    assert public(url) == told


def test_each_mistake_in_the_settings_is_a_line_of_the_command(crank: Crank, tmp_path: Path) -> None:
    """As all that it says is: told by who says it."""
    (tmp_path / "bad.yaml").write_text("http_prot: 1\nreplicas: many\n")
    done = crank("controller", "--config", "bad.yaml")
    assert done.returncode == 2
    assert [line.partition("bad.yaml: ")[0] for line in done.stderr.splitlines()] == ["crank: ", "crank: "]


@pytest.mark.parametrize("command", [["workers"], ["controller"]])
def test_a_variable_that_is_no_nats_url_is_told_by_its_name(crank: Crank, command: list[str]) -> None:
    """Nobody looks for a flag that they did not write; and a password in it stays where it is."""
    done = crank(*command, env={"CRANK_NATS_URL": "nats://user:secret@host:port"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "CRANK_NATS_URL" in done.stderr
    assert "a NATS URL, such as nats://127.0.0.1:4222" in done.stderr
    assert "secret" not in done.stderr


def test_a_variable_that_nothing_reads_is_warned_of(crank: Crank, installation: Env) -> None:
    """It would be a setting that silently does not hold; yet a stray one stops nothing."""
    stray = {"CRANK_MAX_ATEMPTS": "3", "CRANK_SERVICE_HOST": "10.0.0.1", "CRANK_PORT": "tcp://10.0.0.1:4222"}
    done = crank("capabilities", "--json", env=installation | stray)
    assert done.returncode == 0
    assert done.stderr == (
        "crank: warning: CRANK_MAX_ATEMPTS is not a setting and is not read; did you mean CRANK_MAX_ATTEMPTS?\n"
    )


def test_a_command_that_is_nearly_one_is_told(crank: Crank) -> None:
    """As with everything else that is nearly right."""
    done = crank("requst", "a:b")
    assert done.returncode == 2
    assert "did you mean request?" in done.stderr


def test_an_example_in_an_error_is_one_that_works(crank: Crank, installation: Env) -> None:
    """What a message proposes is not refused in turn."""
    said = crank("request", "greet:hello_world", "--header", "foo").stderr
    example = said.rpartition("such as ")[2].strip()
    done = crank("request", "greet:hello_world", '{"name":"A"}', "--header", example, env=installation)
    assert done.returncode == 0, done.stderr


def test_a_body_that_was_forgotten_is_told_as_such(crank: Crank, installation: Env) -> None:
    """The commonest mistake of all."""
    done = crank("request", "greet:hello_world", env=installation)
    assert done.returncode == 1
    assert "the body was empty: no DATA was given" in done.stderr


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_no_color_holds_for_refusals_too(tmp_path: Path, installation: Env, variables: Env, coloured: bool) -> None:
    """As https://no-color.org asks; a variable set to nothing asks nothing."""
    ours, theirs = pty.openpty()
    environment = clean_environment() | installation | {"TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    subprocess.run(
        [sys.executable, "-P", "-m", "crank", "request", "no:such"],
        cwd=tmp_path, env=environment | variables, stdout=subprocess.DEVNULL, stderr=theirs, timeout=30, check=False,
    )  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert "404 no_such_capability" in said
    assert ("\x1b[" in said) is coloured


def test_a_worker_of_ones_own_that_is_nowhere_is_told_before_anything_starts(crank: Crank, tmp_path: Path) -> None:
    """Like the misspelled name of a reference worker."""
    (tmp_path / "shout.py").write_text((ROOT / "examples" / "shout.py").read_text())
    for target, said in (("nomod:worker", "there is no module 'nomod' in"), ("shout", "did you mean shout.py?")):
        done = crank("up", "--nats-port", "0", "--http-port", "0", "--workers", target)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr

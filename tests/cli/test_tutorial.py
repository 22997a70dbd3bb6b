"""The tutorial, followed to the letter: every command in its terminal, every output line for line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers import Client
from tests.cli.conftest import ROOT, clean_environment
from tests.cli.installation import Up

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
# What a test has already: the installation itself, and an installation of its own to ask.
_GIVEN = ("make install", "crank up")
_STEP = re.compile(r"```console\n(?P<console>.+?)```|```python\n(?P<python>.+?)```|(?P<stop>press Ctrl-C)", re.DOTALL)


class Reader:
    """Somebody with a clone, a shell, and one worker that runs in another terminal."""

    def __init__(self, clone: Path, url: str) -> None:
        self.clone = self.cwd = clone
        self.url = url
        self.env = clean_environment() | {"CRANK_NATS_URL": url, "TERM": "xterm-256color"}
        self.worker: subprocess.Popen[bytes] | None = None

    def open_terminal(self) -> None:
        self.cwd = self.clone

    def type(self, command: str) -> str:
        """Run ``command`` as a shell would, and keep where it left the shell; what was seen."""
        if command.startswith("export PATH"):
            self.open_terminal()
        state = self.clone / "state"
        script = f"{command}\nprintf '%s\\n%s' \"$PWD\" \"$PATH\" > '{state}'"
        seen = _on_a_terminal(["bash", "-c", script], self.cwd, self.env)
        cwd, self.env["PATH"] = state.read_text().split("\n")
        self.cwd = Path(cwd)
        return seen

    def start(self, command: str) -> None:
        self.worker = subprocess.Popen(command.split(), cwd=self.cwd, env=self.env, stderr=subprocess.DEVNULL)
        self.until("run:wordcount@1.0.0")

    def save(self, text: str) -> None:
        (self.cwd / re.match(r'"""(\S+)"""', text)[1]).write_text(text)  # type: ignore[index]
        self.until("greet:counted@1.0.0")

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.send_signal(signal.SIGINT)
            self.worker.wait(timeout=20)

    def until(self, offered: str) -> None:
        asyncio.run(self._until(offered))

    async def _until(self, offered: str) -> None:
        name, _, version = offered.partition("@")
        async with asyncio.timeout(20), await Client.connect(self.url) as client:
            while not any(
                f"{c['verb']}:{c['name']}" == name and version in c["versions"]
                for c in await client.listed("capabilities")
            ):
                await asyncio.sleep(0.05)


def _on_a_terminal(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """What a terminal of 80 columns shows, without its colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    process.wait(timeout=60)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown.decode())


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A clone in which everything is installed, beside a running ``crank up``."""
    bin_folder = tmp_path / "clone" / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("crank", "pytest"):
        file = bin_folder / name
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {name} "$@"\n')
        file.chmod(0o755)
    (tmp_path / "up").mkdir()
    up = Up(tmp_path / "up")
    reader = Reader(tmp_path / "clone", str(up.ready()["nats"]))
    try:
        yield reader
    finally:
        reader.stop()
        up.close()


def _shown(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, with the lines below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, lines


def _compare(command: str, lines: list[str], seen: str) -> None:
    """Every line is there, in this order; ``…`` stands for anything."""
    place = 0
    for line in lines:
        pattern = re.compile(r"\s*".join(map(re.escape, line.split())).replace("…", ".*"), re.DOTALL)
        found = pattern.search(seen, place)
        assert found is not None, f"{command}: no line {line!r} in\n{seen}"
        place = found.start() + (0 if line == "…" else 1)


def test_the_tutorial_can_be_followed_to_the_letter(reader: Reader) -> None:
    """From the first command to the last, each shows what the page says."""
    typed = 0
    for step in _STEP.finditer(TUTORIAL):
        if step["stop"]:
            reader.stop()
        elif step["python"]:
            reader.save(step["python"])
        else:
            for command, lines in _shown(step["console"]):
                typed += 1
                if command.startswith("crank worker "):
                    reader.start(command)
                elif command not in _GIVEN:
                    _compare(command, lines, reader.type(command))
    assert typed == TUTORIAL.count("\n$ ") > 15

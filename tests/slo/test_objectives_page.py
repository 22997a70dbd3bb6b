"""The page on objectives, followed: its files, its workers, its commands, and that the router is steered as it says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, clean_environment
from tests.cli.installation import Up

PAGE = (ROOT / "docs" / "objectives.md").read_text()
FILES = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
PROGRAM = re.search(r"```python\n(.+?)```", PAGE, re.DOTALL)[1]  # type: ignore[index]
COMMANDS = [line.strip() for line in re.findall(r"^    (crank .+)$", PAGE, re.MULTILINE)]


class Reader:
    """Somebody who has the page open, an installation, and both workers."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "slos" / "draw_thumbnail.yaml"
        self.file.parent.mkdir()
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.up = Up(folder, "--workers", "none")
        self.env = clean_environment() | {"PYTHONPATH": str(ROOT)}

    def start(self) -> None:
        """Have an installation, and both workers."""
        self.env["CRANK_NATS_URL"] = self.up.ready()["nats"]
        for command in COMMANDS:
            if command.startswith("crank worker"):
                command_line = [sys.executable, "-P", "-m", *command.split()]
                worker = subprocess.Popen(command_line, cwd=self.folder, env=self.env, stderr=subprocess.DEVNULL)
                self.workers.append(worker)
        while self.workers_seen() != {"cheap", "quick"}:
            pass

    def workers_seen(self) -> set[str]:
        """By the names that ``crank workers`` shows."""
        return {each["worker_id"] for each in json.loads(self.crank("workers", "--json"))["workers"]}

    def crank(self, *arguments: str) -> str:
        """Type a command; what it said."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "crank", *arguments],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def drawn_by(self, *options: str) -> str:
        """Who draws a thumbnail."""
        return json.loads(self.crank("request", "draw:thumbnail", '{"picture": "sunset"}', *options))["by"]  # type: ignore[no-any-return]

    def asks(self, times: int = 150) -> Counter[str]:
        """Run the page's program, which asks so often; how often each drew."""
        (self.folder / "ask.py").write_text(PROGRAM.replace("range(150)", f"range({times})"))
        done = subprocess.run([sys.executable, "ask.py"], cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Counter(ast.literal_eval(done.stdout.strip().removeprefix("Counter(").removesuffix(")")))

    def close(self) -> None:
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(timeout=20)
        self.up.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader at the beginning of the page."""
    found = Reader(tmp_path)
    try:
        yield found
    finally:
        found.close()


def test_the_page_steers_as_it_says(reader: Reader) -> None:
    """Cheap while that is in time, quick when it is not; a request's own haste and purse count."""
    reader.start()
    reader.file.write_text(FILES[0])
    # One in twenty is tried, by chance: nearly always 150 requests are enough, and here they have to be always.
    assert any(reader.asks(100)["cheap"] >= 90 for _ in range(8))
    assert reader.drawn_by("--latency-ms", "15") == "quick"
    reader.file.write_text(FILES[1])
    while '"p99_ms":20' not in reader.crank("slo", "status", "--json"):
        pass
    assert reader.asks(50)["quick"] >= 45
    assert reader.drawn_by("--budget-tokens", "5") == "cheap"
    status = json.loads(reader.crank("slo", "status", "--json"))
    assert "draw:thumbnail" in json.dumps(status)


@pytest.mark.parametrize("at", range(len(FILES)))
def test_every_file_of_the_page_is_right(tmp_path: Path, at: int) -> None:
    """As ``crank slo check`` finds."""
    (tmp_path / "slos").mkdir()
    (tmp_path / "slos" / "draw_thumbnail.yaml").write_text(FILES[at])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "crank", "slo", "check", "slos"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "draw:thumbnail" in done.stdout

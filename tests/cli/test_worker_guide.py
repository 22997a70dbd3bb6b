"""The guide for worker authors, run as it stands: its modules, its commands, and what it says of them."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callers import Answer, Client, CrankError
from tests.cli.conftest import ROOT, Crank, clean_environment

Env = dict[str, str]
GUIDE = (ROOT / "docs" / "workers.md").read_text()
BLOCKS = {found[1]: found[0] for found in re.findall(r'```python\n("""(\S+)"""\n.+?)```', GUIDE, re.DOTALL)}
COMMANDS = re.findall(r"^    crank (request .+)$", GUIDE, re.MULTILINE)
# What the guide's commands print: an answer, or a part of the refusal.
PRINTED = {
    "run:word_count": '{"words":3}',
    "guide:upper": "WORD",
    "guide:order": '{"item":"bread","count":2}',
    "guide:greet": "Hello, Ada, says attempt 1",
    "guide:count": "0\n1\n2\n",
    "notes:add": "1",
    "text:reverse": "olleh",
}


@pytest.fixture(scope="module")
def guided(installation: Env, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """The workers of the guide beside a running installation."""
    folder = tmp_path_factory.mktemp("guide")
    for name, text in BLOCKS.items():
        (folder / name).write_text(text)
    crank = [sys.executable, "-P", "-m", "crank"]
    own = [*crank, "worker", "guide:worker", "--id", "guide-1", "--reload"]
    notes = [*crank, "worker", "notes.py", "--id", "notes-1"]
    new = [*crank, "worker", "word_count:worker", "--id", "count-1"]
    environment = clean_environment() | installation
    subprocess.run(
        [*crank, "new", "worker", "word-count"], cwd=folder, env=environment, check=True, capture_output=True
    )
    started = [
        subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
        for command in (own, notes, new, [sys.executable, "other.py"])
    ]
    try:
        asyncio.run(_registered(installation["CRANK_NATS_URL"], {"guide-1", "notes-1", "count-1", "reverse-1"}))
        yield installation
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=15)


async def _registered(url: str, wanted: set[str]) -> None:
    async with asyncio.timeout(20), await Client.connect(url) as client:
        while not wanted <= {worker["worker_id"] for worker in await client.listed("workers")}:
            await asyncio.sleep(0.05)


def test_every_python_block_is_run() -> None:
    """So that none is left unrun."""
    assert set(BLOCKS) == {"guide.py", "notes.py", "test_notes.py", "other.py"}
    assert GUIDE.count("```python") == 4


def test_the_guides_test_passes_and_can_fail(tmp_path: Path) -> None:
    """As a person runs it, in the folder of the modules; with another answer it fails."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_notes.py"]
    for code in (0, 1):
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        (tmp_path / "guide.py").write_text(BLOCKS["guide.py"].replace("text.upper()", "text"))


def test_the_guides_modules_please_a_type_checker(tmp_path: Path) -> None:
    """What the guide shows is what people copy."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "notes.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_guides_commands_do_what_it_says(crank: Crank, guided: Env, command: str) -> None:
    """Word for word."""
    done = crank(*shlex.split(command), env=guided)
    if "101" in command:
        assert done.returncode == 1
        assert "We have a hundred at most" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTED[command.split()[1]]


async def test_what_the_guide_says_of_types_and_errors_holds(guided: Env) -> None:
    """Bytes, dicts, what does not fit, what may be tried again, what a foreign worker refuses."""
    async with await Client.connect(guided["CRANK_NATS_URL"]) as client:
        raw = {"Content-Type": "application/octet-stream"}
        assert (await client.request("guide:size", b"\xff" * 7, headers=raw)).json() == {"bytes": 7}
        assert (await client.request("guide:keys", {"b": 1, "a": 2})).json() == ["a", "b"]
        assert (await client.request("guide:order", {"item": "jam"})).json() == {"item": "jam", "count": 1}
        with pytest.raises(CrankError) as unfit:
            await client.request("guide:order", {"item": 3})
        assert unfit.value.code == 422
        with pytest.raises(CrankError) as busy:
            await client.request("guide:order", {"item": "tea"})
        assert (busy.value.code, busy.value.problem.worker_code) == (500, 503)
        assert busy.value.problem.retry_after_ms == 2000
        with pytest.raises(CrankError, match="nothing to reverse"):
            await client.request("text:reverse", "", headers={"Content-Type": "text/plain"})
        noted = await client.request("notes:add", "mixed Case")
        assert (noted.headers["x-note"], noted.content_type) == ("MIXED CASE", "")
        assert (await client.request("notes:loud", "loud")).body == b"LOUD"
        frames = [frame.kind async for frame in client.stream("guide:count", 1)]
        assert frames == ["progress", "chunk", "end"]


@pytest.mark.parametrize("capability", ["guide:wait", "guide:grind"])
async def test_work_that_nobody_waits_for_gives_its_place_back(guided: Env, capability: str) -> None:
    """Four fit at once; four that ran out of time leave room for the next one."""
    async with await Client.connect(guided["CRANK_NATS_URL"]) as client:
        lost = (client.request(capability, 30, timeout_ms=200) for _ in range(4))
        for outcome in await asyncio.gather(*lost, return_exceptions=True):
            assert isinstance(outcome, CrankError | Answer)
        assert (await client.request(capability, 0, timeout_ms=3000)).body == b"done"

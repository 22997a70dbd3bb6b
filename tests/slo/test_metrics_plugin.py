"""``pytest --metrics-output FILE`` as a user's project has it: what it counts, in all of xdist's processes too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from crank.slo.measured import read
from subjects.tokens import CapabilityId
from tests.cli.conftest import clean_environment

# A user's tests: what they ask for on purpose, and what of it counts.
_ASKING = """
import asyncio, contextlib
import pytest
from crank import Client, CrankError, PermanentError, Worker
from crank.testing import serving

worker = Worker("mixed")

@worker.capability("say:good")
async def good(text: str) -> str:
    return text

@worker.capability("say:stream", streaming=True)
async def stream(text: str):
    yield text
    yield text

@worker.capability("say:bad")
async def bad(text: str) -> str:
    raise PermanentError("as you like", code=int(text))

@worker.capability("say:never")
async def never(text: str) -> str:
    await asyncio.sleep(60)

async def ask(capability, *words, **options):
    async with serving(worker) as client:
        for word in words:
            with contextlib.suppress(CrankError):
                await client.request(capability, word, **options)

def test_answers():
    asyncio.run(ask("say:good", *"abcdefgh"))

def test_a_key_counts_once():
    asyncio.run(ask("say:good", "a", "a", "a", idempotency_key="k"))

def test_a_dry_run_does_not_count():
    asyncio.run(ask("say:good", "a", dry_run=True))

def test_a_stream_counts_once():
    asyncio.run(ask("say:stream", "a"))

def test_what_the_worker_refuses_is_an_answer_and_what_it_breaks_is_a_failure():
    asyncio.run(ask("say:bad", "404", "503", "500"))

def test_mistakes_of_the_caller_do_not_count():
    asyncio.run(ask("say:good", "a", version="^9"))
    asyncio.run(ask("say:nothing", "a"))

def test_a_deadline_is_a_failure_and_giving_up_is_none():
    asyncio.run(ask("say:never", "a", timeout_ms=30))
    async def give_up():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ask("say:never", "a"), 0.05)
    asyncio.run(give_up())

def test_a_client_that_is_closed_was_failed_by_nobody():
    async def close():
        async with serving(worker) as client:
            waiting = asyncio.ensure_future(client.request("say:never", "a"))
            await asyncio.sleep(0.05)
            await client.close()
            with pytest.raises(CrankError):
                await waiting
    with contextlib.suppress(Exception):  # serving wants to close it itself
        asyncio.run(close())
"""
_CRASHING = """
import os

def test_crash():
    os._exit(1)
"""
_WITHOUT = """
import sys

def test_nothing_of_ours_was_imported():
    assert not {"callers", "subjects", "msgspec", "crank.slo.measured", "crank.slo.recording"} & set(sys.modules)
"""


def _pytest(folder: Path, content: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(content)
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        *arguments,
        "test_it.py",
    ]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)


def test_every_request_of_the_session_counts_as_its_caller_saw_it(tmp_path: Path) -> None:
    """Answers with their times, failures that were not the caller's fault, and nothing else; in all processes."""
    file = tmp_path / "made" / "m.json"
    ran = _pytest(tmp_path, _ASKING, "--metrics-output", str(file), "-n", "2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = read(file)
    counted = {name: (measured.requests, measured.failed, measured.timed) for name, measured in found.items()}
    assert counted == {"say:good": (9, 0, 9), "say:stream": (1, 0, 1), "say:bad": (3, 2, 1), "say:never": (1, 1, 0)}
    assert 0 < (found[CapabilityId("say:good")].quantile(0.5) or 0.0) < 1000
    assert f"14 measured requests: {file}" in ran.stdout


def test_what_a_crashed_process_measured_is_said_to_be_missing(tmp_path: Path) -> None:
    """The rest is written all the same."""
    file = tmp_path / "m.json"
    ran = _pytest(tmp_path, _CRASHING, "--metrics-output", str(file), "-n", "1", "--max-worker-restart", "0")
    assert "1 processes crashed; what they measured is missing." in ran.stdout
    assert read(file) == {}


def test_a_file_that_cannot_be_written_is_told_before_the_tests_run(tmp_path: Path) -> None:
    """Late is too late."""
    (tmp_path / "folder").mkdir()
    ran = _pytest(tmp_path, _WITHOUT, "--metrics-output", str(tmp_path / "folder"))
    assert ran.returncode == 4
    assert "folder cannot be written: Is a directory" in ran.stderr


def test_without_the_option_nothing_is_measured_and_nothing_imported(tmp_path: Path) -> None:
    """The plugin is loaded in every project where Crank is installed."""
    ran = _pytest(tmp_path, _WITHOUT)
    assert ran.returncode == 0, ran.stdout

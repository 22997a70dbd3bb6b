"""A short chaos run on real processes: the same as `make chaos`, with less of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import ROOT, clean_environment
from tests.cli.installation import until_gone


def _command(*more: str) -> list[str]:
    return [sys.executable, "-P", "-m", "chaos", "--seconds", "10", "--rate", "100", *more]


def test_ten_seconds_of_chaos_break_no_law(tmp_path: Path) -> None:
    """Each kind of process is killed, frozen and restarted under load: nothing twice, nothing lost, all answered."""
    report = tmp_path / "chaos.json"
    ran = subprocess.run(
        _command("--json", str(report)),
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(report.read_bytes())
    assert told["broken"] == {}
    assert len({(trouble["who"], trouble["what"]) for trouble in told["troubles"]}) >= 12
    assert told["operations"] == 1000
    assert told["executions"] > 500
    assert told["jobs"].get("done", 0) > 50
    assert told["outcomes"]["keyed: answer"] > 100
    assert told["replayed"] > 10


def test_a_run_that_is_stopped_takes_its_processes_with_it(tmp_path: Path) -> None:
    """SIGTERM in the middle of it: all that it started is gone, the frozen too, and so is its folder."""
    env = clean_environment() | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(_command(), cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as chaos:
        assert chaos.stdout is not None
        while "load" not in (said := chaos.stdout.readline()):
            assert said, "it ended before there was load"
        (folder,) = tmp_path.glob("crank-chaos-*")
        time.sleep(3)  # for some trouble to be under way
        ours = _with_folder(folder)
        assert len(ours) >= 6
        chaos.send_signal(signal.SIGTERM)
        chaos.stdout.read()
        assert chaos.wait(timeout=60) == 130
    assert until_gone(ours) == []
    assert not folder.exists()


def _with_folder(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"CHAOS_FOLDER={folder}".encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found

"""The ``crank`` command as a person runs it: a process of its own, with nothing of ours imported here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Crank = Callable[..., subprocess.CompletedProcess[str]]


def clean_environment() -> dict[str, str]:
    """The environment without settings of whoever runs the tests, and with this checkout importable."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CRANK_")}
    binary = os.environ.get("CRANK_NATS_SERVER")
    return kept | {"PYTHONPATH": str(ROOT)} | ({"CRANK_NATS_SERVER": binary} if binary else {})


@pytest.fixture
def crank(tmp_path: Path) -> Crank:
    """``crank(*arguments, env={}, stdin=None)`` runs the command in an empty folder and returns what it said."""

    def run(
        *arguments: str, env: dict[str, str] | None = None, stdin: str | None = None, cwd: Path = tmp_path
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "crank", *arguments],
            env=clean_environment() | (env or {}),
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running ``crank up`` with all workers, shared by the tests that only ask; its variables for ``crank``."""
    from tests.cli.installation import Up

    up = Up(tmp_path_factory.mktemp("up"))
    try:
        yield {"CRANK_NATS_URL": str(up.ready()["nats"])}
    finally:
        up.close()

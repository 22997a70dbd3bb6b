"""The command on a terminal of 80 columns, as a person sees it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from io import FileIO
from pathlib import Path

from tests.cli.conftest import clean_environment


async def on_terminal(
    folder: Path, *arguments: str, env: dict[str, str] | None = None, typed: str = ""
) -> tuple[int, str]:
    """Exit code, and what the terminal received; ``typed`` waits there to be read."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "crank", *arguments],
        cwd=folder, env=clean_environment() | {"TERM": "xterm"} | (env or {}),
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(ours, "rb+", buffering=0) as screen:
        screen.write(typed.encode())
        return await asyncio.to_thread(_drain, screen, process)


def _drain(screen: FileIO, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    received = b""
    try:
        while piece := screen.read(4096):
            received += piece
    except OSError:  # Linux ends a terminal that nobody holds with an error
        pass
    return process.wait(timeout=10), received.decode()

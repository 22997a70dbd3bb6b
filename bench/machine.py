"""Owns what a figure means nothing without: the machine, the versions, and how busy it was. Knows no measurement."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from crank.natsd import NatsServerError, find_binary

_PACKAGES = ("crank-router", "nats-py", "uvloop", "msgspec", "faststream")


class Machine(NamedTuple):
    """Where, when and with what something was measured. ``load`` is runnable processes in the last minute, or None."""

    day: str
    system: str
    cpu: str
    cores: int
    load: float | None
    versions: dict[str, str]


def this_machine() -> Machine:
    """Look at this machine; what cannot be found out says so."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {"python": platform.python_version(), "nats-server": _server_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return Machine(time.strftime("%Y-%m-%d"), platform.platform(terse=True), _cpu(), cores, load, versions)


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _server_version() -> str:
    with contextlib.suppress(NatsServerError, OSError, subprocess.SubprocessError):
        said = subprocess.run([find_binary(), "--version"], capture_output=True, text=True, timeout=10, check=True)
        return said.stdout.strip().rpartition("v")[2]
    return "unknown"


def busy_seconds() -> float | None:
    """The processor time that this machine has spent so far, on all cores and for everybody; None where unknown."""
    try:
        user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    except (OSError, ValueError):
        return None
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int | None) -> float | None:
    """The processor time that a process has used so far, all its threads; None where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")

"""Owns judging this side: settings from file and variables, and the versions of Python and of what we stand on.

Nothing is connected to. ``crank doctor`` calls it before ``examine``.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from controller.settings import ControllerSettings, SettingsError, load_settings, unknown_variables
from crank.doctoring.findings import Finding, ok, problem, warning
from subjects.tokens import TOKEN_RULE, is_token

SETTINGS, VERSIONS = "settings", "versions"
# The series whose inside bus/client.py relies on; pyproject.toml says the same.
NATS_PY_SERIES = "2.16."
UNKNOWN = "0.0.0"


def judge_settings(
    config: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[ControllerSettings | None, list[Finding]]:
    """The settings as a controller started here would read them (None: it would not start), and what is found."""
    findings = [warning(SETTINGS, *line.split("; ", 1)) for line in unknown_variables(environ)]
    worker_id = environ.get("CRANK_WORKER_ID")
    if worker_id and not is_token(worker_id):
        findings.append(problem(SETTINGS, f"CRANK_WORKER_ID is {worker_id!r:.60}", f"it must be {TOKEN_RULE}"))
    try:
        settings = load_settings(config, flags)
    except SettingsError as error:
        mend = "correct it first: no controller starts with it, and nothing else was looked at"
        findings += [problem(SETTINGS, line, mend) for line in str(error).splitlines()]
        return None, findings
    return settings, findings or [ok(SETTINGS, "file and variables can be read, and every CRANK_ variable is known")]


def version_of(package: str) -> str:
    """The installed version; ``UNKNOWN`` where it is run from a folder of sources."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def judge_versions(nats_py: str, crank: str) -> Finding:
    """Whether what we stand on is what we are made for."""
    ours = crank if crank != UNKNOWN else "(run from its source folder, not installed)"
    said = f"crank {ours}, nats-py {nats_py}, Python {platform.python_version()}"
    if not nats_py.startswith(NATS_PY_SERIES):
        mend = f"install nats-py {NATS_PY_SERIES}x: Crank relies on its inside"
        return warning(VERSIONS, said, mend)
    return ok(VERSIONS, said)

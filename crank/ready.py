"""Owns the ready file: one JSON line that says where an installation is, there once requests can be served."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path


def prepare_ready(path: Path) -> None:
    """See that ``path`` can be written, and take away what a former run left there.

    Raises:
        OSError: it cannot be written there.

    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    draft = _draft(path)
    draft.touch()
    draft.unlink()
    path.unlink(missing_ok=True)


def write_ready(path: Path, *, nats: str, http: str) -> None:
    """Write ``{"nats": url, "http": url, "pid": …}``; whoever waits for the file never sees half of it.

    Raises:
        OSError: it cannot be written there.

    """
    draft = _draft(path)
    draft.write_text(json.dumps({"nats": nats, "http": http, "pid": os.getpid()}) + "\n")
    draft.replace(path)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")

"""Owns the ready file: one JSON line that says where an installation is, there once requests can be served."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_ready(path: Path, *, nats: str, http: str) -> None:
    """Write ``{"nats": url, "http": url, "pid": …}``; whoever waits for the file never sees half of it.

    Raises:
        OSError: it cannot be written there.

    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"nats": nats, "http": http, "pid": os.getpid()}) + "\n")
    draft.replace(path)

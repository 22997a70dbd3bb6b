"""Owns finding the worker that ``crank worker`` and ``crank up`` name: one of the reference workers, or the user's own.

The user's folder goes to the end of the import path, so that a ``workers/`` of theirs never replaces ours; where
that would silently import something else than they mean, it is refused by name.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers import Worker


class TargetError(Exception):
    """There is no such worker, or it cannot be imported; the message says what to do."""


def name_of(target: str) -> str:
    """A token to build a worker id from: ``hello_world``, or the last part of the module."""
    return re.sub(r"[^A-Za-z0-9_]", "_", target.partition(":")[0].rpartition(".")[2])[:48] or "worker"


def load_worker(target: str, folder: Path) -> Worker:
    """The worker that ``target`` names: ``hello_world``, or ``module:attr`` seen from ``folder``.

    Raises:
        TargetError: with what is wrong with it.

    """
    from workers import UnknownWorker
    from workers.catalogue import find

    module_name, own, _ = target.partition(":")
    if own:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        _refuse_shadowed(module_name.partition(".")[0], folder)
    try:
        return find(target)
    except UnknownWorker as error:
        raise TargetError(f"{error}{_place(error.__cause__, folder)}") from None


def _refuse_shadowed(top: str, folder: Path) -> None:
    """A file of the user's that Python would pass over, because something of that name comes before it."""
    theirs = next((path for path in (folder / f"{top}.py", folder / top) if path.exists()), None)
    if theirs is None or not top.isidentifier():
        return
    spec = importlib.util.find_spec(top)
    found = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec is not None else []
    if not any(Path(place).is_relative_to(folder) for place in found):
        owner = next((place for place in found if place), "Python itself")
        raise TargetError(f"{theirs} has the name of the module {top!r} in {owner}, which comes first; rename yours")


def _place(cause: BaseException | None, folder: Path) -> str:
    """At which line of the user's an import failed, if at one."""
    if isinstance(cause, SyntaxError):
        return f"\n  at {cause.filename}:{cause.lineno}"
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else ()
    theirs = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"\n  at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""

"""Owns finding the worker that ``crank worker`` and ``crank up`` name: one of the reference workers, or the user's own.

The user's folder goes to the end of the import path, so that a ``workers/`` of theirs never replaces ours; where
that would silently import something else than they mean, it is refused by name.
"""

from __future__ import annotations

import importlib
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
    return re.sub(r"[^A-Za-z0-9_-]", "_", target.partition(":")[0].rpartition(".")[2])[:48] or "worker"


def load_worker(target: str, folder: Path) -> Worker:
    """The worker that ``target`` names: ``hello_world``, or ``module:attr`` seen from ``folder``.

    Raises:
        TargetError: with what is wrong with it.

    """
    module_name, colon, attr = target.partition(":")
    if not colon:
        return _reference(target)
    if not attr or not all(part.isidentifier() for part in module_name.split(".")):
        raise TargetError(f"{target!r} is not MODULE:ATTR, such as shout:worker for the name `worker` in shout.py")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    _refuse_shadowed(module_name, folder)
    return _attribute(_import(module_name, folder), attr, target)


def _reference(name: str) -> Worker:
    from workers.reference import find, load

    known = find()
    if name not in known:
        raise TargetError(
            f"there is no worker {name!r}; there are: {', '.join(sorted(known))}; or name your own as MODULE:ATTR"
        )
    return load(name)


def _refuse_shadowed(module_name: str, folder: Path) -> None:
    """A file of the user's that Python would pass over, because something of that name comes before it."""
    top = module_name.partition(".")[0]
    theirs = next((path for path in (folder / f"{top}.py", folder / top) if path.exists()), None)
    if theirs is None:
        return
    spec = importlib.util.find_spec(top)
    found = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec is not None else []
    if not any(place and Path(place).is_relative_to(folder) for place in found):
        owner = next((place for place in found if place), "Python itself")
        raise TargetError(f"{theirs} has the name of the module {top!r} in {owner}, which comes first; rename yours")


def _import(module_name: str, folder: Path) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise TargetError(f"there is no module {module_name!r} in {folder}") from None
        raise TargetError(_place(error)) from None
    except Exception as error:  # noqa: BLE001  # whatever the user's module raises, they want to know where
        raise TargetError(_place(error)) from None


def _place(error: Exception) -> str:
    """What went wrong, and at which line of the user's."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {error}"


def _attribute(module: object, attr: str, target: str) -> Worker:
    from workers import Worker

    found = getattr(module, attr, None)
    if isinstance(found, Worker):
        return found
    names = [name for name, value in vars(module).items() if isinstance(value, Worker)]
    has = f"it has: {', '.join(names)}" if names else "it has none; make one with `worker = Worker(…)`"
    raise TargetError(f"{target} is not a Worker; {has}")

"""Owns finding the worker that ``crank worker`` and ``crank up`` name: one of the reference workers, or the user's own.

The user's folder goes to the end of the import path, so that a ``workers/`` of theirs never replaces ours; where
that would silently import something else than they mean, it is refused by name.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers import Worker


OWN = ("bus", "callers", "controller", "crank", "subjects", "workers")
"""Our packages, by the names that a user's modules had better not have."""


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

    check_target(target, folder)
    try:
        worker = find(target)
    except UnknownWorker as error:
        cause = error.__cause__
        hidden = _hidden(folder).get(_module_of(cause))
        told = _shadowed(hidden) if hidden is not None else str(error)
        raise TargetError(f"{told}{_place(cause, folder)}") from None
    if not worker.offers:
        raise TargetError(f'{target} offers nothing; decorate a function of it with `@worker.capability("verb:name")`')
    return worker


def check_target(target: str, folder: Path) -> None:
    """Raise ``TargetError`` for what can be seen without importing ``target``; ``folder`` joins the import path."""
    from workers.catalogue import REFERENCE

    module, own, _ = target.partition(":")
    if target.replace("-", "_") in REFERENCE:
        return
    if meant := _meant(target, folder):
        raise TargetError(f"there is no worker {target!r}; did you mean {meant}?")
    if not own or not all(part.isidentifier() for part in module.split(".")):
        return  # the catalogue knows what to say
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    top = module.partition(".")[0]
    if theirs := _passed_over(top, folder):
        raise TargetError(_shadowed(theirs))
    if not _found(top):
        raise TargetError(f"there is no module {top!r} in {folder}, and none on the import path")
    hidden = _hidden(folder)
    for name, line in _imports(folder.joinpath(*module.split("."))) if hidden else ():
        if name in hidden and name != "crank":  # what is imported from there is ours, and meant
            raise TargetError(f"{_shadowed(hidden[name])}\n  imported at line {line} of {module}")


def _meant(target: str, folder: Path) -> str | None:
    """``shout:worker`` for ``shout``, ``shout.py`` and ``shout.py:worker`` where the folder has such a file."""
    place, own, attribute = target.partition(":")
    bare = place.removesuffix(".py")
    module = bare.removeprefix("./").replace("/", ".")
    if (own and bare == place and "/" not in place) or not all(part.isidentifier() for part in module.split(".")):
        return None
    return f"{module}:{attribute or 'worker'}" if folder.joinpath(f"{bare}.py").is_file() else None


def _hidden(folder: Path) -> dict[str, Path]:
    """The modules of the folder that are never found, because Crank's own come first."""
    found = {name: _passed_over(name, folder) for name in OWN}
    return {name: path for name, path in found.items() if path is not None}


def _passed_over(top: str, folder: Path) -> Path | None:
    """The folder's own module of this name where Python finds another one first."""
    file, package = folder / f"{top}.py", folder / top
    found = _found(top)
    if not found or any(Path(place).is_relative_to(folder) for place in found):
        return None
    if file.is_file():
        return file
    # A folder without Python in it, such as a clone of Crank, is no module that anybody means.
    return package if any(package.glob("*.py")) else None


def _shadowed(theirs: Path) -> str:
    top = theirs.stem
    if top in OWN:
        return (
            f"{theirs} has the name of Crank's own module {top!r}, which comes first; rename yours "
            "(what Crank offers is imported from `crank`)"
        )
    owner = next(iter(_found(top)), "")
    return f"{theirs} has the name of the module {top!r} in {owner or 'Python itself'}, which comes first; rename yours"


def _found(top: str) -> list[str]:
    """Where Python finds a module; empty where it finds none. Nothing is imported."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]


def _imports(place: Path) -> list[tuple[str, int]]:
    """The top-level modules that a source file imports, and at which lines; nothing for one that cannot be read."""
    source = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name.partition(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module.partition(".")[0], node.lineno))
    return found


def _module_of(cause: BaseException | None) -> str:
    """The top-level module in which something was looked for in vain."""
    if isinstance(cause, ImportError):
        return (cause.name or "").partition(".")[0]
    missing = cause.obj if isinstance(cause, AttributeError) else None
    return missing.__name__.partition(".")[0] if isinstance(missing, ModuleType) else ""


def _place(cause: BaseException | None, folder: Path) -> str:
    """At which line of the user's an import failed, if at one."""
    if isinstance(cause, SyntaxError):
        return f"\n  at {cause.filename}:{cause.lineno}"
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else ()
    theirs = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    return f"\n  at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""

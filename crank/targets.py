"""Owns finding the worker that ``crank worker`` and ``crank up`` name: one of the reference workers, or the user's own.

The user's folder goes to the end of the import path, so that nothing of theirs ever replaces ours, and a ``workers/``
in it is searched after ours; where that would silently import something else than they mean, ``crank.shadows`` tells.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from crank.shadows import hidden_in, imports_of, is_found, passed_over, shadowed, shared_names

if TYPE_CHECKING:
    from workers import Worker

# Stands for the user's folder where a module in it cannot be imported by its own name.
_PROJECT = "crank_project"


class TargetError(Exception):
    """There is no such worker, or it cannot be imported; the message says what to do."""


class _Place(NamedTuple):
    """A target of the user's own: the file, if one is named, or the module, and the attribute in it."""

    called: str
    attribute: str
    file: Path | None


def name_of(target: str) -> str:
    """A token to build a worker id from: ``hello_world``, or the last part of the module or file."""
    place = target.partition(":")[0].removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9_]", "_", re.split(r"[./]", place)[-1])[:48] or "worker"


def is_own(target: str) -> bool:
    """Whether ``target`` is written as a worker of the user's own, and not as the name of one of ours."""
    return ":" in target or target.endswith(".py")


def load_worker(target: str, folder: Path) -> Worker:
    """The worker that ``target`` names: ``hello_world``, or ``module:attr`` or ``file.py`` seen from ``folder``.

    Raises:
        TargetError: with what is wrong with it.

    """
    from workers import UnknownWorker
    from workers.catalogue import find, worker_in

    check_target(target, folder)
    called, attribute, file = _place_of(target, folder)
    try:
        worker = find(target) if file is None else worker_in(_module_of(file, folder), attribute, called)
    except UnknownWorker as error:
        cause = error.__cause__
        hidden = hidden_in(folder).get(_missing(cause))
        told = shadowed(hidden) if hidden is not None else str(error)
        raise TargetError(f"{told}{_line(cause, folder)}") from None
    if not worker.offers:
        raise TargetError(f'{target} offers nothing; decorate a function of it with `@worker.capability("verb:name")`')
    return worker


def check_target(target: str, folder: Path) -> None:
    """Raise ``TargetError`` for what can be seen without importing ``target``; ``folder`` joins the import path."""
    from workers.catalogue import REFERENCE

    module, attribute, file = _place_of(target, folder)
    if not attribute and file is None:
        if target.replace("-", "_") not in REFERENCE and folder.joinpath(f"{target}.py").is_file():
            raise TargetError(f"there is no worker {target!r}; did you mean {target}.py?")
        return  # one of ours, or none; the catalogue knows what to say
    if file is None and not all(part.isidentifier() for part in module.split(".")):
        return
    root = folder if file is None else _root(file, folder)
    _join(root)
    source = file or folder.joinpath(*module.split("."))
    if source.is_relative_to(root / "workers"):
        for theirs in shared_names(root):
            raise TargetError(
                f"{theirs} has the name of Crank's own module workers.{theirs.stem}, which comes first; rename yours"
            )
    if file is None:
        _check_module(module, attribute, folder)
    elif not file.is_file():
        raise TargetError(f"there is no file {file}")
    hidden = hidden_in(folder)
    for name, line in imports_of(source) if hidden else ():
        if name in hidden and name != "crank":  # what is imported from there is ours, and meant
            raise TargetError(f"{shadowed(hidden[name])}\n  imported at line {line} of {module}")


def _join(root: Path) -> None:
    """Put a folder of the user's at the end of the import path, and its ``workers`` beside ours."""
    import workers

    theirs = str(root / "workers")
    if str(root) not in sys.path:
        sys.path.append(str(root))
    if os.path.isdir(theirs) and theirs not in workers.__path__:
        workers.__path__.append(theirs)


def _check_module(module: str, attribute: str, folder: Path) -> None:
    top = module.partition(".")[0]
    if theirs := passed_over(top, folder):
        source = folder.joinpath(*module.split(".")).with_suffix(".py")
        if source.is_file():
            what = f"{source.relative_to(folder)}" + ("" if attribute == "worker" else f":{attribute}")
            raise TargetError(f"{shadowed(theirs)}; or name the file: {what}")
        raise TargetError(shadowed(theirs))
    if not is_found(top):
        raise TargetError(f"there is no module {top!r} in {folder}, and none on the import path")


def _place_of(target: str, folder: Path) -> _Place:
    place, colon, attribute = target.partition(":")
    if place.endswith(".py"):
        return _Place(place, attribute or "worker", Path(os.path.normpath(folder / place)))
    return _Place(place, attribute or ("worker" if colon else ""), None)


def _module_of(file: Path, folder: Path) -> str:
    """The name to import a file by: its own, unless another module would be found under that."""
    root = _root(file, folder)
    parts = file.relative_to(root).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    own = all(part.isidentifier() for part in parts) and is_found(parts[0], root)
    if own:
        return ".".join(parts)
    project = sys.modules[_PROJECT] = ModuleType(_PROJECT)
    project.__path__ = [str(root)]
    return ".".join((_PROJECT, *parts))


def _root(file: Path, folder: Path) -> Path:
    """The folder that a file's own imports start from."""
    return folder if file.is_relative_to(folder) else file.parent


def _missing(cause: BaseException | None) -> str:
    """The top-level module in which something was looked for in vain."""
    if isinstance(cause, ImportError):
        return (cause.name or "").partition(".")[0]
    missing = cause.obj if isinstance(cause, AttributeError) else None
    return missing.__name__.partition(".")[0] if isinstance(missing, ModuleType) else ""


def _line(cause: BaseException | None, folder: Path) -> str:
    """At which line of the user's an import failed, if at one."""
    if isinstance(cause, SyntaxError):
        return f"\n  at {cause.filename}:{cause.lineno}"
    frames = traceback.extract_tb(cause.__traceback__) if cause is not None else ()
    python = (sys.prefix, sys.base_prefix)  # either may lie within the folder
    theirs = [
        frame
        for frame in frames
        if Path(frame.filename).is_relative_to(folder) and not frame.filename.startswith(python)
    ]
    return f"\n  at {theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""

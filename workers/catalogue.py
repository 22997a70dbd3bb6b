"""Owns finding a worker: one of ours by name, or anyone's by ``module:attribute``. Imports nothing before it is asked.

The command line calls it. What lies on the import path is the caller's affair.
"""

from __future__ import annotations

import difflib
import importlib

from workers.errors import UnknownWorker
from workers.worker import Worker

REFERENCE = ("hello_world", "streaming", "email_parser")
"""The reference workers; each is a module in ``workers.reference`` with the attribute ``worker``."""


def find(name: str) -> Worker:
    """The reference worker called ``name`` (``hello-world`` is ``hello_world``), or ``load`` of ``module:attribute``.

    Raises:
        UnknownWorker: there is none; the message lists what there is.

    """
    if ":" in name:
        return load(name)
    known = name.replace("-", "_")
    if known not in REFERENCE:
        near = difflib.get_close_matches(known, REFERENCE, 1)
        hint = f"did you mean {near[0]}? Known" if near else "known"
        raise UnknownWorker(f"there is no reference worker {name!r}; {hint} are {', '.join(REFERENCE)}")
    return load(f"workers.reference.{known}:worker")


def load(place: str) -> Worker:
    """The worker at ``module:attribute``; the attribute defaults to ``worker``.

    Raises:
        UnknownWorker: no such module or attribute, or it is no worker. An error inside the module is its cause.

    """
    module_name, _, attribute = place.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute or "worker")):
        raise UnknownWorker(f"{place!r} is not module:attribute, such as my_workers.shout:worker")
    return worker_in(module_name, attribute, module_name)


def worker_in(module_name: str, attribute: str, called: str) -> Worker:
    """The worker in the module, which people know as ``called``.

    Raises:
        UnknownWorker: as ``load``.

    """
    attribute = attribute or "worker"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UnknownWorker(f"there is no module {called!r} on the import path") from None
        raise UnknownWorker(f"{called} needs {error.name!r}, which is not installed") from error
    except Exception as error:
        raise UnknownWorker(f"{called} cannot be imported: {type(error).__name__}: {error}") from error
    worker = getattr(module, attribute, None)
    if isinstance(worker, Worker):
        return worker
    found = sorted(name for name, value in vars(module).items() if isinstance(value, Worker))
    hint = f"workers there: {', '.join(found)}" if found else "there is none in that module"
    raise UnknownWorker(f"{called} has no worker called {attribute!r}; {hint}")

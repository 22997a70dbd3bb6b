"""What users import. Each name is fetched when it is used: a shell that completes a command loads no NATS client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callers import Client as Client
    from callers import CrankError as CrankError
    from callers import Pending as Pending
    from workers import Context as Context
    from workers import DeclarationError as DeclarationError
    from workers import Depends as Depends
    from workers import LifespanError as LifespanError
    from workers import PermanentError as PermanentError
    from workers import RegistrationRefused as RegistrationRefused
    from workers import Response as Response
    from workers import RetryableError as RetryableError
    from workers import Worker as Worker
    from workers import WorkerError as WorkerError

_HOMES = {
    "Client": "callers",
    "Context": "workers",
    "CrankError": "callers",
    "DeclarationError": "workers",
    "Depends": "workers",
    "LifespanError": "workers",
    "Pending": "callers",
    "PermanentError": "workers",
    "RegistrationRefused": "workers",
    "Response": "workers",
    "RetryableError": "workers",
    "Worker": "workers",
    "WorkerError": "workers",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from crank.shadows import check_ours

        check_ours()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'crank' has no attribute {name!r}")

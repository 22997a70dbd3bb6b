"""The worker SDK: declare capabilities with functions, and serve them."""

from pkgutil import extend_path

from workers.context import Context
from workers.dependencies import Depends
from workers.errors import (
    DeclarationError,
    LifespanError,
    PermanentError,
    RegistrationRefused,
    RetryableError,
    UnknownWorker,
    WorkerError,
)
from workers.response import Response
from workers.worker import Worker

__all__ = [
    "Context",
    "DeclarationError",
    "Depends",
    "LifespanError",
    "PermanentError",
    "RegistrationRefused",
    "Response",
    "RetryableError",
    "UnknownWorker",
    "Worker",
    "WorkerError",
]

# A project may have a folder of this name, without an `__init__.py`: `workers.mine` is then found beside ours.
__path__[:] = extend_path(__path__, __name__)

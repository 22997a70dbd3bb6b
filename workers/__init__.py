"""The worker SDK: declare capabilities with functions, and serve them."""

from workers.context import Context
from workers.errors import (
    DeclarationError,
    PermanentError,
    RegistrationRefused,
    RetryableError,
    UnknownWorker,
    WorkerError,
)
from workers.worker import Worker

__all__ = [
    "Context",
    "DeclarationError",
    "PermanentError",
    "RegistrationRefused",
    "RetryableError",
    "UnknownWorker",
    "Worker",
    "WorkerError",
]

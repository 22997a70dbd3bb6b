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
from workers.response import Response
from workers.worker import Worker

__all__ = [
    "Context",
    "DeclarationError",
    "PermanentError",
    "RegistrationRefused",
    "Response",
    "RetryableError",
    "UnknownWorker",
    "Worker",
    "WorkerError",
]

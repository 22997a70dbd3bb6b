"""Owns what the SDK raises and what a handler raises to say how its work failed. Knows nothing of the wire.

Handlers raise ``PermanentError`` and ``RetryableError``; whoever declares, loads or serves a worker meets the others.
"""

from __future__ import annotations

import math

from subjects.errors import Offence

# The contract's longest Retry-After: a day.
_MAX_RETRY_AFTER_S = 86_400


class WorkerError(Exception):
    """Root of what this package raises.

    WorkerError
    ├── DeclarationError     a worker or capability is declared wrongly; nothing was started
    ├── UnknownWorker        no worker under this name or at this place
    ├── LifespanError        what the worker opens when it starts could not be opened, or not be closed
    ├── RegistrationRefused  the controllers will not take this worker as it is
    └── Failure              a handler says that its work failed; the message goes to the caller
        ├── PermanentError   trying again cannot help
        └── RetryableError   trying again may help
    """


class DeclarationError(WorkerError):
    """The declaration is wrong; the message names what, and how it should look."""


class UnknownWorker(WorkerError):
    """There is no worker under this name or at this place; the message says what was looked for."""


class LifespanError(WorkerError):
    """A lifespan failed; the message says which, why and where. Its cause is the error itself."""


class RegistrationRefused(WorkerError):
    """A controller refused the registration for good; ``offences`` lists everything that is wrong with it."""

    def __init__(self, worker_id: str, code: int, detail: str, offences: tuple[Offence, ...] = ()) -> None:
        lines = "".join(f"\n  {offence.path}: {offence.message}" for offence in offences)
        super().__init__(f"the registration of {worker_id} was refused with {code}: {detail}{lines}")
        self.code = code
        self.detail = detail
        self.offences = offences


class Failure(WorkerError):
    """The work failed as a handler foresaw. ``message`` is shown to the caller; ``code`` is 400 to 599."""

    retryable = False

    def __init__(self, message: str, *, code: int, retry_after_s: float | None = None) -> None:
        if not 400 <= code <= 599:
            raise ValueError(f"the code of an error is 400 to 599, not {code}")
        if retry_after_s is not None and not (
            math.isfinite(retry_after_s) and 0 <= retry_after_s <= _MAX_RETRY_AFTER_S
        ):
            raise ValueError(f"retry_after_s is 0 to {_MAX_RETRY_AFTER_S} seconds, not {retry_after_s}")
        super().__init__(message)
        self.message = str(message)  # often it is the error behind this one
        self.code = code
        self.retry_after_s = retry_after_s


class PermanentError(Failure):
    """Trying again cannot help. ``code`` defaults to 422: the input is one that no worker of this kind can use."""

    def __init__(self, message: str, *, code: int = 422) -> None:
        super().__init__(message, code=code)


class RetryableError(Failure):
    """Trying again may help, here or elsewhere, after ``retry_after_s`` seconds where that is known."""

    retryable = True

    def __init__(self, message: str, *, code: int = 503, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code, retry_after_s=retry_after_s)

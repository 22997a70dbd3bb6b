"""Owns how what a handler returned or raised is said in the contract's words, and how large it may be.

``workers.runs`` sends what is made here. Nothing of an unforeseen error reaches the caller.
"""

from __future__ import annotations

import concurrent.futures
import logging
from typing import Any

from callers.codecs import Encode
from callers.failures import CrankError
from subjects.answers import Fault, NoResponders, NotRun, Result
from workers.calling import told_of
from workers.declarations import Offer
from workers.errors import Failure, PermanentError
from workers.response import Response

log = logging.getLogger("crank.worker")

Terminal = Result | Fault | NotRun | NoResponders
"""A whole answer."""

# Looked at for every answer; the union above would be taken apart each time.
_SAID = (Result, Fault, NotRun, NoResponders)


def result_of(offer: Offer, value: Any, max_bytes: int) -> Terminal:
    """``value`` as an answer. One in the contract's own words, which a handler that relays returns, stays as it is.

    Raises:
        PermanentError: it is larger than may leave.

    """
    if isinstance(value, _SAID):
        if isinstance(value, Result):
            _check_size(offer, len(value.body), value.passed, "answer", max_bytes)
        return value
    return Result(*written(offer, value, offer.handler.encode, "answer", max_bytes))


def written(offer: Offer, value: Any, encode: Encode, what: str, max_bytes: int) -> tuple[bytes, str, str | None]:
    """``value`` as body, header lines and media type. The capability labels what its handler's own encoder writes.

    Raises:
        PermanentError: it is larger than may leave.

    """
    label, passed = offer.content_type if encode is offer.handler.encode else None, ""
    if isinstance(value, Response):
        label, passed, value = value.content_type or label, value.lines(), value.value
    body, content_type = encode(value)
    _check_size(offer, len(body), passed, what, max_bytes)
    return body, passed, label or content_type


def _check_size(offer: Offer, size: int, passed: str, what: str, max_bytes: int) -> None:
    limit = max_bytes - len(passed.encode()) if passed else max_bytes
    if offer.capability.constraints:
        declared = offer.capability.constraints.get("max_output_bytes")
        if isinstance(declared, int) and declared > 0:
            limit = min(limit, declared)
    if size > limit:
        log.error("%s: %s of %d bytes is over the limit of %d", offer.label, what, size, limit)
        raise PermanentError(
            f"The worker's {what} is {size} bytes, and at most {limit} can be sent; ask for less at once", code=500
        )


def fault_of(offer: Offer, error: BaseException, request_id: str, *, told: bool) -> Fault:
    """``error`` as the caller may see it; one that the handler did not foresee goes to the log.

    ``told``: the caller has an answer already, since nobody waited any more.
    """
    if isinstance(error, Failure):
        wait = error.retry_after_s
        return Fault(error.code, error.message, error.retryable, None if wait is None else round(wait * 1000))
    if isinstance(error, CrankError):
        code, message, retryable = told_of(error)
        if not told:
            log.warning("%s failed, request id %s: %s", offer.label, request_id, message)
        return Fault(code, message, retryable, error.problem.retry_after_ms)
    if not (told and isinstance(error, concurrent.futures.CancelledError)):  # what a thread waited for was stopped
        log.error("%s failed, request id %s", offer.label, request_id, exc_info=error)
    return Fault(500, f"The worker failed; its log has the details under request id {request_id}")

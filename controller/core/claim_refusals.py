"""Owns the words of what is refused because of a key, a job, or the store of either: what happened, and what to do.

``refusals`` has all others.
"""

from __future__ import annotations

from controller.core.fleet import Offer
from controller.core.model import Request
from controller.core.refusals import RETRY_AFTER_MS
from controller.core.world import Life
from subjects.claims import ClaimRecord
from subjects.errors import ErrorKind, Refusal

# Nobody knows how long the first one takes; whoever asks again this often costs a claim's reading each time.
_IN_PROGRESS_RETRY_AFTER_MS = 1000


def unprotected(life: Life, reason: str) -> Refusal:
    """503: a keyed request is never run without the protection it asks for."""
    maybe = life.maybe_executed
    if maybe:
        detail = f"The work may have been done, and is not tried again: its key cannot be protected now ({reason})."
    else:
        hint = "If running it twice does no harm, send it without Idempotency-Key."
        detail = f"The key cannot be protected: {reason}. Nothing ran. {hint}"
    return Refusal(ErrorKind.STORE_UNAVAILABLE, detail, retry_after_ms=RETRY_AFTER_MS, maybe_executed=maybe)


def key_reused(request: Request) -> Refusal:
    """422: another payload under the same key."""
    detail = (
        f"This Idempotency-Key was used for {request.capability} with another payload or content type; nothing ran. "
        "Send the first payload again, or take a new key."
    )
    return Refusal(ErrorKind.KEY_REUSED, detail)


def displaced(request: Request) -> Refusal:
    """409: it was done, or may have been, under a key that was released and has become another payload's."""
    detail = (
        f"The work may have been done, but its key was released meanwhile and is used for {request.capability} with "
        "another payload: there is no place for its answer. Check what was done before sending it again."
    )
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, maybe_executed=True)


def in_progress(record: ClaimRecord) -> Refusal:
    """409: the first one is still running, and the caller does not want to wait for it."""
    detail = (
        f"The first request with this key ({record.request_id}) is still running; nothing ran a second time. "
        "Ask again later under the same key, or with Crank-On-Duplicate: attach."
    )
    return Refusal(ErrorKind.IN_PROGRESS, detail, retry_after_ms=_IN_PROGRESS_RETRY_AFTER_MS)


def crowded(life: Life) -> Refusal:
    """503: the first one is still running, and enough wait for it and for others."""
    detail = (
        "The first request with this key is still running, and too many callers wait here already for what others "
        "come to. Nothing ran a second time; ask again later under the same key."
    )
    maybe = life.maybe_executed
    return Refusal(ErrorKind.OVERLOADED, detail, retry_after_ms=RETRY_AFTER_MS, maybe_executed=maybe)


def outcome_unknown(record: ClaimRecord) -> Refusal:
    """409: it may have run, and nobody can say."""
    who = f" at worker {record.worker}" if record.worker else ""
    detail = (
        f"The first request with this key ({record.request_id}) may have run{who}, and nobody can say whether it was "
        "done. It is not run again. Check what it was to do, then have an operator settle it with `crank resolve`."
    )
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, maybe_executed=True)


def ended_without_answer(record: ClaimRecord) -> Refusal:
    """The key's record is final, or unknown, and holds no answer."""
    if record.state == "cancelled":
        detail = f"The job with this key ({record.request_id}) was cancelled; take a new key to have it done after all."
        return Refusal(ErrorKind.CANCELLED, detail, maybe_executed=record.attempts > 0)
    return outcome_unknown(record)


def unstored() -> Refusal:
    """409: the work was done, and its answer could not be stored before the time ran out."""
    detail = (
        "The work was done, but its answer could not be stored in time, and is not sent before it is. "
        "Ask again under the same key: it is stored as soon as the store takes it."
    )
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, retry_after_ms=RETRY_AFTER_MS, maybe_executed=True)


def not_kept(limit: int) -> Refusal:
    """413, to those who ask again: the first caller had it in pieces."""
    detail = f"The streamed answer was longer than the {limit} bytes that are kept; only its first caller got it."
    return Refusal(ErrorKind.TOO_LARGE, detail, maybe_executed=True)


def not_accepted(reason: str) -> Refusal:
    """503 to a submit: it is not stored, and will not be done."""
    detail = f"The job was not accepted: {reason}. Nothing will run; send it again."
    return Refusal(ErrorKind.STORE_UNAVAILABLE, detail, retry_after_ms=RETRY_AFTER_MS, maybe_executed=False)


def perhaps_accepted(reason: str) -> Refusal:
    """503 to a submit: nobody knows whether the stream has it."""
    detail = (
        f"Whether the job was accepted is not known: {reason}. Send it again under the same Idempotency-Key; "
        "without a key it may be done twice."
    )
    return Refusal(ErrorKind.STORE_UNAVAILABLE, detail, retry_after_ms=RETRY_AFTER_MS, maybe_executed=True)


def unreadable(reason: str) -> Refusal:
    """503: what is stored cannot be looked at."""
    detail = f"What is stored cannot be read or written now: {reason}. Try again."
    return Refusal(ErrorKind.STORE_UNAVAILABLE, detail, retry_after_ms=RETRY_AFTER_MS)


def record_missing() -> Refusal:
    """A job whose record is gone: whether it was done is not known."""
    detail = "The record of this job is gone, so that nobody can say whether it was done; check, then retry or drop it."
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, maybe_executed=True)


def job_lost(record: ClaimRecord) -> Refusal:
    """A job whose controller or worker died with it."""
    who = f" at worker {record.worker}" if record.worker else ""
    detail = (
        f"The job may have been done{who}, and whoever had it died: nobody can say. It is not run again by itself. "
        "Check what it did, then `crank dead retry` or `crank dead drop` it."
    )
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, maybe_executed=True)


def job_unknown(last: Refusal, offer: Offer) -> Refusal:
    """A job that may have been done, and must not be done twice."""
    detail = (
        f"{last.detail} {offer.capability} is not idempotent, so that the job is not run again by itself: "
        "check what it did, then retry or drop it."
    )
    return Refusal(ErrorKind.OUTCOME_UNKNOWN, detail, maybe_executed=True)


def no_such_job(job_id: str) -> Refusal:
    """404."""
    detail = f"There is no job {job_id} of this caller, or it was forgotten after its time. Check the id."
    return Refusal(ErrorKind.NO_SUCH_JOB, detail)


def nothing_known(job_id: str) -> Refusal:
    """404 to a word about what was never asked for."""
    detail = (
        f"Nothing is known of {job_id}, or it was forgotten after its time: there is nothing to resolve. "
        "Check the id; or the capability, the key, and whose it is."
    )
    return Refusal(ErrorKind.NO_SUCH_JOB, detail)


def not_dead(job_id: str, state: str) -> Refusal:
    """404 to a retry of what is not dead."""
    return Refusal(ErrorKind.NO_SUCH_JOB, f"Job {job_id} is not dead but {state}; `crank result {job_id}` tells more.")


def other_life(job_id: str) -> Refusal:
    """404 to a retry of a job whose key has become another payload's."""
    detail = (
        f"The key of job {job_id} has been used with another payload since. Drop this one with `crank dead drop`, and "
        "submit it anew under another key if it is still to be done."
    )
    return Refusal(ErrorKind.NO_SUCH_JOB, detail)


def never_ran(job_id: str) -> Refusal:
    """404 to an answer for what was never sent to a worker."""
    detail = f"{job_id} waited for a worker, and nothing ran: there is no answer to give. Have it released instead."
    return Refusal(ErrorKind.NO_SUCH_JOB, detail)


def still_leased(record: ClaimRecord) -> Refusal:
    """409 to a resolve: its owner may be at it still."""
    wait_ms = round(record.lease_s * 1000)
    detail = (
        f"The request ({record.request_id}) is {record.state}, and its controller's lease may still hold. "
        f"Ask again in {record.lease_s:g} s; if nobody renewed it by then, it can be settled."
    )
    return Refusal(ErrorKind.IN_PROGRESS, detail, retry_after_ms=wait_ms)


def settled(job_id: str, state: str) -> Refusal:
    """404 to a resolve of what is no open question."""
    detail = f"{job_id} is {state}: there is nothing to resolve. Dead jobs are seen to with `crank dead`."
    return Refusal(ErrorKind.NO_SUCH_JOB, detail)

"""Owns request ↔ stored job: what of a request goes into a job's or a dead job's message, and a request made of one.

It sends nothing; ``jobs`` and ``desk`` do. The headers themselves are told in ``subjects.jobs``.
"""

from __future__ import annotations

from controller.core.model import Action, Request
from subjects.claims import ClaimRecord
from subjects.errors import Refusal
from subjects.jobs import Job, build_dead, build_job, parse_job
from subjects.tokens import CapabilityId


def once(stream: str, message_id: str) -> tuple[tuple[str, str], ...]:
    """The headers that have JetStream store a message once, in this stream and no other."""
    return ("Nats-Msg-Id", message_id), ("Nats-Expected-Stream", stream)


def job_block(request: Request, job_id: str, stream: str, message_id: str) -> bytes | Refusal:
    """The block of an accepted job."""
    return build_job(_job(request, job_id), *once(stream, message_id))


def dead_block(request: Request, job_id: str, stream: str, message_id: str, record: ClaimRecord) -> bytes:
    """The block of a job that its record says is dead."""
    error = record.answer.error if record.answer is not None else None
    detail = error.text if error is not None else ""
    return build_dead(_job(request, job_id), record.reason, detail, record.attempts, *once(stream, message_id))


def _job(request: Request, job_id: str) -> Job:
    return Job(job_id, request.caller, request.request_id, request.headers, request.passed)


def read_request(
    capability: CapabilityId, raw: bytes | None, body: bytes, action: Action, reply: str = ""
) -> Request | Refusal:
    """The request that a stored job stands for, or why it stands for none."""
    job = parse_job(raw)
    if isinstance(job, Refusal):
        return job
    return Request(
        capability, job.caller, job.request_id, reply, job.headers, body, job.passed, action=action, job_id=job.job_id
    )

"""Owns what an operator sees of jobs that are not done: the stream of jobs, message by message, and their records.

The stream is a queue of work, which takes no reader beside the workers' own; so each message is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bus import Bus
from controller.edge.pages import Page
from controller.edge.standing import Claims
from controller.edge.stream_reading import Message, message_from, stream_now
from subjects.errors import Refusal
from subjects.headers import one_line
from subjects.jobs import MALFORMED, Job, parse_job
from subjects.names import Subjects
from subjects.tokens import CapabilityId

# Messages come whole, with their data: a page ends after so much of it, or so long.
_MOST_READ_BYTES = 32 * 1024 * 1024
_MOST_S = 2.0
# Until it is handed out, and while it is put back, nobody works on it.
_STATUS = {"waiting": "queued", "dispatching": "running"}


async def job_page(
    bus: Bus, subjects: Subjects, max_bytes: int, after: int, limit: int, capability: CapabilityId | None
) -> dict[str, Any]:
    """Jobs in their stream after a sequence, the oldest first.

    Raises:
        BusError: JetStream does not answer.

    """
    stream = subjects.stream_jobs
    page = Page(limit, max_bytes)
    now = await stream_now(bus, stream)
    if now is None:
        return page.answer("jobs", more=False)
    found, more = await _read(
        bus, stream, subjects.all("jobs") if capability is None else subjects.job(capability), after, limit
    )
    jobs = [(message, parse_job(message.headers)) for message in found]
    standing = await Claims(bus, subjects).of([job.job_id if isinstance(job, Job) else "" for _, job in jobs])
    for (message, job), claim in zip(jobs, standing, strict=True):
        row: dict[str, Any] = {
            "job_id": f"{MALFORMED}-{message.seq}" if isinstance(job, Refusal) else job.job_id,
            "capability": subjects.parse_capability("jobs", message.subject) or one_line(message.subject),
            "caller": "" if isinstance(job, Refusal) else one_line(job.caller),
            "status": "queued",
            "attempts": 0,
            "age_s": round(max(0.0, (now.ts - message.time).total_seconds()), 3),
            "request_id": "" if isinstance(job, Refusal) else job.request_id,
            "seq": message.seq,
        }
        if isinstance(job, Refusal):
            row["status"] = MALFORMED
        elif claim is not None:
            row["status"] = _STATUS.get(claim.record.state, claim.record.state)
            row["attempts"] = claim.record.attempts
        if not page.add(row["job_id"], message.seq, row):
            break
    return page.answer("jobs", more=more or page.full)


async def _read(bus: Bus, stream: str, subject: str, after: int, limit: int) -> tuple[list[Message], bool]:
    """Up to ``limit`` messages, without their bodies, and whether there may be more."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _MOST_S
    found: list[Message] = []
    size = 0
    while True:
        message = await message_from(bus, stream, after + 1, subject)
        if message is None:
            return found, False
        if len(found) == limit:
            return found, True
        found.append(message._replace(body=b""))
        size += len(message.body)
        after = message.seq
        if size > _MOST_READ_BYTES or loop.time() > give_up_at:
            return found, True

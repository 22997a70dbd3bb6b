"""Owns what an operator sees of recovery: what a controller that starts would find, and what is unfinished.

It reads counts and headers, and the records of the first that are unfinished.
"""

from __future__ import annotations

from typing import Any

from bus import Bus
from controller.edge.pages import Page
from controller.edge.standing import Claims
from controller.edge.stream_reading import stream_now
from subjects.claims import FINAL
from subjects.headers import one_line
from subjects.names import Subjects

# More than a person reads; all are counted.
MOST_UNFINISHED = 200
# An operator's client waits for five seconds.
_MOST_S = 3.0


def _streams(subjects: Subjects) -> dict[str, str]:
    """By name, what each is for."""
    return {
        subjects.stream_registry: "manifests: read whole at the start, and followed",
        subjects.stream_slo: "counts of objectives: read from the start on, beside the work",
        f"KV_{subjects.bucket_idempotency}": "claims and answers: each read when its key is asked for",
        f"OBJ_{subjects.bucket_answers}": "answers too large for a record: read with it",
        subjects.stream_jobs: "jobs that are not done: handed out again until they are",
        subjects.stream_dead: "dead jobs: for an operator to retry or drop",
        f"KV_{subjects.bucket_results}": "results of jobs: read when a job is asked for",
    }


async def overview(bus: Bus, subjects: Subjects, max_bytes: int) -> dict[str, Any]:
    """The streams with their sizes, claims that are not final, and how many are in which state.

    ``complete`` is False when there was no time to count them all.

    Raises:
        BusError: JetStream does not answer.

    """
    rows = []
    for stream, purpose in _streams(subjects).items():
        row: dict[str, Any] = {"stream": stream, "purpose": purpose}
        now = await stream_now(bus, stream)
        if now is None:
            row |= {"messages": 0, "bytes": 0, "first_seq": 0, "last_seq": 0, "missing": True}
        else:
            state = now.state
            row |= {
                "messages": state.messages,
                "bytes": state.bytes,
                "first_seq": state.first_seq,
                "last_seq": state.last_seq,
            }
        rows.append(row)
    claims = Claims(bus, subjects)
    clock = await stream_now(bus, f"KV_{subjects.bucket_idempotency}")
    counts = await claims.count(MOST_UNFINISHED, _MOST_S)
    page = Page(MOST_UNFINISHED, max_bytes)
    for key, found in zip(counts.unfinished, await claims.of(counts.unfinished), strict=True):
        if found is None or found.record.state in FINAL or clock is None:
            continue
        record = found.record
        row = {
            "job_id": key,
            "capability": record.capability,
            "caller": one_line(record.caller),
            "state": record.state,
            "job": record.job,
            "owner": record.owner,
            "worker": record.worker,
            "age_s": round(max(0.0, (clock.ts - found.time).total_seconds()), 3),
        }
        if not page.add(key, 0, row):
            break
    return {"recovery": rows, "unfinished": page.rows, "counts": counts.states, "complete": counts.complete}

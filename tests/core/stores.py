"""The stores of claims and jobs as the core sees them: compare-and-set by sequence, a queue, and what was kept."""

from __future__ import annotations

from controller.core.commands import Command
from controller.core.events import Event
from controller.core.stored import (
    AckJob,
    AppendDead,
    Appended,
    AppendJob,
    ClaimFailed,
    ClaimRead,
    ClaimRefused,
    ClaimStored,
    KeepResult,
    NakJob,
    ReadClaim,
    ReleaseClaim,
    WriteClaim,
)
from subjects.claims import ClaimRecord


class Stores:
    """One installation's; several routers may share it."""

    def __init__(self) -> None:
        self.seq = 0
        self.last: dict[str, tuple[ClaimRecord | None, int]] = {}
        """By key: what stands there, None after a release, and its sequence."""
        self.ttl_s: dict[str, int | None] = {}
        self.states: list[str] = []
        """Every state that was stored, in order; "" is a release."""
        self.jobs: dict[str, AppendJob] = {}
        self.dead: dict[str, AppendDead] = {}
        self.results: dict[str, ClaimRecord] = {}
        self.acks: list[tuple[str, str]] = []
        self.away = ""
        """Why nothing can be stored or read, or ""."""

    def record(self, key: str) -> ClaimRecord:
        """What stands under ``key``."""
        record, _ = self.last[key]
        assert record is not None
        return record

    def only(self) -> ClaimRecord:
        """What stands under the one key there is."""
        (key,) = self.last
        return self.record(key)

    def perform(self, command: Command) -> Event | None:
        """Carry a command out at once."""
        match command:
            case WriteClaim(key, record, expected, ttl_s):
                if self.away:
                    return ClaimFailed(key, record.nonce, self.away)
                standing, seq = self.last.get(key, (None, 0))
                if seq != expected:
                    return ClaimRefused(key, record.nonce, standing, seq)
                self._store(key, record)
                self.ttl_s[key] = ttl_s
                return ClaimStored(key, record.nonce, self.seq)
            case ReleaseClaim(key, expected):
                if self.last.get(key, (None, 0))[1] == expected and not self.away:
                    self._store(key, None)
            case ReadClaim(key, kept):
                record, seq = self.last.get(key, (None, 0))
                if record is None and kept and key in self.results:
                    return ClaimRead(key, self.results[key], 0)
                return ClaimRead(key, record, seq)
            case AppendJob(life, _, _, message_id):
                if not self.away:
                    self.jobs[message_id] = command
                return Appended(life, self.away or None)
            case AppendDead(life, _, _, message_id):
                self.dead[message_id] = command
                return Appended(life, None)
            case KeepResult(life, job_id, record):
                self.results[job_id] = record
                return Appended(life, None)
            case AckJob(delivery):
                self.acks.append(("ack", delivery))
            case NakJob(delivery):
                self.acks.append(("nak", delivery))
            case _:
                pass
        return None

    def _store(self, key: str, record: ClaimRecord | None) -> None:
        self.seq += 1
        self.last[key] = (record, self.seq)
        self.states.append(record.state if record is not None else "")

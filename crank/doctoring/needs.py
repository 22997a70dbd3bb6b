"""Owns who needs which rights on NATS, and how each is tried so that nothing happens where it is granted.

Subscriptions are tried on subjects that nobody publishes on: in a queue group a real one would take a message away from
those who wait for it. Messages are tried where nobody listens, or so that whoever hears them drops them: without
anywhere to answer to, unreadable, or for a stream of another name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bus.permissions import Right
from subjects.headers import build_block
from subjects.names import QUEUE_CONTROLLERS, QUEUE_WORKER, SERVICE_NAME, Subjects, service
from subjects.tokens import RequestId, WorkerId, capability_id

# No heartbeat, manifest or departure, and no JSON for JetStream's API.
_UNREADABLE = b"?"
# JetStream refuses a message that says it is for another stream: nothing is stored.
_FOR_ANOTHER_STREAM = build_block([("Nats-Expected-Stream", "doctor")])
# What is asked of every stream, and of those that are read through a consumer.
_STREAM = ("STREAM.CREATE", "STREAM.INFO", "STREAM.MSG.GET")
_READ = ("CONSUMER.CREATE", "CONSUMER.MSG.NEXT.*", "CONSUMER.DELETE.*")


class Need(NamedTuple):
    """A right to try, and what a person would write into the permissions for it."""

    right: Right
    grant: str


def _hear(subject: str, grant: str, queue: str = "") -> Need:
    return Need(Right("subscribe", subject, queue), grant)


def _say(subject: str, grant: str, body: bytes = b"", headers: bytes | None = None, reply: str = "") -> Need:
    return Need(Right("publish", subject, "", body, headers, reply), grant)


class Needs:
    """What each role needs. ``token`` is a name that nobody has; ``worker_id`` is a worker's own, where it is known."""

    def __init__(self, subjects: Subjects, token: str, worker_id: str | None) -> None:
        self._subjects = subjects
        self._token = token
        self._worker_id = worker_id

    def roles(self) -> dict[str, list[Need]]:
        """By role."""
        return {
            "controller": list(self._controller()),
            "worker": list(self._worker()),
            "caller": list(self._caller()),
            "operator": [_say(self._subjects.admin("health"), f"{self._subjects.prefix}.admin.>")],
        }

    def _controller(self) -> Iterator[Need]:
        subjects, prefix, token = self._subjects, self._subjects.prefix, self._token
        for kind in ("request", "submit", "result", "register", "deregister", "cancel", "admin"):
            yield _hear(f"{prefix}.{kind}.{token}.>", subjects.all(kind), QUEUE_CONTROLLERS)
        for kind in ("heartbeat", "cancel"):
            yield _hear(f"{prefix}.{kind}.{token}.>", subjects.all(kind))
        for verb in ("PING", "INFO", "STATS"):
            for address in ((), (SERVICE_NAME,), (SERVICE_NAME, token)):
                yield _hear(service(verb, *address), "$SRV.>")
        nobody = WorkerId(token)
        yield _say(subjects.worker(nobody, capability_id(token, token)), f"{prefix}.worker.>")
        yield _say(subjects.control(nobody), f"{prefix}.control.*")
        yield _say(subjects.event("doctor", token), f"{prefix}.event.>", b"{}")
        claim = subjects.claims_asked.replace("*", token)
        yield _hear(claim, subjects.claims_asked)
        yield _say(claim, subjects.claims_asked)
        yield from self._stored()
        yield from self._jetstream()

    def _stored(self) -> Iterator[Need]:
        subjects, token = self._subjects, self._token
        capability = capability_id(token, token)
        for subject, grant in (
            (subjects.registry(WorkerId(token)), f"{subjects.prefix}.registry.*"),
            (subjects.slo(token, token, 0), f"{subjects.prefix}.slo.*.*.*"),
            (subjects.job(capability), f"{subjects.prefix}.jobs.*.*"),
            (subjects.dead(capability), f"{subjects.prefix}.dead.*.*"),
            (f"$KV.{subjects.bucket_idempotency}.{token}", f"$KV.{subjects.bucket_idempotency}.*"),
            (f"$KV.{subjects.bucket_results}.{token}", f"$KV.{subjects.bucket_results}.*"),
            (f"$O.{subjects.bucket_answers}.C.{token}", f"$O.{subjects.bucket_answers}.C.*"),
            (f"$O.{subjects.bucket_answers}.M.{token}", f"$O.{subjects.bucket_answers}.M.*"),
        ):
            yield _say(subject, grant, headers=_FOR_ANOTHER_STREAM)

    def _jetstream(self) -> Iterator[Need]:
        subjects, token = self._subjects, self._token
        registry, jobs, slo = subjects.stream_registry, subjects.stream_jobs, subjects.stream_slo
        asked = {
            registry: (*_STREAM, "CONSUMER.CREATE", "CONSUMER.DELETE.*"),
            slo: ("STREAM.CREATE", "STREAM.INFO", "CONSUMER.CREATE", "CONSUMER.DELETE.*"),
            jobs: (*_STREAM, "CONSUMER.NAMES", "CONSUMER.CREATE.*", "CONSUMER.MSG.NEXT.*"),
            subjects.stream_dead: (*_STREAM, "STREAM.MSG.DELETE", *_READ),
            f"KV_{subjects.bucket_idempotency}": (*_STREAM, *_READ),
            f"KV_{subjects.bucket_results}": _STREAM,
            f"OBJ_{subjects.bucket_answers}": _STREAM,
        }
        for stream, operations in asked.items():
            for operation in operations:
                # The stream's name comes before the consumer's.
                of_one = operation.endswith(".*")
                api = f"$JS.API.{operation.removesuffix('.*')}.{stream}"
                yield _say(f"{api}.{token}" if of_one else api, f"{api}.*" if of_one else api, _UNREADABLE)
        for followed in (registry, slo):
            yield _say(f"$JS.FC.{followed}.{token}.{token}", f"$JS.FC.{followed}.>")
        yield _say(f"$JS.ACK.{jobs}.{token}.1.1.1.1.0", f"$JS.ACK.{jobs}.>")

    def _worker(self) -> Iterator[Need]:
        subjects, prefix = self._subjects, self._subjects.prefix
        ident, shown = WorkerId(self._worker_id or self._token), self._worker_id or "*"
        yield _hear(f"{prefix}.worker.{ident}.{self._token}.>", f"{prefix}.worker.{shown}.>", QUEUE_WORKER)
        yield _hear(subjects.control(ident), f"{prefix}.control.{shown}")
        for kind, subject in (
            ("register", subjects.register(ident)),
            ("deregister", subjects.deregister(ident)),
            ("heartbeat", subjects.heartbeat(ident)),
        ):
            yield _say(subject, f"{prefix}.{kind}.{shown}", _UNREADABLE)

    def _caller(self) -> Iterator[Need]:
        subjects, prefix, token = self._subjects, self._subjects.prefix, self._token
        # A controller drops a request whose answer would go to one of its own subjects.
        asked = subjects.request(capability_id(token, token))
        dropped = f"{prefix}.{token}"
        yield _say(asked, f"{prefix}.request.>", reply=dropped)
        yield _say(subjects.submit(capability_id(token, token)), f"{prefix}.submit.>", reply=dropped)
        yield _say(subjects.result(token), f"{prefix}.result.*", reply=dropped)
        yield _say(subjects.cancel(RequestId(token)), f"{prefix}.cancel.*")

    def answers(self) -> Right:
        """What controllers and workers need besides, unless they may answer whatever they are asked."""
        return Right("publish", f"_INBOX.{self._token}")

"""Owns the subjects: every one is built and taken apart here and nowhere else.

``Subjects(prefix)`` is the installation's naming. Builders refuse anything that is not a token by raising
``ValueError`` (our own bug); parsers meet the outside and return None for what is not ours to read.
"""

from __future__ import annotations

from subjects.tokens import (
    TOKEN_RULE,
    CapabilityId,
    ControllerId,
    RequestId,
    WorkerId,
    capability_id,
    is_token,
    split_capability,
)

DEFAULT_PREFIX = "crank"
QUEUE_CONTROLLERS = "controllers"
QUEUE_WORKER = "w"
SERVICE_NAME = "crank-controller"


def _token(text: str, what: str) -> str:
    if not is_token(text):
        raise ValueError(f"{what} {text!r} is not a token ({TOKEN_RULE})")
    return text


def service(verb: str, name: str = "", instance: str = "") -> str:
    """``$SRV.<verb>[.<name>[.<instance>]]``: NATS's services protocol (ADR-32); it has no installation's prefix."""
    parts = (_token(part, "part of a service subject") for part in (verb, name, instance) if part)
    return ".".join(("$SRV", *parts))


class Subjects:
    """The subjects, streams and buckets of one installation, under one prefix (a token, default ``crank``)."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        self.prefix = _token(prefix, "prefix")
        upper = prefix.upper()
        self.stream_registry = f"{upper}_REGISTRY"
        self.stream_jobs = f"{upper}_JOBS"
        self.stream_dead = f"{upper}_DEAD"
        self.stream_decisions = f"{upper}_DECISIONS"
        self.stream_audit = f"{upper}_AUDIT"
        self.stream_slo = f"{upper}_SLO"
        self.bucket_idempotency = f"{prefix}_idempotency"
        self.bucket_results = f"{prefix}_results"
        self.bucket_answers = f"{prefix}_answers"
        self._reserved = (f"{prefix}.", "$")
        self.claims_asked = f"{prefix}.claims.asked.*"

    # Subjects of one capability -------------------------------------------------

    def _capability(self, kind: str, capability: CapabilityId) -> str:
        verb, name = split_capability(capability)
        return f"{self.prefix}.{kind}.{_token(verb, 'verb')}.{_token(name, 'name')}"

    def request(self, capability: CapabilityId) -> str:
        """``crank.request.<verb>.<name>``: do this and answer."""
        return self._capability("request", capability)

    def submit(self, capability: CapabilityId) -> str:
        """``crank.submit.<verb>.<name>``: accept durably."""
        return self._capability("submit", capability)

    def job(self, capability: CapabilityId) -> str:
        """``crank.jobs.<verb>.<name>``: an accepted durable request, in the jobs stream."""
        return self._capability("jobs", capability)

    def dead(self, capability: CapabilityId) -> str:
        """``crank.dead.<verb>.<name>``: a job that will not be tried again."""
        return self._capability("dead", capability)

    def parse_capability(self, kind: str, subject: str) -> CapabilityId | None:
        """``verb:name`` of ``<prefix>.<kind>.<verb>.<name>``, or None when it is not exactly that."""
        parts = subject.split(".")
        if len(parts) != 4 or parts[0] != self.prefix or parts[1] != kind:
            return None
        if not (is_token(parts[2]) and is_token(parts[3])):
            return None
        return capability_id(parts[2], parts[3])

    # Subjects of one id ---------------------------------------------------------

    def _one(self, kind: str, ident: str, what: str) -> str:
        return f"{self.prefix}.{kind}.{_token(ident, what)}"

    def result(self, job_id: str) -> str:
        """``crank.result.<job_id>``: the outcome of a submitted job."""
        return self._one("result", job_id, "job id")

    def cancel(self, request_id: RequestId) -> str:
        """``crank.cancel.<request_id>``."""
        return self._one("cancel", request_id, "request id")

    def register(self, worker_id: WorkerId) -> str:
        """``crank.register.<worker_id>``: manifest in, acknowledgement out."""
        return self._one("register", worker_id, "worker id")

    def deregister(self, worker_id: WorkerId) -> str:
        """``crank.deregister.<worker_id>``: leave."""
        return self._one("deregister", worker_id, "worker id")

    def heartbeat(self, worker_id: WorkerId) -> str:
        """``crank.heartbeat.<worker_id>``: liveness and load."""
        return self._one("heartbeat", worker_id, "worker id")

    def control(self, worker_id: WorkerId) -> str:
        """``crank.control.<worker_id>``: cancel, reregister, drain."""
        return self._one("control", worker_id, "worker id")

    def registry(self, worker_id: WorkerId) -> str:
        """``crank.registry.<worker_id>``: the accepted manifest or departure, stored."""
        return self._one("registry", worker_id, "worker id")

    def admin(self, op: str) -> str:
        """``crank.admin.<op>``: an operator's question."""
        return self._one("admin", op, "operation")

    def decision(self, controller_id: ControllerId) -> str:
        """``crank.decision.<controller_id>``: batches of decision records."""
        return self._one("decision", controller_id, "controller id")

    def audit(self, controller_id: ControllerId) -> str:
        """``crank.audit.<controller_id>``: policy decisions, hash-chained."""
        return self._one("audit", controller_id, "controller id")

    def parse_one(self, kind: str, subject: str) -> str | None:
        """The id of ``<prefix>.<kind>.<id>``, or None when it is not exactly that."""
        parts = subject.split(".")
        if len(parts) != 3 or parts[0] != self.prefix or parts[1] != kind or not is_token(parts[2]):
            return None
        return parts[2]

    # Subjects with a shape of their own -----------------------------------------

    def worker(self, worker_id: WorkerId, capability: CapabilityId) -> str:
        """``crank.worker.<worker_id>.<verb>.<name>``: a traced dispatch."""
        verb, name = split_capability(capability)
        return f"{self._one('worker', worker_id, 'worker id')}.{_token(verb, 'verb')}.{_token(name, 'name')}"

    def worker_all(self, worker_id: WorkerId) -> str:
        """``crank.worker.<worker_id>.>``: every dispatch to a worker, malformed subjects too."""
        return f"{self._one('worker', worker_id, 'worker id')}.>"

    def parse_worker(self, subject: str) -> tuple[WorkerId, CapabilityId] | None:
        """``(worker_id, verb:name)`` of a dispatch subject, or None."""
        parts = subject.split(".")
        if len(parts) != 5 or parts[0] != self.prefix or parts[1] != "worker" or not all(map(is_token, parts[2:])):
            return None
        return WorkerId(parts[2]), capability_id(parts[3], parts[4])

    def event(self, kind: str, name: str) -> str:
        """``crank.event.<kind>.<name>``: a change of state, such as ``worker.joined``."""
        return f"{self._one('event', kind, 'event kind')}.{_token(name, 'event name')}"

    def slo(self, controller_id: str, boot: str, number: int, *, day: bool = False) -> str:
        """``crank.slo.<controller_id>.<boot>.<minute>``: objective counts; ``minute`` is minutes since 1970.

        With ``day`` the totals of a day since 1970: ``crank.slo.<controller_id>.<boot>.d<day>``.
        """
        kind = "d" if day else ""
        return f"{self._one('slo', controller_id, 'controller id')}.{_token(boot, 'boot id')}.{kind}{number:d}"

    def may_reply(self, reply: str) -> bool:
        """Whether an answer may be published on ``reply``, which a stranger chose.

        On our own subjects and on the server's it would be a control, registry or JetStream message, forged by whoever
        named it.
        """
        return not reply.startswith(self._reserved)

    def all(self, kind: str) -> str:
        """``<prefix>.<kind>.>``: everything of a kind, malformed subjects too, so that they can be refused."""
        return f"{self.prefix}.{_token(kind, 'kind')}.>"

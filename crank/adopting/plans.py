"""Owns what is made of a service: which capability each endpoint becomes, in which version, and why one does not.

Pure: what the instances say and what the operator wants go in, a plan comes out. ``crank.adopting.adoption`` carries it
out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from crank.adopting.described import Endpoint, Info
from crank.adopting.hints import hints_of
from subjects.errors import describe
from subjects.manifests import MAX_CAPABILITIES
from subjects.names import Subjects
from subjects.tokens import TOKEN_RULE, CapabilityId, capability_id, is_token
from subjects.versions import by_precedence, parse_version
from workers.declarations import Metadata

# What one instance is given at once. Nothing in the protocol tells how much it can do: one that works on a request at a
# time lets the rest wait, as it does for its other callers; one that works on many is not held back below this.
DEFAULT_CONCURRENCY = 16
_MAX_SUBJECT_BYTES = 255


class Wishes(NamedTuple):
    """What the operator wants; it beats what the service says. ``names`` and ``only`` are of endpoints or subjects."""

    names: Mapping[str, CapabilityId] = {}
    only: frozenset[str] = frozenset()
    max_concurrency: int | None = None
    idempotent: bool = False
    cost_tokens: float | None = None


class Offered(NamedTuple):
    """An endpoint that becomes a capability. ``metadata`` is for ``Worker.capability``."""

    capability: CapabilityId
    version: str
    subject: str
    metadata: Metadata

    @property
    def label(self) -> str:
        """``verb:name version``, for people."""
        return f"{self.capability} {self.version}"

    @property
    def place(self) -> str:
        """The label, and where it is served."""
        return f"{self.label} on {self.subject}"


class Plan(NamedTuple):
    """What to offer; ``remarks`` tell a person what is left out and what to know of the rest."""

    offers: tuple[Offered, ...]
    remarks: tuple[str, ...]


class _Listener(NamedTuple):
    info: Info
    endpoint: Endpoint


def plan(service: str, instances: Iterable[Info], subjects: Subjects, wishes: Wishes) -> Plan:
    """What ``instances`` of ``service`` amount to.

    Instances that listen on one subject are places of one capability: NATS chooses among them, so what can be promised
    is the lowest of their versions. An endpoint that listens elsewhere in another version is offered in both.
    """
    remarks: list[str] = []
    listeners: dict[tuple[CapabilityId, str], list[_Listener]] = defaultdict(list)
    for info in sorted(instances, key=lambda info: info.id):
        if parse_version(info.version) is None:
            remarks.append(f"instance {info.id} is left out: {describe(info.version)} is no semantic version")
            continue
        for endpoint in info.endpoints or ():
            if wishes.only and not wishes.only & {endpoint.name, endpoint.subject}:
                continue
            capability = wishes.names.get(endpoint.subject) or wishes.names.get(endpoint.name)
            why = _unfit(endpoint, subjects, named=capability is not None)
            if why is not None:
                remarks.append(f"endpoint {describe(endpoint.name)} is left out: {why}")
                continue
            key = capability or capability_id(service, endpoint.name), endpoint.subject
            listeners[key].append(_Listener(info, endpoint))
    by_offer: dict[tuple[CapabilityId, str], list[Offered]] = defaultdict(list)
    for (capability, subject), found in listeners.items():
        offer = _offer(capability, subject, found, wishes, remarks)
        if offer is not None:
            by_offer[capability, offer.version].append(offer)
    offers = [found[0] for key, found in sorted(by_offer.items()) if _one_subject(key[0], found, remarks)]
    if len(offers) > MAX_CAPABILITIES:
        remarks.append(f"{len(offers) - MAX_CAPABILITIES} endpoints are left out: {MAX_CAPABILITIES} are offered")
    return Plan(tuple(offers[:MAX_CAPABILITIES]), tuple(dict.fromkeys(remarks)))


def _unfit(endpoint: Endpoint, subjects: Subjects, *, named: bool) -> str | None:
    """Why nothing is ever sent to this endpoint, or None."""
    subject = endpoint.subject
    plain = subject.isprintable() and " " not in subject and all(subject.split("."))
    if not plain or len(subject.encode(errors="replace")) > _MAX_SUBJECT_BYTES:
        return f"{describe(subject)} is no subject to send to"
    if "*" in subject or ">" in subject:
        return f"it listens on the pattern {subject}, and a request goes to one subject"
    if not subjects.may_reply(subject) or subject.startswith("_INBOX."):
        return f"{subject} is a subject of Crank or of the NATS server"
    if not named and not is_token(endpoint.name):
        return f"its name is not {TOKEN_RULE}; give it one with --as {subject}=VERB:NAME"
    return None


def _offer(
    capability: CapabilityId, subject: str, found: list[_Listener], wishes: Wishes, remarks: list[str]
) -> Offered | None:
    versions = by_precedence({listener.info.version for listener in found})
    if len(versions) > 1:
        others = ", ".join(versions[:-1])
        remarks.append(f"offered as {versions[-1]}, though NATS may choose an instance of {others} on the same subject")
    speaker = next(listener for listener in found if listener.info.version == versions[-1])
    hints = hints_of(speaker.info.metadata, speaker.endpoint.metadata)
    if isinstance(hints, str):
        remarks.append(f"{capability} is left out: {hints}")
        return None
    groups = Counter(listener.endpoint.queue_group for listener in found)
    runs = groups.pop("", 0) + len(groups)
    if runs > 1:
        remarks.append(f"{capability}: each request runs {runs} times, since its instances share no queue group")
    each = wishes.max_concurrency or hints.get("max_concurrency", DEFAULT_CONCURRENCY)
    hints["max_concurrency"] = each * min(groups.values(), default=1)
    if wishes.idempotent:
        hints["idempotent"] = True
    if wishes.cost_tokens is not None:
        hints["cost_tokens_per_invocation"] = wishes.cost_tokens
    return Offered(capability, versions[-1], subject, hints)


def _one_subject(capability: CapabilityId, found: list[Offered], remarks: list[str]) -> bool:
    if len(found) == 1:
        return True
    first, *others = sorted(offer.subject for offer in found)
    remarks.append(
        f"{capability} is left out: endpoints of this name listen on {first} and on {', '.join(others[:3])}; "
        f"tell them apart with --as {first}=VERB:NAME"
    )
    return False

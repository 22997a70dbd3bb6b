"""Owns judging JetStream: whether it is on and has room, and whether the registry's stream is what controllers rely on.

It is given what the server answered, and asks nothing itself.
"""

from __future__ import annotations

from bus import StreamSpec
from bus.connection import BusError
from bus.inspection import Account, NoJetStream, Stream, Tier
from crank.doctoring.findings import Finding, ok, problem, some, warning
from crank.doctoring.rights import NotAllowed

CHECK, REGISTRY = "JetStream", "registry"
# From here on a burst can use up the rest.
_NEARLY_FULL = 0.8
_MORE_ROOM = "raise the account's JetStream limits, or delete streams that nobody needs"


def judge_account(found: Account | BusError, registry: Stream | BusError | None, spec: StreamSpec) -> list[Finding]:
    """Whether JetStream is on and has room. Callers and workers may not ask, and do not need it: nothing is found."""
    asked = [answer for answer in (found, registry) if not isinstance(answer, NotAllowed)]
    failed = next((answer for answer in asked if isinstance(answer, BusError)), None)
    if isinstance(failed, NoJetStream):
        return [problem(CHECK, str(failed), failed.mend or "nats-server's log says more")]
    if failed is not None:
        mend = "a cluster of which most servers are away looks like this; nats-server's log says more"
        return [problem(CHECK, f"JetStream does not answer: {failed}", mend)]
    if isinstance(found, Account):
        return [_room_for(found, spec, missing=registry is None)]
    return [ok(CHECK, "on; this user may not ask how much room there is")] if asked else []


def _room_for(found: Account, spec: StreamSpec, *, missing: bool) -> Finding:
    """``missing`` when the registry has still to be made."""
    if not found.tiers:
        return _room(found, missing=missing)
    tier = found.tiers.get(f"R{spec.replicas}")
    if tier is None:
        said = f"the account has room for streams of {some(sorted(found.tiers))}, and for none of R{spec.replicas}"
        return problem(CHECK, said, "raise the account's JetStream limits, or change the setting replicas")
    return _room(tier, missing=missing)


def _room(tier: Tier, *, missing: bool) -> Finding:
    limits = tier.limits
    if missing and limits.max_bytes_required:
        said = "the account wants a size for every stream, and controllers make the registry without one"
        return problem(CHECK, said, "set max_bytes to false in the account's JetStream limits")
    uses = [("bytes on file", max(tier.storage, tier.reserved_storage), limits.max_storage)]
    if missing:
        uses.append(("streams", tier.streams, limits.max_streams))
    uses.append(("consumers", tier.consumers, limits.max_consumers))
    limited = [(what, used, limit) for what, used, limit in uses if limit >= 0]
    if full := [f"{used} of {limit} {what}" for what, used, limit in limited if used >= limit]:
        return problem(CHECK, f"there is no room: the account uses {' and '.join(full)}", _MORE_ROOM)
    if nearly := [f"{used} of {limit} {what}" for what, used, limit in limited if used >= _NEARLY_FULL * limit]:
        return warning(CHECK, f"there is little room: the account uses {' and '.join(nearly)}", _MORE_ROOM)
    return ok(CHECK, f"on; streams: {tier.streams}, bytes on file: {tier.storage}")


def judge_registry(found: Stream | BusError | None, spec: StreamSpec, cluster: str) -> list[Finding]:
    """Whether the stream is as controllers make it, on as many servers as it should be; ``cluster`` may be ""."""
    if isinstance(found, BusError):
        return []  # what is wrong with JetStream is told as such
    findings = [*_replicas(found, spec, cluster), *(_servers(found, spec.name) if found is not None else ())]
    if found is not None and (differences := found.differences(spec)):
        said = f"{spec.name} is not as controllers make it: {'; '.join(differences)}"
        mend = (
            f"change it with `nats stream edit {spec.name}`, or delete it with `nats stream rm {spec.name}`: "
            "controllers make it anew, and workers register again by themselves"
        )
        findings.append(problem(REGISTRY, said, mend))
    if findings:
        return findings
    there = "is there, and as controllers make it" if found is not None else "is not there yet; a controller makes it"
    return [ok(REGISTRY, f"{spec.name} {there}")]


def _replicas(found: Stream | None, spec: StreamSpec, cluster: str) -> list[Finding]:
    have = found.config.get("num_replicas") if found is not None else None
    edit = f"`nats stream edit {spec.name} --replicas "
    if not cluster and spec.replicas > 1:
        said = f"the setting replicas is {spec.replicas}, and the server is alone: no controller can start"
        return [problem(REGISTRY, said, "set replicas to 1, or connect to a cluster")]
    if cluster and spec.replicas == 1 and have in (None, 1):
        said = f"the server is one of the cluster {cluster}, and one of them alone keeps the registry: replicas is 1"
        return [warning(REGISTRY, said, "set replicas to 3" + (f", and {edit}3`" if have else ""))]
    if have not in (None, spec.replicas):
        said = f"replicas of {spec.name}: {have}; the setting replicas: {spec.replicas}"
        return [warning(REGISTRY, said, f"correct the setting, or {edit}{spec.replicas}`")]
    return []


def _servers(found: Stream, name: str) -> list[Finding]:
    group = found.cluster
    late = [peer.name for peer in group.replicas if peer.offline or not peer.current]
    if not group.leader and group.replicas:
        return [problem(REGISTRY, f"{name} has no leader: nobody can register", "start the servers that are away")]
    if late:
        said = f"{name} is behind on {some(late)}, or that is away"
        return [warning(REGISTRY, said, "start it if it is away; if not, wait, and read its log")]
    return []

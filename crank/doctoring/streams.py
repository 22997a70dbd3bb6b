"""Owns judging the streams that controllers stand on: made as controllers make them, with room, and on enough servers.

It is given what the server answered, and asks nothing itself. ``examination`` calls it.
"""

from __future__ import annotations

from typing import NamedTuple

from bus import StreamSpec
from bus.connection import BusError
from bus.inspection import Stream
from controller.edge.claims import claims_spec
from controller.edge.job_stores import RESULTS_FULL, job_specs
from controller.edge.kept_answers import answers_spec
from controller.edge.registry_log import registry_spec
from controller.edge.slo_counts import slo_spec
from controller.edge.store_watch import CLAIMS_FULL
from controller.edge.stream_faults import made_otherwise, nearly_full
from controller.settings import ControllerSettings
from crank.doctoring.findings import Finding, Result, ok, problem, some, warning
from subjects.names import Subjects

REPLICAS = "replicas"


class Kept(NamedTuple):
    """A stream that controllers make, and what there is to say where something is wrong with it."""

    check: str
    spec: StreamSpec
    away: str
    """What happens while it has no leader."""
    anew: str
    """What it costs to delete it."""
    full: str = ""
    """What to do when it is nearly full, but to give it more."""
    made_otherwise: Result = "problem"
    """How bad that is: a controller refuses what it could lose, or warns and goes on."""
    nearly_full: Result = "problem"


def kept_streams(settings: ControllerSettings) -> tuple[Kept, ...]:
    """All of them, the registry first."""
    subjects, replicas = Subjects(settings.prefix), settings.replicas
    jobs, dead, results = job_specs(subjects, replicas, settings.jobs_max_bytes, settings.results_ttl_s)
    return (
        Kept(
            "registry", registry_spec(subjects, replicas), "nobody can register", "workers register again by themselves"
        ),
        Kept(
            "budgets",
            slo_spec(subjects, replicas),
            "each controller knows its own counts of objectives alone",
            "the month's budgets begin with what controllers that run have counted",
            made_otherwise="warning",
        ),
        Kept(
            "claims",
            claims_spec(subjects, replicas, settings.claims_max_bytes),
            "requests with a key, and jobs, are refused",
            "what was done under a key may be done again",
            CLAIMS_FULL,
        ),
        Kept(
            "answers",
            answers_spec(subjects, replicas, settings.claims_max_bytes),
            "large answers can neither be kept nor be given again",
            "the answers in it cannot be given again",
            CLAIMS_FULL,
        ),
        Kept(
            "jobs",
            jobs,
            "no job is accepted or begun",
            "the jobs in it are never done",
            "start workers for what `crank jobs` lists",
            nearly_full="warning",
        ),
        Kept(
            "dead",
            dead,
            "no job is put away, or tried again",
            "the jobs in it are gone, with their data",
            "retry or drop what `crank dead list` lists",
            made_otherwise="warning",
            nearly_full="warning",
        ),
        Kept(
            "results",
            results,
            "no job can end",
            "results whose keys are forgotten already are gone",
            RESULTS_FULL,
            made_otherwise="warning",
        ),
    )


def judge_stream(found: Stream | BusError | None, kept: Kept) -> list[Finding]:
    """Whether it is as controllers make it, has room, and all its servers are there."""
    check, spec = kept.check, kept.spec
    if isinstance(found, BusError):
        return []  # what is wrong with JetStream is told as such
    if found is None:
        return [ok(check, f"{spec.name} is not there yet; a controller makes it")]
    findings = [*_replicas(found, kept), *_servers(found, kept)]
    if (fault := made_otherwise(spec.name, found.differences(spec))) is not None:
        mend = (
            f"{fault.mend}, or delete it with `nats stream rm {spec.name}`: controllers make it anew, and {kept.anew}"
        )
        findings.append(Finding(check, kept.made_otherwise, fault.found, mend))
    if (fault := nearly_full(spec.name, found.config, found.state.get("bytes", 0), kept.full)) is not None:
        findings.append(Finding(check, kept.nearly_full, *fault))
    return findings or [ok(check, f"{spec.name} is there, and as controllers make it")]


def judge_replicas(registry: Stream | BusError | None, replicas: int, cluster: str) -> list[Finding]:
    """Whether the setting fits the server; ``cluster`` is the name of its cluster, or "".

    Whoever may not ask for streams has no use for it: nothing is found.
    """
    if isinstance(registry, BusError):
        return []
    if not cluster and replicas > 1:
        said = f"the setting replicas is {replicas}, and the server is alone: no controller can start"
        return [problem(REPLICAS, said, "set replicas to 1, or connect to a cluster")]
    if cluster and replicas == 1:
        said = f"the server is one of the cluster {cluster}, and one of them alone keeps each stream: replicas is 1"
        return [warning(REPLICAS, said, "set replicas to 3, and look again: streams that are there keep theirs")]
    where = f"on the cluster {cluster}" if cluster else "and the server is alone"
    return [ok(REPLICAS, f"the setting is {replicas}, {where}")]


def _replicas(found: Stream, kept: Kept) -> list[Finding]:
    have, spec = found.config.get("num_replicas"), kept.spec
    if have in (None, spec.replicas):
        return []
    said = f"replicas of {spec.name}: {have}; the setting replicas: {spec.replicas}"
    mend = f"correct the setting, or `nats stream edit {spec.name} --replicas {spec.replicas}`"
    return [warning(kept.check, said, mend)]


def _servers(found: Stream, kept: Kept) -> list[Finding]:
    group, name = found.cluster, kept.spec.name
    late = [peer.name for peer in group.replicas if peer.offline or not peer.current]
    if not group.leader and group.replicas:
        return [problem(kept.check, f"{name} has no leader: {kept.away}", "start the servers that are away")]
    if late:
        said = f"{name} is behind on {some(late)}, or that is away"
        return [warning(kept.check, said, "start it if it is away; if not, wait, and read its log")]
    return []

"""Subjects: any text gives a valid subject or a refusal, and every builder has a parser that gives the text back."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.names import Subjects, service
from subjects.tokens import (
    CapabilityId,
    ControllerId,
    RequestId,
    WorkerId,
    capability_id,
    is_capability,
    is_token,
    split_capability,
)

TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
PREFIXES = st.one_of(st.just("crank"), TOKENS)
ANY_TEXT = st.one_of(st.text(max_size=80), TOKENS, st.sampled_from(["", ".", "*", ">", "a.b", "a\n", "é", "x" * 65]))
A_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})+").fullmatch

OF_A_CAPABILITY = {"request": "request", "submit": "submit", "jobs": "job", "dead": "dead"}
OF_ONE_ID = {
    kind: kind
    for kind in (
        "result", "cancel", "register", "deregister", "heartbeat", "control", "registry", "admin", "decision", "audit",
    )
}  # fmt: skip


def build(subjects: Subjects, method: str) -> Callable[[str], str]:
    """The builder of that name."""
    builder: Callable[[str], str] = getattr(subjects, method)
    return builder


@given(ANY_TEXT)
def test_a_token_is_1_to_64_plain_characters_and_nothing_else(text: str) -> None:
    """`is_token` agrees with the contract's own words, for any text."""
    plain = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert is_token(text) == (1 <= len(text) <= 64 and set(text) <= plain)


@given(TOKENS, TOKENS)
def test_a_capability_is_two_tokens_and_comes_apart_again(verb: str, name: str) -> None:
    """`capability_id` and `split_capability` are each other's opposite."""
    assert is_capability(f"{verb}:{name}")
    assert split_capability(capability_id(verb, name)) == (verb, name)


@pytest.mark.parametrize("text", ["", ":", "a", "a:", ":b", "a:b:c", "a.b:c", "a:b ", "a:b\n", "a" * 65 + ":b"])
def test_what_is_not_verb_and_name_is_no_capability(text: str) -> None:
    """One colon, a token on each side."""
    assert not is_capability(text)


@given(PREFIXES, st.sampled_from(sorted(OF_A_CAPABILITY)), TOKENS, TOKENS)
def test_subjects_of_a_capability_are_read_back(prefix: str, kind: str, verb: str, name: str) -> None:
    """Built under any prefix, a capability's subject gives the capability back, and to no other kind or prefix."""
    subjects = Subjects(prefix)
    subject = build(subjects, OF_A_CAPABILITY[kind])(capability_id(verb, name))
    assert A_SUBJECT(subject)
    assert subject == f"{prefix}.{kind}.{verb}.{name}"
    assert subjects.parse_capability(kind, subject) == f"{verb}:{name}"
    assert subjects.parse_capability(kind + "x", subject) is None
    assert Subjects(prefix[:-1] + ("a" if prefix[-1] != "a" else "b")).parse_capability(kind, subject) is None


@given(PREFIXES, st.sampled_from(sorted(OF_ONE_ID)), TOKENS)
def test_subjects_of_an_id_are_read_back(prefix: str, kind: str, ident: str) -> None:
    """Built under any prefix, an id's subject gives the id back, and to no other kind."""
    subjects = Subjects(prefix)
    subject = build(subjects, OF_ONE_ID[kind])(ident)
    assert A_SUBJECT(subject)
    assert subject == f"{prefix}.{kind}.{ident}"
    assert subjects.parse_one(kind, subject) == ident
    assert subjects.parse_one("other", subject) is None


@given(PREFIXES, TOKENS, TOKENS, TOKENS)
def test_a_dispatch_subject_is_read_back(prefix: str, worker: str, verb: str, name: str) -> None:
    """A worker's subject names the worker and the capability."""
    subjects = Subjects(prefix)
    subject = subjects.worker(WorkerId(worker), capability_id(verb, name))
    assert subject == f"{prefix}.worker.{worker}.{verb}.{name}"
    assert subjects.parse_worker(subject) == (worker, f"{verb}:{name}")
    assert subjects.parse_capability("worker", subject) is None


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_text_becomes_a_valid_subject_or_is_refused(one: str, two: str, three: str) -> None:
    """No builder ever lets a dot, a wildcard or a space through: the subject has exactly the tokens it should have."""
    subjects = Subjects()
    capability = CapabilityId(f"{two}:{three}")
    builders: list[tuple[Callable[[], str], int]] = [
        *((lambda m=m: build(subjects, m)(capability), 4) for m in OF_A_CAPABILITY.values()),
        *((lambda m=m: build(subjects, m)(one), 3) for m in OF_ONE_ID.values()),
        (lambda: subjects.worker(WorkerId(one), capability), 5),
        (lambda: subjects.event(one, two), 4),
        (lambda: subjects.slo(ControllerId(one), two, 29_000_000), 5),
    ]
    for builder, tokens in builders:
        try:
            subject = builder()
        except ValueError:
            continue
        assert A_SUBJECT(subject)
        assert subject.count(".") == tokens - 1


@given(st.one_of(st.text(max_size=60), st.from_regex(r"crank\.[a-z]{0,8}(\.[^.]{0,5}){0,5}", fullmatch=True)))
def test_a_parser_gives_none_for_what_is_not_its_own(subject: str) -> None:
    """Any subject is read or is None, never an exception, and what is read is a token."""
    subjects = Subjects()
    for kind in (*OF_A_CAPABILITY, *OF_ONE_ID, "worker", ""):
        capability = subjects.parse_capability(kind, subject)
        assert capability is None or is_capability(capability)
        ident = subjects.parse_one(kind, subject)
        assert ident is None or is_token(ident)
    worker = subjects.parse_worker(subject)
    assert worker is None or (is_token(worker[0]) and is_capability(worker[1]))


@pytest.mark.parametrize(
    "subject",
    ["crank.request.greet", "crank.request.greet.hello.more", "crank.request..hello", "crank.request.greet.",
     "crank.request.greet.he llo", "crank.request.*.hello", "crank.request.greet.>", "other.request.greet.hello",
     "crank.submit.greet.hello", "", "crank", "crank.request.greet." + "x" * 65],
)  # fmt: skip
def test_a_request_subject_that_is_not_exactly_right_is_none(subject: str) -> None:
    """A missing, empty, surplus or malformed token is nobody's request."""
    assert Subjects().parse_capability("request", subject) is None


@pytest.mark.parametrize(
    "subject", ["crank.worker.w.greet", "crank.worker.w.a.b.c", "crank.worker.w..b", "x.worker.w.a.b"]
)
def test_a_dispatch_subject_that_is_not_exactly_right_is_none(subject: str) -> None:
    """A worker answers nothing but its own subjects."""
    assert Subjects().parse_worker(subject) is None


@pytest.mark.parametrize("prefix", ["", "a.b", "a b", "*", "é", "x" * 65, "crank\n"])
def test_a_prefix_is_a_token(prefix: str) -> None:
    """An installation's name is refused where it could not stand in a subject."""
    with pytest.raises(ValueError, match="prefix"):
        Subjects(prefix)


def test_the_contract_s_own_subjects() -> None:
    """The subjects, streams and buckets of the default installation are those of the contract's tables."""
    s, hello = Subjects(), CapabilityId("greet:hello_world")
    assert [
        s.request(hello), s.submit(hello), s.result("j-1"), s.cancel(RequestId("r-1")), s.register(WorkerId("w-1")),
        s.deregister(WorkerId("w-1")), s.heartbeat(WorkerId("w-1")), s.worker(WorkerId("w-1"), hello),
        s.control(WorkerId("w-1")), s.admin("workers"), s.event("worker", "joined"), s.registry(WorkerId("w-1")),
        s.job(hello), s.dead(hello), s.decision(ControllerId("c-1")), s.audit(ControllerId("c-1")),
        s.slo(ControllerId("c-1"), "b00t", 29_000_000), s.all("request"), s.worker_all(WorkerId("w-1")),
    ] == [
        "crank.request.greet.hello_world", "crank.submit.greet.hello_world", "crank.result.j-1", "crank.cancel.r-1",
        "crank.register.w-1", "crank.deregister.w-1", "crank.heartbeat.w-1", "crank.worker.w-1.greet.hello_world",
        "crank.control.w-1", "crank.admin.workers", "crank.event.worker.joined", "crank.registry.w-1",
        "crank.jobs.greet.hello_world", "crank.dead.greet.hello_world", "crank.decision.c-1", "crank.audit.c-1",
        "crank.slo.c-1.b00t.29000000", "crank.request.>", "crank.worker.w-1.>",
    ]  # fmt: skip
    assert [s.stream_registry, s.stream_jobs, s.stream_dead, s.stream_decisions, s.stream_audit, s.stream_slo] == [
        "CRANK_REGISTRY", "CRANK_JOBS", "CRANK_DEAD", "CRANK_DECISIONS", "CRANK_AUDIT", "CRANK_SLO",
    ]  # fmt: skip
    assert (s.bucket_idempotency, s.bucket_results) == ("crank_idempotency", "crank_results")


def test_two_installations_share_no_stream_and_no_bucket() -> None:
    """Prefixes that differ in a hyphen and an underscore name different streams and buckets."""
    one, other = vars(Subjects("team-a")), vars(Subjects("team_a"))
    assert not set(one.values()) & set(other.values())


@given(PREFIXES, st.text(max_size=30))
def test_no_answer_goes_where_it_would_be_a_message_of_ours_or_of_the_server(prefix: str, rest: str) -> None:
    """A caller names its reply subject freely; an inbox is one, a worker's subject or JetStream's are not."""
    subjects = Subjects(prefix)
    assert not subjects.may_reply(f"{prefix}.{rest}")
    assert not subjects.may_reply(f"$JS.{rest}")
    assert subjects.may_reply(f"_INBOX.{rest}") or prefix == "_INBOX"


def test_the_services_protocol_has_subjects_of_its_own() -> None:
    """`$SRV` with a verb, and a service and one instance of it where they are named."""
    assert service("PING") == "$SRV.PING"
    assert service("INFO", "crank-controller") == "$SRV.INFO.crank-controller"
    assert service("STATS", "crank-controller", "c-1-0a") == "$SRV.STATS.crank-controller.c-1-0a"
    with pytest.raises(ValueError, match="not a token"):
        service("STATS", "crank.controller")

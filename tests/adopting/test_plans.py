"""What is made of what a service says of itself: names, versions, places, and what is left out and why."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crank.adopting.described import MAX_ANSWER_BYTES, Endpoint, Info, read_info, read_ping
from crank.adopting.plans import DEFAULT_CONCURRENCY, Plan, Wishes, plan
from subjects.names import Subjects
from subjects.tokens import CapabilityId

_SUBJECTS = Subjects()


def _info(*endpoints: Endpoint, id: str = "i1", version: str = "1.0.0", metadata: dict[str, str] | None = None) -> Info:  # noqa: A002
    return Info("orders", id, version, endpoints or (Endpoint("total", "shop.total"),), metadata)


def _plan(*instances: Info, **wishes: object) -> Plan:
    return plan("orders", instances, _SUBJECTS, Wishes(**wishes))  # type: ignore[arg-type]


def _offered(planned: Plan) -> dict[str, str]:
    return {offer.label: offer.subject for offer in planned.offers}


def test_each_endpoint_becomes_a_capability_under_the_services_name() -> None:
    """In the service's version, with places for every instance."""
    planned = _plan(*(_info(id=f"i{number}") for number in range(3)))
    assert _offered(planned) == {"orders:total 1.0.0": "shop.total"}
    assert planned.offers[0].metadata == {"max_concurrency": 3 * DEFAULT_CONCURRENCY}
    assert planned.remarks == ()


def test_the_operator_may_choose_name_and_say_what_the_service_does_not() -> None:
    """By an endpoint's name or by its subject; it beats the service's own word."""
    says = {"crank.max_concurrency": "2", "crank.cost_tokens_per_invocation": "9"}
    endpoints = (Endpoint("total", "shop.total", metadata=says), Endpoint("reset", "shop.reset"))
    sum_orders = CapabilityId("sum:orders")
    planned = _plan(
        _info(*endpoints), _info(*endpoints, id="i2"),
        names={"shop.total": sum_orders}, only=frozenset({"total"}),
        max_concurrency=5, idempotent=True, cost_tokens=0.5,
    )  # fmt: skip
    assert _offered(planned) == {"sum:orders 1.0.0": "shop.total"}
    metadata = {"max_concurrency": 10, "idempotent": True, "cost_tokens_per_invocation": 0.5}
    assert planned.offers[0].metadata == metadata


def test_metadata_of_ours_is_read_as_fields_of_the_manifest() -> None:
    """The service's for all of its endpoints, an endpoint's own before it; a text that is no JSON is a text."""
    own = {"crank.idempotent": "true", "crank.slo": '{"latency_p95_ms": 80}', "crank.max_concurrency": "4", "team": "x"}
    service = {"crank.runtime": "node20", "crank.idempotent": "false"}
    planned = _plan(_info(Endpoint("total", "shop.total", metadata=own), metadata=service))
    expected = {"idempotent": True, "slo": {"latency_p95_ms": 80}, "max_concurrency": 4, "runtime": "node20"}
    assert planned.offers[0].metadata == expected


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (Endpoint("total", "shop.*"), "listens on the pattern shop.*"),
        (Endpoint("total", "shop.>"), "listens on the pattern shop.>"),
        (Endpoint("total", "crank.request.orders.total"), "is a subject of Crank or of the NATS server"),
        (Endpoint("total", "$SYS.REQ.USER"), "is a subject of Crank or of the NATS server"),
        (Endpoint("total", "$JS.API.STREAM.DELETE.x"), "is a subject of Crank or of the NATS server"),
        (Endpoint("total", "_INBOX.abc.1"), "is a subject of Crank or of the NATS server"),
        (Endpoint("total", "shop total"), "is no subject to send to"),
        (Endpoint("total", "shop.total\r\nPUB x 0"), "is no subject to send to"),
        (Endpoint("total", "shop..total"), "is no subject to send to"),
        (Endpoint("total", ""), "is no subject to send to"),
        (Endpoint("total", "s" * 300), "is no subject to send to"),
        (Endpoint("to.tal", "shop.total"), "its name is not 1 to 64 of"),
        (Endpoint("", "shop.total"), "--as shop.total=VERB:NAME"),
        (Endpoint("total", "s", metadata={"crank.idempotnt": "true"}), "did you mean crank.idempotent?"),
        (Endpoint("total", "s", metadata={"crank.streaming": "true"}), "'crank.streaming'; did you mean"),
        (Endpoint("total", "s", metadata={"crank.input_schema": "true"}), "'crank.input_schema'; after crank. comes"),
        (Endpoint("total", "s", metadata={"crank.max_concurrency": "many"}), "which is no number"),
        (Endpoint("total", "s", metadata={"crank.idempotent": True}), "is not a text"),
    ],
)
def test_an_endpoint_that_cannot_be_offered_is_left_out_with_the_reason(endpoint: Endpoint, why: str) -> None:
    """And nothing else is."""
    planned = _plan(_info(endpoint, Endpoint("fine", "shop.fine")))
    assert _offered(planned) == {"orders:fine 1.0.0": "shop.fine"}
    assert why in planned.remarks[0]
    assert len(planned.remarks) == 1


def test_a_name_that_is_no_token_can_be_given_one() -> None:
    """By its subject or by itself."""
    for key in ("to.tal", "shop.total"):
        planned = _plan(_info(Endpoint("to.tal", "shop.total")), names={key: CapabilityId("orders:total")})
        assert _offered(planned) == {"orders:total 1.0.0": "shop.total"}


def test_endpoints_of_one_name_on_several_subjects_are_told_apart_by_the_operator() -> None:
    """The protocol allows it, and nobody can guess which is meant."""
    info = _info(Endpoint("add", "a.add"), Endpoint("add", "b.add"))
    assert _plan(info).offers == ()
    assert "--as a.add=VERB:NAME" in _plan(info).remarks[0]
    told = _plan(info, names={"a.add": CapabilityId("a:add")})
    assert _offered(told) == {"a:add 1.0.0": "a.add", "orders:add 1.0.0": "b.add"}


def test_of_versions_on_one_subject_the_lowest_is_offered() -> None:
    """By precedence, not by spelling; an instance whose version is none is left out."""
    planned = _plan(
        _info(version="1.10.0", id="a"), _info(version="1.9.0", id="b"), _info(version="2.0.0-rc.1", id="c"),
        _info(version="latest", id="d"),
    )  # fmt: skip
    assert [offer.label for offer in planned.offers] == ["orders:total 1.9.0"]
    assert planned.offers[0].metadata["max_concurrency"] == 3 * DEFAULT_CONCURRENCY
    assert [re.sub(r"\s+", " ", remark) for remark in planned.remarks] == [
        "instance d is left out: 'latest' is no semantic version",
        "offered as 1.9.0, though NATS may choose an instance of 2.0.0-rc.1, 1.10.0 on the same subject",
    ]


def test_versions_on_subjects_of_their_own_are_all_offered() -> None:
    """A dispatch can choose between those."""
    old, new = Endpoint("total", "v1.total"), Endpoint("total", "v2.total")
    planned = _plan(_info(old, version="1.0.0", id="a"), _info(new, version="2.0.0", id="b"))
    assert _offered(planned) == {"orders:total 1.0.0": "v1.total", "orders:total 2.0.0": "v2.total"}


@pytest.mark.parametrize(
    ("queues", "places", "runs"),
    [(("q", "q"), 2, 0), (("", ""), 1, 2), (("a", "b", "b"), 1, 2), (("", "q", "q"), 2, 2)],
)
def test_instances_that_share_no_queue_group_share_no_places(queues: tuple[str, ...], places: int, runs: int) -> None:
    """Each group runs every request: there is as much room as the smallest has, and people are told."""
    infos = (_info(Endpoint("total", "shop.total", queue), id=f"i{n}") for n, queue in enumerate(queues))
    planned = _plan(*infos, max_concurrency=1)
    assert planned.offers[0].metadata["max_concurrency"] == places
    assert any(f"each request runs {runs} times" in remark for remark in planned.remarks) == (runs > 1)


def test_no_more_is_offered_than_a_manifest_holds() -> None:
    """And how many are left out is said."""
    many = [_info(*(Endpoint(f"e{i}-{n}", f"s.e{i}-{n}") for n in range(200)), id=f"i{i}") for i in range(2)]
    planned = _plan(*many)
    assert len(planned.offers) == 256
    assert "144 endpoints are left out" in planned.remarks[-1]


def test_answers_are_read_as_the_clients_of_several_languages_write_them() -> None:
    """nats-py and nats.go send null for what is not set; nats.js leaves it out, and has "" for no queue group."""
    start = '{"name":"a","id":"x","version":"1.0.0","endpoints":'
    info = read_info(f'{start}[{{"name":"e","subject":"s","metadata":null}}],"metadata":null}}'.encode())
    assert isinstance(info, Info)
    assert info.endpoints == (Endpoint("e", "s", "q"),)
    assert isinstance(read_info(f"{start}null}}".encode()), Info)
    js = read_info(f'{start}[{{"name":"e","subject":"s","queue_group":""}}],"more":1}}'.encode())
    assert isinstance(js, Info)
    assert js.endpoints == (Endpoint("e", "s", ""),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"name":"a","id":1,"version":"1"}',
        b'{"name":"a","id":"","version":"1.0.0"}',
        b'{"name":"a","id":"x\\u001b[2J","version":"1.0.0"}',
        json.dumps({"name": "a", "id": "x" * 200, "version": "1"}).encode(),
        json.dumps({"name": "a", "id": "x", "version": "1", "more": "y" * MAX_ANSWER_BYTES}).encode(),
        json.dumps(
            {"name": "a", "id": "x", "version": "1", "endpoints": [{"name": "e", "subject": "s"}] * 300}
        ).encode(),
    ],
)
def test_what_is_no_answer_is_a_reason(body: bytes) -> None:
    """Short, and fit for a log."""
    for why in [read_info(body)] + ([read_ping(body)] if b"endpoints" not in body else []):
        assert isinstance(why, str)
        assert len(why) < 300
        assert why.isprintable()


_text = st.text(max_size=8)
_keys = _text | st.sampled_from(["crank.slo", "crank.cost", "crank.max_concurrency"])
_endpoints = st.builds(
    Endpoint, _text, _text, _text,
    st.none() | st.dictionaries(_keys, _text | st.integers(), max_size=3),
)  # fmt: skip
_infos = st.builds(
    Info, st.just("orders"), _text, st.sampled_from(["1.0.0", "2.0.0", "x"]),
    st.lists(_endpoints, max_size=4).map(tuple), st.none(),
)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(_infos, max_size=4))
def test_whatever_a_service_says_is_a_plan(infos: list[Info]) -> None:
    """And every subject in it may be published on."""
    for offer in plan("orders", infos, _SUBJECTS, Wishes()).offers:
        assert not re.search(r"[\s*>\x00-\x1f\x7f]", offer.subject)
        assert not offer.subject.startswith(("$", "crank.", "_INBOX."))

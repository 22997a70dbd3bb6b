"""The small messages: heartbeat, deregistration, control, acknowledgement, stored departure."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subjects.errors import ErrorKind, Refusal
from subjects.manifests import Bid
from subjects.messages import (
    MAX_CONTROL_BYTES,
    Control,
    Departure,
    Deregister,
    Heartbeat,
    Registered,
    encode,
    parse_control,
    parse_departure,
    parse_deregister,
    parse_heartbeat,
)

COUNTS = st.one_of(st.none(), st.integers(0, 2**53))
PRICES = st.floats(0, 1e300)
BIDS = st.one_of(PRICES, st.builds(Bid, latency_ms=st.none() | PRICES, budget_tokens=st.none() | PRICES))
HEARTBEATS = st.builds(
    Heartbeat,
    seq=st.integers(0, 2**53),
    instance=st.none() | st.text(min_size=1, max_size=128),
    in_flight=COUNTS,
    capacity=COUNTS,
    draining=st.booleans(),
    bids=st.none() | st.dictionaries(st.text(max_size=8), BIDS, max_size=3),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [field for kind in (Heartbeat, Deregister, Control, Departure) for field in kind.__struct_fields__]
)
PARSERS = (parse_heartbeat, parse_deregister, parse_control)


def paths(answer: object) -> list[str]:
    """Where the offences are; the message must be refused."""
    assert isinstance(answer, Refusal), answer
    assert answer.kind is ErrorKind.MALFORMED
    return [offence.path for offence in answer.offences]


@given(HEARTBEATS)
def test_a_heartbeat_is_read_back(heartbeat: Heartbeat) -> None:
    """Whatever it carries."""
    assert parse_heartbeat(encode(heartbeat)) == heartbeat


@given(st.builds(Deregister, reason=st.text(max_size=256), instance=st.none() | st.text(min_size=1, max_size=128)))
def test_a_deregistration_is_read_back(message: Deregister) -> None:
    """Whatever the reason."""
    assert parse_deregister(encode(message)) == message


@given(
    st.builds(
        Control,
        op=st.sampled_from(["cancel", "reregister", "drain"]),
        dispatch_id=st.none() | st.text(max_size=64),
        error=st.none() | st.text(max_size=64),
    )
)
def test_a_control_message_is_read_back(message: Control) -> None:
    """Each of the three operations."""
    assert parse_control(encode(message)) == message


@given(st.builds(Departure, st.text(max_size=9), st.lists(st.text(max_size=9)).map(tuple), st.text(max_size=9)))
def test_a_stored_departure_is_read_back(departure: Departure) -> None:
    """A registry is a replay of these."""
    assert parse_departure(encode(departure)) == departure


def test_the_contract_s_own_messages() -> None:
    """The examples of the contract are read and written as they stand there."""
    heartbeat = {"seq": 7, "instance": "b3", "in_flight": 2, "capacity": 8, "draining": False}
    bids: dict[str, float | Bid] = {"greet:hello_world": 1.5}
    assert parse_heartbeat(json.dumps({**heartbeat, "bids": bids}).encode()) == Heartbeat(7, "b3", 2, 8, False, bids)
    assert parse_deregister(b'{"reason": "shutdown", "instance": "b3"}') == Deregister("shutdown", "b3")
    assert encode(Control("cancel", dispatch_id="d")) == b'{"op":"cancel","dispatch_id":"d"}'
    assert encode(Control("reregister", error="worker_not_registered")) == (
        b'{"op":"reregister","error":"worker_not_registered"}'
    )
    assert json.loads(encode(Registered("hello-1", "c-1", 2))) == {
        "status": "registered", "worker_id": "hello-1", "controller": "c-1", "heartbeat_interval_s": 2,
    }  # fmt: skip


def test_unknown_fields_are_ignored_and_null_is_absent() -> None:
    """In each message, as in a manifest."""
    assert parse_heartbeat(b'{"seq": 1, "future": [{}], "draining": null, "in_flight": null}') == Heartbeat(1)
    assert parse_deregister(b'{"reason": null, "x": 1}') == Deregister()
    assert parse_control(b'{"op": "drain", "dispatch_id": null, "x": {}}') == Control("drain")


def test_an_empty_deregistration_is_one_without_a_reason() -> None:
    """Leaving needs no words; a heartbeat and a control message do."""
    assert parse_deregister(b"") == Deregister()
    assert paths(parse_heartbeat(b"")) == paths(parse_control(b"")) == []


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({}, ["seq"]),
        ({"seq": -1}, ["seq"]),
        ({"seq": 2**53 + 1}, ["seq"]),
        ({"seq": "1"}, ["seq"]),
        ({"seq": True}, ["seq"]),
        ({"seq": 1, "instance": ""}, ["instance"]),
        ({"seq": 1, "instance": "x" * 129}, ["instance"]),
        ({"seq": 1, "in_flight": -1, "capacity": -1, "draining": 1}, ["in_flight", "capacity", "draining"]),
        ({"seq": 1, "bids": []}, ["bids"]),
        ({"seq": 1, "bids": {"a:b": -1, "c:d": 1, "e:f": {"latency_ms": "x"}}}, ["bids.a:b", "bids.e:f.latency_ms"]),
    ],
)
def test_every_offence_of_a_heartbeat_is_named(message: dict[str, Any], where: list[str]) -> None:
    """The path goes down to the value."""
    assert paths(parse_heartbeat(json.dumps(message).encode())) == where


@pytest.mark.parametrize(
    ("message", "where"),
    [({}, ["op"]), ({"op": "explode"}, ["op"]), ({"op": 1, "dispatch_id": 2}, ["op", "dispatch_id"])],
)
def test_every_offence_of_a_control_message_is_named(message: dict[str, Any], where: list[str]) -> None:
    """An operation that this version does not know too."""
    assert paths(parse_control(json.dumps(message).encode())) == where


def test_every_offence_of_a_deregistration_is_named() -> None:
    """A reason is a short text."""
    assert paths(parse_deregister(json.dumps({"reason": "x" * 257, "instance": 1}).encode())) == ["reason", "instance"]


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b"null", b"{", b"\xff", b"[" * 10_000, b'{"seq":1,"x":' + b"[" * 10_000, b"9" * 5000]
)
def test_what_is_not_a_json_object_is_refused_and_never_raises(body: bytes) -> None:
    """Nesting without end too."""
    for parse in PARSERS:
        assert isinstance(parse(body), Refusal)
    assert parse_departure(body) is None


def test_there_is_a_largest_message() -> None:
    """A message is not looked at past its limit, though it be good."""
    good = b'{"seq": 1, "op": "drain"}'
    for parse in PARSERS:
        assert not isinstance(parse(good.ljust(MAX_CONTROL_BYTES)), Refusal)
        refusal = parse(good.ljust(MAX_CONTROL_BYTES + 1))
        assert isinstance(refusal, Refusal)
        assert str(MAX_CONTROL_BYTES) in refusal.detail


@given(st.one_of(st.binary(max_size=40), JSON.map(json.dumps).map(str.encode),
                 st.dictionaries(FIELDS, JSON, max_size=6).map(json.dumps).map(str.encode)))  # fmt: skip
def test_any_bytes_are_a_message_or_a_400(body: bytes) -> None:
    """No bytes raise, and every offence is named once."""
    for parse in PARSERS:
        answer = parse(body)
        if isinstance(answer, Refusal):
            assert len(set(paths(answer))) == len(answer.offences)
    departure = parse_departure(body)
    assert departure is None or parse_departure(encode(departure)) == departure

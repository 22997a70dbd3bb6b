"""The stored form of a claim: keys that never read alike, fingerprints, and records that strangers cannot break."""

from __future__ import annotations

import hashlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from subjects.claims import ClaimRecord, StoredAnswer, StoredError, claim_key, decode_claim, encode_claim, fingerprint
from subjects.tokens import is_claim_key, is_token

TEXT = st.text(max_size=40)
ANSWER = StoredAnswer("w-1", "1.0.0", 1, b"\x00body", "text/x", "X: y\r\n", StoredError(500, "no", 1000), "blob")
RECORD = ClaimRecord(
    "done", "n", "c-1.b", "ann", "greet:hello", "k", b"f" * 32, "r-1", 15.0, 3600.0, True, 2, "w-1", ANSWER
)


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=2, max_size=2, unique=True))
def test_different_callers_capabilities_or_keys_have_different_claims(triples: list[tuple[str, str, str]]) -> None:
    """However their parts are cut."""
    one, other = (claim_key(*triple) for triple in triples)
    assert one != other


@given(TEXT, TEXT, TEXT)
def test_a_claim_s_name_is_a_token_of_its_own_kind(caller: str, capability: str, key: str) -> None:
    """It may stand in a subject, whatever the caller sent."""
    name = claim_key(caller, capability, key)
    assert is_token(name)
    assert is_claim_key(name)
    assert len(name) == 52


def test_a_claim_s_name_is_what_the_documentation_says() -> None:
    """Base32 of SHA-256 over length-prefixed parts, so that others can find it."""
    import base64

    digest = hashlib.sha256(b"3:ann11:greet:hello1:k").digest()
    assert claim_key("ann", "greet:hello", "k") == base64.b32encode(digest).decode().rstrip("=").lower()


@given(st.tuples(TEXT, st.binary(max_size=40)), st.tuples(TEXT, st.binary(max_size=40)))
def test_fingerprints_tell_payloads_and_media_types_apart(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    """Also where a media type ends like a payload begins."""
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_a_record_is_read_as_it_was_written() -> None:
    """Every field, the answer's too."""
    assert decode_claim(encode_claim(RECORD)) == RECORD


def test_fields_may_be_added_at_the_end() -> None:
    """A newer controller's record is read by an older one, and the other way round."""
    values = msgspec.msgpack.decode(encode_claim(RECORD))
    assert decode_claim(msgspec.msgpack.encode([*values, "something new"])) == RECORD
    older = decode_claim(msgspec.msgpack.encode(["waiting", *values[1:10]]))
    assert older is not None
    assert (older.state, older.answer, older.job) == ("waiting", None, False)


@given(st.binary(max_size=200))
def test_what_is_no_record_is_none(body: bytes) -> None:
    """Whoever may write to the bucket cannot stop a controller."""
    record = decode_claim(body)
    assert record is None or isinstance(record, ClaimRecord)


def test_what_nests_without_end_is_no_record() -> None:
    """Nor does it end a process."""
    assert decode_claim(b"\x91" * 100_000) is None

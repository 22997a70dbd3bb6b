"""Versions and ranges of them: the contract's examples, pre-releases, junk and hostile text."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subjects.versions import MAX_RANGE_CHARS, MAX_VERSION_CHARS, by_precedence, in_range, is_range, parse_version

NUMBERS = st.integers(0, 20)
VERSIONS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda v: ".".join(map(str, v)))


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        ("^1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0"]),
        (">=2,<3", ["2.0.0", "2.9.9"], ["1.9.9", "3.0.0"]),
        (">=2, <3", ["2.0.0", "2.9.9"], ["1.9.9", "3.0.0"]),
        (">=2  <3", ["2.0.0"], ["3.0.0"]),
        (">= 2, < 3", ["2.0.0"], ["3.0.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("1.x", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("1.2.3", ["1.2.3"], ["1.2.4"]),
        ("=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("==1.2.3", ["1.2.3"], ["1.2.4"]),
        ("v1.2.3", ["1.2.3"], ["1.2.4"]),
        ("*", ["0.0.0", "99.0.0"], ["1.0.0-rc.1"]),
        ("^1 || ^3", ["1.5.0", "3.0.0"], ["2.0.0"]),
        ("1.2 - 1.4", ["1.2.0", "1.4.5"], ["1.1.0", "1.5.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4"]),
        # As in npm, a pre-release matches only a range that names one of the same version.
        ("^1.2", ["1.2.0"], ["1.3.0-rc.1", "1.2.0-rc.1"]),
        (">=1.2.0-rc.1", ["1.2.0-rc.2", "1.2.0", "1.3.0"], ["1.2.0-beta", "1.3.0-rc.1"]),
    ],
)
def test_what_lies_in_a_range(wanted: str, inside: list[str], outside: list[str]) -> None:
    """The ranges of npm, with a comma and spaces allowed between bounds."""
    assert is_range(wanted)
    assert [v for v in inside if not in_range(v, wanted)] == []
    assert [v for v in outside if in_range(v, wanted)] == []


@given(VERSIONS)
def test_no_range_is_any_version(version: str) -> None:
    """Pre-releases too."""
    assert in_range(version, None)
    assert in_range(version + "-rc.1", None)


@given(VERSIONS, VERSIONS)
def test_bounds_agree_with_the_order(one: str, other: str) -> None:
    """`>=` and `<` are each other's opposite, and `newest` is never below either."""
    below = parse_version(one) < parse_version(other)  # type: ignore[operator]
    assert in_range(one, f"<{other}") == below
    assert in_range(one, f">={other}") == (not below)
    highest = by_precedence([one, other])[0]
    assert highest in (one, other)
    assert in_range(highest, f">={one},>={other}")


@pytest.mark.parametrize(
    "text",
    ["", " ", "latest", "^", ">", "1.2.3.4", "^1.2 || junk", "a - b", " - ", "1 - ", "1 - 2 - 3", "1,-,x", "~,-,~",
     "=>1", "01.2.3", "1.2.3-rc..1", "^1.2-rc", "٣.0.0", "１.2", "x" * 200, ">=1 " * 40, "1" * 129],
)  # fmt: skip
def test_junk_is_not_a_range(text: str) -> None:
    """And no version lies in it."""
    assert not is_range(text)
    assert not in_range("1.2.3", text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0-rc..1", "1.0.0-01", "latest", " 1.0.0", "1.0.0 ",
     "1.0.0\n", "1.0.0\r\n", "٣.0.0", "1.0.0-é", "1.0.0+é", "1.0.0-" + "a" * 64],
)  # fmt: skip
def test_what_is_not_a_semantic_version_is_none(text: str) -> None:
    """A version becomes a header value, so a line end after it counts too."""
    assert parse_version(text) is None
    assert not in_range(text, "*")


@pytest.mark.parametrize("text", ["0.0.0", "1.0.0", "2.0.0-rc.1", "1.0.0-alpha.1+build.5", "1.0.0-" + "a" * 58])
def test_semantic_versions_are_read_and_written_alike(text: str) -> None:
    """Up to the longest that is read."""
    assert len(text) <= MAX_VERSION_CHARS
    assert str(parse_version(text)) == text


@given(
    st.one_of(
        st.text(max_size=MAX_RANGE_CHARS + 10),
        st.text("0123x*^~<>=|-+. ,vrc\n", max_size=24),
        st.lists(st.sampled_from([" - ", "||", "^1.2", ">=2", ",", "x", "1.2.3-rc.1", " ", "~", "junk"])).map("".join),
    )
)
@example("2,- ,~")
@example("1 - x")
def test_any_text_is_a_range_or_not(text: str) -> None:
    """No text raises, and a range can be asked."""
    if is_range(text):
        for version in ("1.2.3", "1.2.3-rc.1", "0.0.0"):
            assert in_range(version, text) in (True, False)
    else:
        assert not in_range("1.2.3", text)
    assert parse_version(text) is None or in_range(text, None)


@pytest.mark.parametrize(
    "text", ["1." * 100_000, "||" * 60, "^1 " * 42, "<" * 128, "1-" * 64, "x.x.x " * 21, " " * 10**6]
)
def test_hostile_text_costs_nothing(text: str) -> None:
    """A caller's range reaches a regular expression, and is answered before this machine has counted far."""
    gc.collect()  # what other tests left behind is not what this text costs: collecting it takes fifty milliseconds
    start = time.perf_counter()
    sum(range(1_000_000))
    unit = time.perf_counter() - start
    start = time.perf_counter()
    is_range(text)
    parse_version(text)
    in_range("1.2.3-" + "a." * 20 + "b", text)
    assert (time.perf_counter() - start) / unit < 5


def test_the_newest_follows_semantic_precedence() -> None:
    """Numbers compare as numbers, a pre-release comes before its release, and junk does not count."""
    assert by_precedence(["1.9.0", "1.10.0", "junk"]) == ["1.10.0", "1.9.0"]
    assert by_precedence(["2.0.0-rc.9", "2.0.0-rc.10"])[0] == "2.0.0-rc.10"
    assert by_precedence(["2.0.0-rc.10", "2.0.0"])[0] == "2.0.0"
    assert by_precedence([]) == []
    assert by_precedence(["junk"]) == []

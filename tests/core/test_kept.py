"""The answers that are kept in memory: what is there, for how long, and how much of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.core.kept import KeptRecords, size_of
from subjects.claims import ClaimRecord, StoredAnswer

WINDOW_S = 10.0
ROOM = 10 * size_of(StoredAnswer("w-1", "1.0.0", 1, b""))


def record(key: str, body: bytes = b"") -> ClaimRecord:
    """A record of what is done."""
    answer = StoredAnswer("w-1", "1.0.0", 1, body)
    return ClaimRecord("done", "n", "c-1.boot", "ann", "greet:hello", key, b"f", "r-1", 15.0, WINDOW_S, answer=answer)


class Cache:
    def __init__(self, room: int = ROOM) -> None:
        self.now = 100.0
        self.kept = KeptRecords(room, lambda: self.now)

    def put(self, key: str, body: bytes = b"", age_s: float = 0.0) -> ClaimRecord:
        one = record(key, body)
        self.kept.put(one, age_s)
        return one

    def get(self, key: str) -> ClaimRecord | None:
        return self.kept.get("ann", "greet:hello", key)


def test_what_was_put_is_there_under_its_three_names() -> None:
    """Others have keys of the same name."""
    cache = Cache()
    one = cache.put("k")
    assert cache.get("k") is one
    assert cache.get("other") is None
    assert cache.kept.get("bob", "greet:hello", "k") is None
    assert cache.kept.get("ann", "greet:bye", "k") is None


def test_it_is_gone_when_its_window_ends_which_began_when_it_was_stored() -> None:
    """And takes no room from then on."""
    cache = Cache()
    cache.put("fresh")
    cache.put("old", age_s=4.0)
    cache.now += WINDOW_S - 4.0
    assert cache.get("old") is None
    assert cache.get("fresh") is not None
    cache.now += 4.0
    assert cache.get("fresh") is None
    assert len(cache.kept) == 0


def test_a_later_answer_replaces_the_earlier_one_in_either_generation() -> None:
    """A key has one answer."""
    cache = Cache()
    cache.put("k", b"first")
    second = cache.put("k", b"second")
    assert cache.get("k") is second
    for number in range(5):
        cache.put(f"more-{number}")
    third = cache.put("k", b"third")
    assert cache.get("k") is third
    assert len(cache.kept) == 6


def test_what_is_used_outlives_what_is_not() -> None:
    """However much passes."""
    cache = Cache()
    used, unused = cache.put("used"), cache.put("unused")
    assert cache.get("unused") is unused
    for number in range(100):
        cache.put(f"passing-{number}")
        assert cache.get("used") is used
    assert cache.get("unused") is None


def test_what_is_larger_than_half_of_the_room_is_not_kept() -> None:
    """It would push everything else out."""
    cache = Cache()
    cache.put("small")
    cache.put("large", b"x" * ROOM)
    assert cache.get("large") is None
    assert cache.get("small") is not None


def test_without_room_nothing_is_kept() -> None:
    """An operator may want none of it."""
    cache = Cache(room=0)
    cache.put("k")
    assert cache.get("k") is None


def test_an_answer_that_is_too_large_does_not_leave_the_earlier_one_behind() -> None:
    """It is not the answer any more."""
    cache = Cache()
    cache.put("k")
    cache.put("k", b"x" * ROOM)
    assert cache.get("k") is None


KEYS = st.integers(0, 30).map(str)


@given(st.integers(0, ROOM // 2), st.lists(st.tuples(st.booleans(), KEYS), max_size=80))
def test_it_never_holds_more_than_its_room(length: int, steps: list[tuple[bool, str]]) -> None:
    """In any order of putting and using."""
    cache, body = Cache(), b"x" * length
    size = size_of(record("k", body).answer)
    for puts, key in steps:
        if puts:
            cache.put(key, body)
        else:
            cache.get(key)
        assert len(cache.kept) * size <= ROOM


@given(
    st.lists(
        st.tuples(st.sampled_from(("put", "get", "wait")), KEYS, st.integers(0, ROOM)),
        max_size=60,
    )
)
def test_what_it_counts_is_what_it_holds(steps: list[tuple[str, str, int]]) -> None:
    """With answers of any size, whose time runs out."""
    cache = Cache()
    for step, key, length in steps:
        if step == "put":
            cache.put(key, b"x" * length)
        elif step == "get":
            cache.get(key)
        else:
            cache.now += WINDOW_S * length / ROOM
        young, old = cache.kept._young, cache.kept._old
        assert cache.kept._young_bytes == sum(size_of(record.answer) for record, _, _ in young.values()) <= ROOM // 2
        assert sum(size_of(record.answer) for record, _, _ in old.values()) <= ROOM // 2
        assert not young.keys() & old.keys()


@given(st.lists(KEYS), st.booleans(), st.lists(st.tuples(KEYS, st.integers(0, ROOM // 4)), max_size=10))
def test_what_was_used_is_there_while_less_than_half_of_the_room_comes_after_it(
    before: list[str], looked_at: bool, after: list[tuple[str, int]]
) -> None:
    """Whatever was there before."""
    cache = Cache()
    for key in before:
        cache.put(key)
    used = cache.get(before[-1]) if looked_at and before else cache.put("used")
    assert used is not None
    sizes = [0]
    for key, length in after:
        size = size_of(record(key, b"x" * length).answer)
        if key == used.key or sum(sizes) + size + max(sizes) > ROOM // 2:
            continue
        cache.put(key, b"x" * length)
        sizes.append(size)
    assert cache.get(used.key) is used

"""What an operator is shown of the fleet: pages in order, filters, and nothing changed by looking."""

from __future__ import annotations

import msgspec
import pytest
from harness import HELLO, House, spec
from hypothesis import given
from hypothesis import strategies as st

from controller.core import views
from controller.core.views import MAX_PAGE, Query
from subjects.manifests import Slo


def many(count: int) -> House:
    """A house with workers and capabilities of two-digit numbers."""
    house = House()
    for number in range(count):
        house.register(f"w-{number:02}", spec(f"do:thing{number:02}"))
    return house


def test_a_worker_s_row_tells_how_it_is() -> None:
    """What the router counts beside what the worker reports, never mixed."""
    house = House()
    house.register("w-1", spec(max_concurrency=8), spec("greet:bye", "2.0.0"))
    house.beat("w-1", in_flight=5, capacity=9)
    house.request()
    house.advance(1.25)
    (row,) = views.workers(house.world.registry, Query(), house.now)["workers"]
    assert row == {
        "worker_id": "w-1",
        "state": "alive",
        "heartbeat_age_s": 1.25,
        "in_flight": 1,
        "in_flight_reported": 5,
        "capacity": 9,
        "capabilities": ["greet:hello@1.0.0", "greet:bye@2.0.0"],
        "demoted": [],
        "ejected": [],
        "spiffe_id": None,
    }


def test_a_capability_s_row_has_the_newest_version_s_metadata() -> None:
    """Schemas as JSON, counts over all versions, and the waiting."""
    house = House()
    house.register("w-1", spec(version="1.9.0", input_schema={"title": "old"}))
    house.register("w-2", spec(version="1.10.0", input_schema={"title": "new"}, output_schema=True, slo=Slo(1.0)))
    house.beat("w-1", draining=True)
    house.request()
    house.request()
    (row,) = views.capabilities(house.world.registry, Query())["capabilities"]
    assert row["versions"] == ["1.10.0", "1.9.0"]
    assert (row["workers"], row["healthy_workers"], row["waiting"]) == (2, 1, 1)
    assert row["input_schema"] == {"title": "new"}
    assert row["output_schema"] is True
    assert row["slo"] == {"latency_p50_ms": 1.0}
    assert "version" not in row
    assert msgspec.json.encode(row)


def test_a_capability_without_workers_stays_in_view() -> None:
    """It was offered."""
    house = House()
    house.register("w-1")
    house.deregister("w-1")
    (row,) = views.capabilities(house.world.registry, Query())["capabilities"]
    assert row == {
        "verb": "greet",
        "name": "hello",
        "versions": [],
        "workers": 0,
        "healthy_workers": 0,
        "waiting": 0,
    }


@given(st.integers(1, 7), st.integers(0, 20))
def test_pages_together_are_the_whole_in_order_and_each_row_once(limit: int, count: int) -> None:
    """However small the pages."""
    house = many(count)
    for view, key in (("workers", "worker_id"), ("capabilities", "name")):
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            query = Query(after=after, limit=limit)
            registry = house.world.registry
            page = (
                views.workers(registry, query, house.now) if view == "workers" else views.capabilities(registry, query)
            )
            assert len(page[view]) <= limit
            seen += [row[key] for row in page[view]]
            after = page["next"]
        assert len(seen) == count
        assert seen == sorted(seen)
        assert len(set(seen)) == count


@pytest.mark.parametrize(("limit", "rows"), [(0, 1), (-5, 1), (3, 3), (10**9, 12)])
def test_limits_are_kept_within_bounds(limit: int, rows: int) -> None:
    """At least one row, at most a page."""
    house = many(12)
    assert len(views.workers(house.world.registry, Query(limit=limit), house.now)["workers"]) == rows
    assert MAX_PAGE < 10**9


def test_filters_leave_out_what_does_not_fit() -> None:
    """By state, by verb and by name."""
    house = House()
    house.register("w-1", spec("greet:hello"), spec("greet:bye"))
    house.register("w-2", spec("say:hello"))
    house.beat("w-2", draining=True)
    registry = house.world.registry

    def ids(**filters: str) -> list[str]:
        return [row["worker_id"] for row in views.workers(registry, Query(**filters), house.now)["workers"]]

    def names(**filters: str) -> list[str]:
        rows = views.capabilities(registry, Query(**filters))["capabilities"]
        return [f"{row['verb']}:{row['name']}" for row in rows]

    assert ids(state="draining") == ["w-2"]
    assert ids(state="alive") == ["w-1"]
    assert ids(state="ejected") == []
    assert names(verb="greet") == ["greet:bye", "greet:hello"]
    assert names(name="hello") == ["greet:hello", "say:hello"]
    assert names(verb="greet", name="hello") == ["greet:hello"]


def test_a_page_ends_before_it_outgrows_a_message_and_a_row_that_never_fits_is_cut() -> None:
    """Every row comes once, over as many pages as it takes, and no page is larger than it may be."""
    house = House()
    for number in range(6):
        house.register(f"w-{number}", spec(f"t:c{number}", input_schema={"enum": ["x" * 1000 * number]}))
    registry, room = house.world.registry, 5000
    rows: list[dict[str, object]] = []
    after: str | None = ""
    while after is not None:
        page = views.capabilities(registry, Query(after=after), room)
        assert len(msgspec.json.encode(page)) <= room
        assert page["capabilities"]
        rows += page["capabilities"]
        after = page["next"]
    assert [row["name"] for row in rows] == [f"c{number}" for number in range(6)]
    assert [row.get("left_out") for row in rows] == [None] * 5 + [["input_schema", "versions"]]


def test_a_worker_that_is_ejected_from_all_it_offers_is_shown_so() -> None:
    """And may be asked for by that; nobody counts it as healthy."""
    house = House()
    for worker_id in ("w-1", "w-2"):
        house.register(worker_id)
    for _ in range(10):
        house.world.health.failed(house.offer("w-1"), 10, house.now)
    shown = views.workers(house.world.registry, views.Query(state="ejected"), house.now)
    assert [(row["worker_id"], row["state"], row["ejected"]) for row in shown["workers"]] == [
        ("w-1", "ejected", [HELLO])
    ]
    assert views.capabilities(house.world.registry, views.Query())["capabilities"][0]["healthy_workers"] == 1

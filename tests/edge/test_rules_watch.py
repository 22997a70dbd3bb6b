"""Objectives and limits in files, while a controller runs: changed, broken, mended, swapped, taken away."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from controller.core.events import Event, RulesChanged
from controller.core.objectives import Rate, Rules
from controller.edge import rules_watch
from controller.edge.rules_watch import RulesWatch
from tests.edge.conftest import StartController, StartWorker
from tests.edge.peers import Caller, until

Start = Callable[..., Awaitable["Watched"]]


class Watched:
    """A watch, and what it told the core."""

    def __init__(self, slos: Path | None, limits: Path | None) -> None:
        self.told: list[Rules] = []
        self.watch = RulesWatch(slos, limits, self._feed)

    def _feed(self, event: Event) -> None:
        assert isinstance(event, RulesChanged)
        self.told.append(event.rules)

    @property
    def p99(self) -> dict[str, float | None]:
        """Of each capability."""
        rules = self.told[-1] if self.told else Rules()
        return {str(name): objective.p99_ms for name, objective in rules.objectives.items()}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start watches; all are stopped at the end."""
    started: list[RulesWatch] = []

    async def begin(slos: Path | None, limits: Path | None = None) -> Watched:
        watched = Watched(slos, limits)
        started.append(watched.watch)
        await watched.watch.start()
        await asyncio.sleep(0.1)  # until it watches; what changes before that is found too, only later
        return watched

    yield begin
    for watch in started:
        await watch.stop()


def _slo(folder: Path, name: str = "hello", p99_ms: object = 200) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"greet_{name}.yaml"
    path.write_text(f"capability: {{verb: greet, name: {name}}}\nslo: {{latency: {{p99_ms: {p99_ms}}}}}\n")
    return path


async def test_what_the_files_say_is_in_force_from_the_start(tmp_path: Path, start: Start) -> None:
    """The core is told once, of all of them."""
    _slo(tmp_path / "slos")
    _slo(tmp_path / "slos", "bye", 300)
    limits = tmp_path / "limits.yaml"
    limits.write_text("default: {rate_per_s: 100, burst: 200}\ncallers: [{caller: a, rate_per_s: 1, burst: 2}]\n")
    watched = await start(tmp_path / "slos", limits)
    assert watched.p99 == {"greet:hello": 200, "greet:bye": 300}
    assert watched.told[0].rates.of("b") == Rate(100, 200)
    assert watched.told[0].rates.of("a") == Rate(1, 2)
    assert (len(watched.told), watched.watch.mistakes) == (1, ())


async def test_without_a_folder_nothing_is_asked_until_there_is_one(tmp_path: Path, start: Start) -> None:
    """Who has no objectives made no mistake."""
    watched = await start(tmp_path / "slos", tmp_path / "limits.yaml")
    assert (watched.told, watched.watch.mistakes) == ([], ())
    _slo(tmp_path / "slos")
    await until(lambda: watched.p99 == {"greet:hello": 200})
    (tmp_path / "limits.yaml").write_text("default: {rate_per_s: 1, burst: 1}")
    await until(lambda: watched.told[-1].rates.of("a") == Rate(1, 1))


async def test_a_file_written_in_place_is_read_again(tmp_path: Path, start: Start) -> None:
    """As `>` in a shell does it."""
    _slo(tmp_path)
    watched = await start(tmp_path)
    _slo(tmp_path, p99_ms=400)
    await until(lambda: watched.p99 == {"greet:hello": 400})


async def test_a_file_that_an_editor_replaces_is_read_again(tmp_path: Path, start: Start) -> None:
    """Most write another file and give it the name; at no moment is there no objective."""
    _slo(tmp_path)
    watched = await start(tmp_path)
    os.replace(_slo(tmp_path / "new", p99_ms=400), tmp_path / "greet_hello.yaml")
    await until(lambda: watched.p99 == {"greet:hello": 400})
    assert all(rules.objectives for rules in watched.told)


async def test_a_file_that_is_moved_away_before_it_is_written_anew_loses_nothing(tmp_path: Path, start: Start) -> None:
    """Some editors make a backup like this."""
    path = _slo(tmp_path)
    watched = await start(tmp_path)
    path.rename(tmp_path / "greet_hello.yaml~")
    await asyncio.sleep(0.1)
    _slo(tmp_path, p99_ms=400)
    await until(lambda: watched.p99 == {"greet:hello": 400})
    assert all(rules.objectives for rules in watched.told)


async def test_a_broken_file_keeps_its_old_objective_and_says_so_once(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost by a typing mistake, the other files count, and the log does not repeat itself."""
    path = _slo(tmp_path)
    watched = await start(tmp_path)
    path.write_text("capability: {verb: greet, name: hello}\nslo: {latency: {p99: 3}}\n")
    await until(lambda: watched.watch.mistakes != ())
    assert watched.watch.mistakes == (f"{path}:2: slo.latency.p99 is not known; did you mean p99_ms?",)
    _slo(tmp_path, "bye")
    await until(lambda: watched.p99 == {"greet:hello": 200, "greet:bye": 200})
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [*watched.watch.mistakes, f"{path}: what it said before stays in force until this is mended"]
    _slo(tmp_path, p99_ms=5)
    await until(lambda: watched.p99 == {"greet:hello": 5, "greet:bye": 200})
    assert watched.watch.mistakes == ()


async def test_a_file_that_is_broken_at_the_start_keeps_the_others_from_nothing(
    tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no old objective of it, so that it has none, and that is said."""
    path = _slo(tmp_path, p99_ms="fast")
    _slo(tmp_path, "bye")
    watched = await start(tmp_path)
    assert watched.p99 == {"greet:bye": 200}
    assert f"{path}: nothing that it says is in force until this is mended" in caplog.text


async def test_a_deleted_file_takes_its_objective_along(tmp_path: Path, start: Start) -> None:
    """And no other."""
    path = _slo(tmp_path)
    _slo(tmp_path, "bye")
    watched = await start(tmp_path)
    path.unlink()
    await until(lambda: watched.p99 == {"greet:bye": 200})
    assert watched.watch.mistakes == ()


async def test_a_folder_that_is_taken_away_is_a_mistake_and_changes_nothing(tmp_path: Path, start: Start) -> None:
    """A drive that is gone must not end every objective at once."""
    path = _slo(tmp_path / "slos")
    watched = await start(tmp_path / "slos")
    path.unlink()
    (tmp_path / "slos").rmdir()
    await until(lambda: watched.watch.mistakes != ())
    gone = f"{tmp_path / 'slos'}: is gone; put it back, or to be without leave it there empty"
    assert watched.watch.mistakes == (gone,)
    assert watched.p99 == {"greet:hello": 200}
    _slo(tmp_path / "slos", "bye")
    await until(lambda: watched.p99 == {"greet:bye": 200})


async def test_a_volume_of_kubernetes_is_read_again_when_its_link_is_swapped(tmp_path: Path, start: Start) -> None:
    """The files are links into ..data, which is a link itself, and the only thing that changes."""
    slos = tmp_path / "slos"
    _slo(slos / "..2026_1")
    _slo(slos / "..2026_2", p99_ms=400)
    (slos / "..data").symlink_to("..2026_1")
    (slos / "greet_hello.yaml").symlink_to("..data/greet_hello.yaml")
    watched = await start(slos)
    assert watched.p99 == {"greet:hello": 200}
    (slos / "..data_tmp").symlink_to("..2026_2")
    os.replace(slos / "..data_tmp", slos / "..data")
    await until(lambda: watched.p99 == {"greet:hello": 400})


async def test_a_folder_that_is_a_link_is_read_again_when_it_leads_elsewhere(tmp_path: Path, start: Start) -> None:
    """And from then on it is the new folder that is watched."""
    _slo(tmp_path / "one")
    _slo(tmp_path / "two", p99_ms=400)
    (tmp_path / "slos").symlink_to("one")
    watched = await start(tmp_path / "slos")
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "slos")
    await until(lambda: watched.p99 == {"greet:hello": 400})
    _slo(tmp_path / "two", p99_ms=500)
    await until(lambda: watched.p99 == {"greet:hello": 500})


async def test_broken_limits_keep_the_old_ones(tmp_path: Path, start: Start) -> None:
    """As with objectives."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("default: {rate_per_s: 1, burst: 2}\n")
    watched = await start(None, limits)
    limits.write_text("default: {rate_per_s: 1}\n")
    await until(lambda: watched.watch.mistakes != ())
    assert [rules.rates.of("a") for rules in watched.told] == [Rate(1, 2)]
    limits.write_text("")
    await until(lambda: watched.told[-1].rates.of("a") is None)


async def test_limits_that_are_taken_away_stay_until_the_file_is_empty(tmp_path: Path, start: Start) -> None:
    """A file that is gone is a mistake, which says how to be without."""
    limits = tmp_path / "limits.yaml"
    limits.write_text("default: {rate_per_s: 1, burst: 2}\n")
    watched = await start(None, limits)
    limits.unlink()
    await until(lambda: watched.watch.mistakes != ())
    assert watched.watch.mistakes == (f"{limits}: is gone; put it back, or to be without leave it there empty",)
    assert [rules.rates.of("a") for rules in watched.told] == [Rate(1, 2)]
    limits.touch()
    await until(lambda: watched.told[-1].rates.of("a") is None)
    assert watched.watch.mistakes == ()


async def test_where_nothing_can_be_watched_the_files_are_looked_at(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systems run out of watches, and network drives have none."""

    def none_left(*places: Path, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rules_watch, "awatch", none_left)
    monkeypatch.setattr(rules_watch, "_LOOK_ANYWAY_S", 0.02)
    _slo(tmp_path)
    watched = await start(tmp_path)
    _slo(tmp_path, p99_ms=4000)
    await until(lambda: watched.p99 == {"greet:hello": 4000})


async def test_a_running_controller_follows_its_files(
    tmp_path: Path, start_controller: StartController, start_worker: StartWorker, caller: Caller
) -> None:
    """An objective's time-out counts for the next request, without a restart."""
    path = _slo(tmp_path, p99_ms="200}, timeout_ms: 60000, error_budget: {monthly_pct: 1")
    await start_controller(slos=tmp_path)
    worker = await start_worker(capabilities=[{"verb": "greet", "name": "hello", "version": "1.0.0"}])

    async def patience_ms() -> int:
        await caller.ask("greet:hello")
        return int(worker.dispatches[-1][0].ours["crank-timeout-ms"])

    assert 59_000 < await patience_ms() <= 60_000
    path.write_text(path.read_text().replace("60000", "5000"))
    async with asyncio.timeout(10):
        while await patience_ms() > 5000:
            await asyncio.sleep(0.02)

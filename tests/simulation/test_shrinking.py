"""A broken law is cut down to a handful of things that can be run again, by hand and by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controller.core.router import Router
from simulation.__main__ import main
from simulation.draw import draw_plan
from simulation.plan import Call, Plan, Trouble, as_json, from_json
from simulation.shrink import shrink
from simulation.world import run
from subjects.errors import ErrorKind, Refusal


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled request gets its end twice, if it was dispatched."""
    finish = Router._finish

    def finishes(router: Router, life: Any, outcome: Any) -> None:
        finish(router, life, outcome)
        if life.flights and isinstance(outcome, Refusal) and outcome.kind is ErrorKind.CANCELLED:
            router._out += router._out[-2:]

    monkeypatch.setattr(Router, "_finish", finishes)


def test_a_planted_defect_shrinks_to_a_handful(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request with one cancel, one controller, one worker; and that breaks the same law, also from a file."""
    plant(monkeypatch)
    plan = draw_plan(2, 400)
    law = run(plan).law
    assert law == "one-reply"
    smallest = shrink(plan, lambda smaller: run(smaller).law == law, lambda: True)
    assert len(smallest.happenings) <= 3
    assert (len(smallest.controllers), len(smallest.workers)) == (1, 1)
    calls = [happening for happening in smallest.happenings if isinstance(happening, Call)]
    assert len(calls) == 1
    assert calls[0].cancel_after_s is not None
    assert not calls[0].key
    assert run(from_json(as_json(smallest))).law == law


def test_what_takes_two_keeps_both() -> None:
    """Nothing is left out that matters, and everything that does not is."""
    plan = draw_plan(1, 60)

    def fails(smaller: Plan) -> bool:
        numbers = {happening.number for happening in smaller.happenings if isinstance(happening, Call)}
        return {7, 41} <= numbers and 2 in smaller.workers

    smallest = shrink(plan, fails, lambda: True)
    assert [happening.number for happening in smallest.happenings] == [7, 41]
    assert smallest.happenings[0] == Call(smallest.happenings[0].at, 7, smallest.happenings[0].capability)  # type: ignore[union-attr]
    assert (smallest.controllers, smallest.workers, smallest.noise) == ((), (2,), False)


def test_shrinking_stops_when_it_is_told() -> None:
    """With the smallest so far."""
    plan, left = draw_plan(1, 60), [10]

    def go_on() -> bool:
        left[0] -= 1
        return left[0] > 0

    assert 0 < shrink(plan, lambda smaller: len(smaller.happenings) > 3, go_on).calls < 60


def invoke(*arguments: str) -> tuple[int, str]:
    """The command's exit code and all that it says."""
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_the_command_tells_how_to_do_it_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The law, the seed's command and a small file, which breaks the same law and shows what led to it."""
    monkeypatch.chdir(tmp_path)
    plant(monkeypatch)
    code, told = invoke("--requests", "400", "--seed", "2")
    assert code == 1
    assert "one-reply" in told
    assert "python -m simulation --requests 400 --seed 2" in told
    file = "simulation-one-reply-2.json"
    assert f"python -m simulation --replay {file}" in told
    code, told = invoke("--replay", file)
    assert code == 1
    assert "one-reply" in told
    assert "RequestArrived" in told


def test_a_law_that_holds_is_told_too() -> None:
    """A table, the laws, and exit code 0; each seed once."""
    code, told = invoke("--requests", "50", "--seeds", "2")
    assert code == 0
    assert told.count("laws hold") == 2
    assert "virtual time" in told


def test_a_file_that_is_no_plan_is_refused_in_a_line(tmp_path: Path) -> None:
    """It says what is wrong with it."""
    file = tmp_path / "plan.json"
    file.write_text('{"seed": 1}')
    code, told = invoke("--replay", str(file))
    assert code == 1
    assert "is no plan of the simulation" in told
    assert "Traceback" not in told


def test_what_a_plan_cannot_do_is_passed_over() -> None:
    """A trouble of somebody who was left out, or of a kind that nobody has."""
    troubles = (Trouble(1.0, "worker", 9, "kill", 1.0), Trouble(1.0, "worker", 1, "dance", 1.0))
    result = run(Plan(1, (1,), (1,), False, troubles))
    assert (result.law, result.faults) == ("", {})

"""Finding the worker that a person names: what they probably meant, and modules of theirs that ours would hide."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crank.targets import TargetError, check_target, load_worker, name_of

_WORKER = '\nfrom crank import Worker\n\nworker = Worker("own")\n'
_OFFER = '\n\n@worker.capability("own:thing")\nasync def thing() -> str:\n    return "mine"\n'


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports from its folder is forgotten with it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    for name in set(sys.modules) - before:
        if ("." not in name or name.startswith("crank_project")) and getattr(
            sys.modules[name], "__file__", None
        ) is not None:
            del sys.modules[name]


def _project(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        place = folder / (name.replace("__", "/") + ".py")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def _refused(target: str, folder: Path) -> str:
    with pytest.raises(TargetError) as caught:
        load_worker(target, folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import workers.mine", "workers"),
        ("from workers.mine import X", "workers"),
        ("from subjects import X", "subjects"),
        ("import subjects", "subjects"),
        ("def later():\n    from bus import X", "bus"),
    ],
)
def test_a_module_of_the_users_own_that_ours_hides_is_told_with_the_line_that_wants_it(
    tmp_path: Path, line: str, name: str
) -> None:
    """Python would import ours, and say something that has nothing to do with it."""
    theirs = _project(tmp_path, app_a=line + _WORKER + _OFFER, workers__mine="X = 1", subjects="X = 1", bus="X = 1")
    said = _refused("app_a:worker", theirs)
    assert f"has the name of Crank's own module {name!r}, which comes first; rename yours" in said
    assert f"imported at line {line.count(chr(10)) + 1} of app_a" in said


def test_a_hidden_module_that_is_imported_further_down_is_told_as_well(tmp_path: Path) -> None:
    """The named file imports another one of the user's, and that one wants the hidden module."""
    folder = _project(tmp_path, app_b="import lib_b" + _WORKER, lib_b="import subjects\nsubjects.X\n", subjects="X = 1")
    said = _refused("app_b:worker", folder)
    assert "has the name of Crank's own module 'subjects'" in said
    assert "lib_b.py:2" in said
    (folder / "lib_c.py").write_text("from subjects import X\n")
    (folder / "app_c.py").write_text("import lib_c" + _WORKER)
    assert "lib_c.py:1" in _refused("app_c:worker", folder)


def test_a_target_that_ends_with_its_colon_means_the_attribute_worker(tmp_path: Path) -> None:
    """In the user's folder too."""
    assert load_worker("app_k:", _project(tmp_path, app_k=_WORKER + _OFFER)).name == "own"


def test_a_project_with_a_workers_folder_that_nothing_imports_works(tmp_path: Path) -> None:
    """The name alone hurts nobody; nor does a clone of Crank beside the worker."""
    folder = _project(tmp_path, app_d=_WORKER + _OFFER, workers__mine="X = 1", crank__docs__x="")
    assert [offer.label for offer in load_worker("app_d:worker", folder).offers] == ["own:thing 1.0.0"]


@pytest.mark.parametrize("target", ["shout_e.py", "shout_e.py:worker", "./shout_e.py", "{folder}/shout_e.py"])
def test_a_file_can_be_named_as_a_file(tmp_path: Path, target: str) -> None:
    """People write what they see; it is the same module as by its name."""
    folder = _project(tmp_path, shout_e=_WORKER + _OFFER)
    worker = load_worker(target.replace("{folder}", str(folder)), folder)
    assert worker is importlib.import_module("shout_e").worker
    assert name_of(target) == "shout_e"


def test_a_name_that_is_a_files_is_told_as_that(tmp_path: Path) -> None:
    """A bare name is one of ours."""
    assert "did you mean shout_e.py?" in _refused("shout_e", _project(tmp_path, shout_e=_WORKER + _OFFER))
    assert f"there is no file {tmp_path / 'shot_e.py'}" in _refused("shot_e.py", tmp_path)


def test_a_project_with_a_workers_folder_of_its_own_runs_what_is_in_it(tmp_path: Path) -> None:
    """By the file, with relative imports; the module's name is ours, and the message says what to write instead."""
    ours = importlib.import_module("workers")
    mine = "from .names import NAME" + _WORKER.replace('"own"', "NAME") + _OFFER
    folder = _project(tmp_path, workers__mine=mine, workers__names="from lib_j import NAME\n", lib_j='NAME = "mine"\n')
    assert load_worker("workers/mine.py", folder).name == "mine"
    assert importlib.import_module("workers") is ours
    said = _refused("workers.mine:worker", folder)
    assert "has the name of Crank's own module 'workers'" in said
    assert said.endswith("or name the file: workers/mine.py")
    assert _refused("workers.mine:other", folder).endswith("or name the file: workers/mine.py:other")
    assert "or name the file" not in _refused("workers.nowhere:worker", folder)


def test_a_module_beside_it_cannot_be_imported_by_the_name_of_ours(tmp_path: Path) -> None:
    """It would be looked for in Crank; the line is told, and the way that works."""
    folder = _project(tmp_path, workers__mine="from workers.names import X" + _WORKER, workers__names="X = 1\n")
    said = _refused("workers/mine.py", folder)
    assert "import what stands beside it with `from . import …`" in said
    assert "imported at line 1 of workers/mine.py" in said


def test_a_file_elsewhere_and_one_with_any_name_can_be_named(tmp_path: Path) -> None:
    """What stands beside it is imported from where it is."""
    folder = _project(
        tmp_path, there__my_k="import lib_k\nNAME = lib_k.NAME" + _WORKER + _OFFER, there__lib_k="NAME = 1"
    )
    (folder / "there" / "my_k.py").rename(folder / "there" / "my-k.py")
    assert load_worker("my-k.py", folder / "there").name == "own"
    (folder / "here").mkdir()
    assert load_worker("../there/my-k.py", folder / "here").name == "own"
    assert name_of("../there/my-k.py") == "my_k"


def test_a_file_that_has_the_name_of_a_standard_module_can_be_named(tmp_path: Path) -> None:
    """``json.py`` is no good name, but it is clear what is meant."""
    assert load_worker("json.py", _project(tmp_path, json=_WORKER + _OFFER)).name == "own"
    assert not hasattr(importlib.import_module("json"), "worker")


def test_a_module_that_is_nowhere_is_told_with_the_folder(tmp_path: Path) -> None:
    """Most often the command was started from another one."""
    assert f"there is no module 'nowhere_f' in {tmp_path}" in _refused("nowhere_f:worker", tmp_path)


def test_a_worker_that_offers_nothing_is_refused(tmp_path: Path) -> None:
    """Nobody could ever ask it for anything."""
    said = _refused("empty_g:worker", _project(tmp_path, empty_g=_WORKER))
    assert '@worker.capability("verb:name")' in said


def test_a_decorator_without_its_parentheses_is_told_at_its_line(tmp_path: Path) -> None:
    """It would otherwise swallow the function in silence."""
    text = _WORKER + _OFFER.replace('("own:thing")', "")
    said = _refused("bare_h:worker", _project(tmp_path, bare_h=text))
    assert 'write `@worker.capability("verb:name")`' in said
    assert "bare_h.py:7" in said


def test_looking_at_a_target_imports_nothing(tmp_path: Path) -> None:
    """``crank up`` looks before it starts anything, and its workers import for themselves."""
    check_target("boom_i:worker", _project(tmp_path, boom_i="raise SystemExit(9)"))

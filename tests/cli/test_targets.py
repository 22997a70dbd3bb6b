"""Finding the worker that a person names: what they probably meant, and modules of theirs that ours would hide."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workers
from crank.shadows import OWN
from crank.targets import TargetError, check_target, load_worker, name_of
from tests.cli.conftest import ROOT, clean_environment

_WORKER = '\nfrom crank import Worker\n\nworker = Worker("own")\n'
_OFFER = '\n\n@worker.capability("own:thing")\nasync def thing() -> str:\n    return "mine"\n'


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test imports from its folder is forgotten with it."""
    before, shared = set(sys.modules), list(workers.__path__)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    workers.__path__[:] = shared
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)) or name == "crank_project":
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
        ("from subjects import X", "subjects"),
        ("import subjects", "subjects"),
        ("def later():\n    from bus import X", "bus"),
    ],
)
def test_a_module_of_the_users_own_that_ours_hides_is_told_with_the_line_that_wants_it(
    tmp_path: Path, line: str, name: str
) -> None:
    """Python would import ours, and say something that has nothing to do with it."""
    theirs = _project(tmp_path, app_a=line + _WORKER + _OFFER, subjects="X = 1", bus="X = 1")
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


@pytest.mark.parametrize("target", ["workers/mine.py", "workers.mine:worker"])
@pytest.mark.parametrize("names", [".names", "workers.names"])
def test_a_project_may_have_a_workers_folder_of_its_own(tmp_path: Path, target: str, names: str) -> None:
    """Its modules are found beside ours, by file or by name, and import each other either way."""
    mine = f"from {names} import NAME" + _WORKER.replace('"own"', "NAME") + _OFFER
    folder = _project(tmp_path, workers__mine=mine, workers__names="from lib_j import NAME\n", lib_j='NAME = "mine"\n')
    assert load_worker(target, folder).name == "mine"
    assert importlib.import_module("workers") is workers
    assert importlib.import_module("workers.mine").worker.name == "mine"


def test_a_module_in_it_that_has_the_name_of_ours_is_told(tmp_path: Path) -> None:
    """It would never be found."""
    folder = _project(tmp_path, workers__mine=_WORKER + _OFFER, workers__errors="X = 1\n", app_l=_WORKER + _OFFER)
    for target in ("workers/mine.py", "workers.mine:worker"):
        assert f"{folder / 'workers' / 'errors.py'} has the name of Crank's own module" in _refused(target, folder)
    assert load_worker("app_l:worker", folder).name == "own"


def test_a_project_with_its_virtual_environment_inside_is_like_any_other(tmp_path: Path) -> None:
    """What is installed there lies in the project's folder, and is Crank's all the same."""
    folder = _project(tmp_path, workers__mine="from .names import N" + _WORKER + _OFFER, workers__names="N = 1", bus="")
    _project(tmp_path, app_m="import bus" + _WORKER + _OFFER)
    packages = folder / ".venv" / "site-packages"
    packages.mkdir(parents=True)
    for name in OWN:
        (packages / name).symlink_to(ROOT / name)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment() | {"PYTHONPATH": str(packages)}
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    served = run("-m", "crank", "worker", "workers/mine.py", "--manifest")
    assert served.returncode == 0, served.stderr
    assert "own" in served.stdout
    assert "bus.py has the name of Crank's own module 'bus'" in run("-m", "crank", "worker", "app_m:worker").stderr


@pytest.mark.parametrize(("name", "advice"), [("workers/__init__.py", "or remove it"), ("bus.py", "rename yours")])
def test_a_module_that_comes_before_ours_is_told_by_whoever_imports_crank(
    tmp_path: Path, name: str, advice: str
) -> None:
    """A test runner or a script puts its own folder first, and would end in an error that explains nothing."""
    _project(tmp_path, workers__mine=_WORKER)
    (tmp_path / name).write_text("")

    def run() -> str:
        command = [
            sys.executable,
            "-c",
            "from crank import Worker; import workers.mine; print(workers.mine.worker.name)",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    said = run()
    assert f"{tmp_path / name} has the name of Crank's own" in said
    assert advice in said
    (tmp_path / name).unlink()
    assert run() == "own\n"


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

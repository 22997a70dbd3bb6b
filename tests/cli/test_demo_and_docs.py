"""What the README and the quickstart promise, run as they say it; and the demo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bus import Bus
from tests.cli.conftest import ROOT, Crank, clean_environment
from tests.conftest import need

Env = dict[str, str]
README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
# These run until they are stopped, and have tests of their own.
_SERVING = ("up", "worker", "controller")


def _commands(text: str) -> list[str]:
    """The lines of each block of commands, which belong together."""
    blocks = re.findall(r"(?:^    .+\n)+", text, re.MULTILINE)
    return [block for block in blocks if re.match(r"    (?:echo .* \| |[A-Z]+=\$\()?crank ", block)]


def _runnable(line: str) -> str:
    """A command, or a look at one that serves until it is stopped."""
    words = line.split()
    return f"crank {words[1]} --help" if words[1] in _SERVING or words[2:3] == ["text:shout"] else line


def _run_program(page: str, index: int, installation: Env, folder: Path) -> list[str]:
    """What a page's program number ``index`` prints, with the address of this installation."""
    program = re.findall(r"```python\n(.+?)```", page, re.DOTALL)[index]
    (folder / "ask.py").write_text(program.replace("nats://127.0.0.1:4222", installation["CRANK_NATS_URL"]))
    done = subprocess.run(
        [sys.executable, "ask.py"], cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_caller_needs_nats_alone(installation: Env, tmp_path: Path) -> None:
    """The page's program is answered, replayed, has its job done, and is refused."""
    first, again, job, refused = _run_program((ROOT / "docs" / "callers.md").read_text(), 0, installation, tmp_path)
    assert re.fullmatch(r'\{"greeting":"Hello, Ada!"\} \S+ None', first)
    assert again == first.replace("None", "true")
    assert job == '{"greeting":"Hello, Bob!"} done'
    assert refused.startswith("404 urn:crank:error:no_such_capability ")
    assert "greet:hello_world" in refused


def test_the_demo_shows_three_workers_and_leaves_nothing(crank: Crank, tmp_path: Path) -> None:
    """Code 0, each answer on the screen within 80 columns, and no file or folder left."""
    scratch, cwd = tmp_path / "tmp", tmp_path / "cwd"
    scratch.mkdir()
    cwd.mkdir()
    done = crank("demo", env={"TMPDIR": str(scratch)}, cwd=cwd)
    assert done.returncode == 0, done.stderr
    for shown in ("Hello, Ada!", "as the loom weaves", "bernoulli.csv", "candidates", "404 no_such_capability"):
        assert shown in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (os.listdir(scratch), os.listdir(cwd)) == ([], [])


@pytest.mark.parametrize("block", dict.fromkeys(_commands(README) + _commands(QUICKSTART)))
def test_every_command_in_the_docs_works(installation: Env, block: str) -> None:
    """Word for word; those that serve are only looked at, and have tests of their own."""
    lines = "\n".join(_runnable(line.strip()) for line in block.splitlines())
    script = f'set -e; crank() {{ "{sys.executable}" -P -m crank "$@"; }}\n{lines}'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=ROOT, env=clean_environment() | installation, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def test_any_nats_client_gets_an_answer(installation: Env) -> None:
    """The README's `nats request`: a subject, a body, and nothing else."""
    found = re.search(r"nats request (\S+) '(.+)'", README)
    assert found is not None
    bus = await Bus.connect(installation["CRANK_NATS_URL"], name="any")
    answer = await bus.request(found[1], found[2].encode())
    assert answer.body == b'{"greeting":"Hello, Ada!"}'
    await bus.close()


def test_the_worker_in_the_readme_is_the_example() -> None:
    """Which has a test of its own."""
    assert f"```python\n{(ROOT / 'examples' / 'shout.py').read_text()}```" in README


@pytest.mark.parametrize(
    ("index", "shown"),
    [(0, ["Hello, Ada! hello_world-1", "chunk word "]), (1, ["Hello, Ada! False", "Hello, Ada!"])],
)
def test_the_python_in_the_quickstart_runs(installation: Env, tmp_path: Path, index: int, shown: list[str]) -> None:
    """With the address of this installation."""
    assert _run_program(QUICKSTART, index, installation, tmp_path)[:2] == shown


def test_the_list_of_make_is_a_table_for_a_terminal() -> None:
    """Within 80 columns, all texts one below the other."""
    make = need("make", "install make")
    command = [make, "--no-print-directory", "help"]  # the tests may be started by make
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [re.fullmatch(r"(  make [a-z]+ +)(\S.*)", line) for line in lines]
    assert len(rows) > 5
    assert len({len(row[1]) for row in rows if row is not None}) == 1
    assert None not in rows
    assert max(map(len, lines)) <= 80


def test_the_compose_file_names_commands_that_exist(crank: Crank) -> None:
    """It cannot be run everywhere; what it calls can."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        if name != "nats":
            assert crank(service["command"][0], "--help").returncode == 0
    assert set(services) == {"nats", "controller", "hello_world", "streaming", "email_parser"}


def test_every_setting_is_in_the_quickstart() -> None:
    """With its default."""
    from controller.settings import ControllerSettings

    for name, field in ControllerSettings.model_fields.items():
        told = f"`{name}`" if name == "controller_id" else f"`{name}: {field.default}`"
        assert told in QUICKSTART

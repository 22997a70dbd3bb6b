"""The pytest plugin: ``pytest --metrics-output FILE`` measures what the tests ask through ``crank.Client``.

pytest loads it wherever Crank is installed, so without the option it does nothing and imports nothing of ours. Under
pytest-xdist each process measures, and the one that started them adds it all up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crank.slo.measured import Results

_SENT = "crank_measured"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("crank").addoption(
        "--metrics-output", metavar="FILE", type=Path,
        help="Measure every request that is made through crank.Client, and write what `crank slo gate` reads.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Measure, if that is asked for."""
    path: Path | None = config.getoption("--metrics-output")
    if path is None:
        return
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(_Worker())
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")  # late is too late to hear that it cannot be; and what was measured before is over
    except OSError as error:
        raise pytest.UsageError(f"--metrics-output: {path} cannot be written: {error.strerror}") from None
    config.pluginmanager.register(_Session(path.absolute()))


class _Worker:
    """In a process of pytest-xdist: measure, and send what was measured to the one that started it."""

    def __init__(self) -> None:
        from crank.slo.recording import Recorder, record

        self._recorder = Recorder()
        record(self._recorder)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        from crank.slo import measured

        session.config.workeroutput[_SENT] = measured.encode(self._recorder.results())  # type: ignore[attr-defined]


class _Session:
    """In the process that was started: measure, add what others measured, and write it all down."""

    def __init__(self, path: Path) -> None:
        from crank.slo.recording import Recorder, record

        self._path = path
        self._recorder = Recorder()
        self._parts: list[Results] = []
        self._lost = 0
        record(self._recorder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A process of pytest-xdist has ended; one that crashed sent nothing."""
        from crank.slo import measured

        sent = getattr(node, "workeroutput", {}).get(_SENT)
        if sent is None:
            self._lost += 1
        else:
            self._parts.append(measured.decode(sent))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        from crank.slo import measured

        self._parts.append(self._recorder.results())
        self._path.write_bytes(measured.encode(measured.merged(self._parts)))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        count = sum(measured.requests for part in self._parts for measured in part.values())
        terminalreporter.write_line(f"{count:.0f} measured requests: {self._path}")
        if self._lost:
            terminalreporter.write_line(f"{self._lost} processes crashed; what they measured is missing.", yellow=True)

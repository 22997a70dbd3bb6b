"""What controllers measured, as Prometheus tells it: a real server that scrapes a real exporter, and hostile ones."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from controller.core.objectives import Objective
from crank.slo.prometheus import PrometheusRefused, PrometheusUnreachable, measure
from crank.slo.rules import as_yaml
from subjects.tokens import CapabilityId
from tests.cli.conftest import Crank
from tests.conftest import need
from tests.slo.conftest import HELLO, OBJECTIVE, SLO_FILE
from tests.slo.web import answering

_CONFIG = """\
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs: [{{job_name: controllers, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


class Exporter:
    """A controller's metrics under their names, and nothing behind them."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._requests = Counter("controller_requests", "…", ("capability", "status"), registry=registry)
        self._seconds = Histogram(
            "controller_request_duration_seconds", "…", ("capability",), buckets=(0.05, 0.1, 0.2, 1), registry=registry
        )
        for status in ("success", "error", "rejected"):
            self._requests.labels(HELLO, status)
        self._seconds.labels(HELLO)
        self._server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.port = self._server.server_port

    def answer(self, status: str, seconds: float, times: int) -> None:
        """So many requests ended so."""
        self._requests.labels(HELLO, status).inc(times)
        for _ in range(times):
            self._seconds.labels(HELLO).observe(seconds)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    """An exporter on a free port."""
    made = Exporter()
    yield made
    made.close()


@pytest.fixture
def prometheus(exporter: Exporter, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus server that scrapes it."""
    binary = need("prometheus", "install Debian's `prometheus`")
    config, log_file = tmp_path / "prometheus.yml", tmp_path / "prometheus.log"
    config.write_text(_CONFIG.format(port=exporter.port))
    (tmp_path / "rules.yaml").write_text(as_yaml([OBJECTIVE, Objective(CapabilityId("not:there"), budget=0.1)], ()))
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [binary, f"--config.file={config}", "--web.listen-address=127.0.0.1:0",
             f"--storage.tsdb.path={tmp_path / 'tsdb'}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield _listening(log_file)
    finally:
        process.kill()  # what it stored is thrown away
        process.wait()


def _listening(log_file: Path) -> str:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        if found := re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', log_file.read_text()):
            return f"http://{found[1]}"
        time.sleep(0.02)
    raise AssertionError(log_file.read_text())


def _until(url: str, query: str, least: float) -> None:
    """Wait for what Prometheus has still to scrape or to evaluate."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            with urlopen(f"{url}/api/v1/query?query={query}") as response:
                result = json.loads(response.read())["data"]["result"]
        except OSError:
            result = []
        if result and float(result[0]["value"][1]) >= least:
            return
        time.sleep(0.1)
    raise AssertionError(f"{query} never was {least}")


def test_the_gate_reads_what_a_real_prometheus_scraped(
    exporter: Exporter, prometheus: str, crank: Crank, tmp_path: Path
) -> None:
    """Requests, failures and times of the window; with a failure too many it closes, and the rules were evaluated."""
    (tmp_path / "slos").mkdir()
    (tmp_path / "slos" / "greet_hello_world.yaml").write_text(SLO_FILE)
    _until(prometheus, "controller_requests_total", 0)
    exporter.answer("success", 0.03, 900)
    exporter.answer("success", 0.15, 20)
    exporter.answer("rejected", 0.001, 50)
    _until(prometheus, "max(controller_requests_total)", 920)
    gate = ("slo", "gate", "--prometheus", prometheus, "--window", "5m", "--json")
    met = crank(*gate)
    assert met.returncode == 0, met.stdout + met.stderr
    found = {check["what"]: check for check in json.loads(met.stdout)["checks"]}
    assert {check["verdict"] for check in found.values()} == {"met"}
    # Prometheus extrapolates to the whole window.
    assert 920 <= found["availability"]["requests"] < 5 * 920
    assert (found["p50"]["found"], found["availability"]["found"]) == (pytest.approx(26.9, abs=3), 1.0)
    exporter.answer("error", 2, 200)
    _until(prometheus, 'max(controller_requests_total{status="error"})', 200)
    broken = crank(*gate)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    found = {check["what"]: check for check in json.loads(broken.stdout)["checks"]}
    assert (found["p99"]["verdict"], found["availability"]["verdict"]) == ("violated", "violated")
    _until(prometheus, 'ALERTS{alertname="CrankErrorBudgetBurning",indicator="availability",long="1h"}', 1)
    with urlopen(f"{prometheus}/api/v1/rules") as response:
        groups = json.loads(response.read())["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def _series(labels: dict[str, str], value: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0, value]}


def test_what_is_no_capability_and_no_number_is_passed_over() -> None:
    """Whatever a server says."""
    told = [
        _series({"capability": "a:b", "status": "success", "le": "0.1"}, "5"),
        _series({"capability": "a:b", "status": "error", "le": "+Inf"}, "7"),
        _series({"capability": "a:b", "status": "what", "le": "much"}, "9"),
        _series({"capability": "| a:b", "status": "success", "le": "0.1"}, "5"),
        _series({"status": "success"}, "5"),
        _series({"capability": "c:d", "status": "success", "le": "0.1"}, "NaN"),
    ]
    with answering(200, json.dumps({"status": "success", "data": {"result": told}}).encode()) as url:
        (found,) = measure(url, "1h").values()
    assert (found.requests, found.failed, found.took_ms, found.bounds_ms) == (12, 7, ((100, 5), (None, 2)), (100,))


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, b'{"error": "no such function"}', "answered 400: no such function"),
        (502, b"<html>", "answered 502: no reason given"),
        (200, b"<html>", "does not answer as Prometheus does"),
        (200, b'{"data": ' + b"[" * 100_000, "does not answer as Prometheus does"),
        (200, b'{"data": {"result": [{"metric": {}, "value": [0]}]}}', "does not answer as Prometheus does"),
    ],
)
def test_a_server_that_is_no_prometheus_is_told_as_such(status: int, body: bytes, told: str) -> None:
    """With its address, and with its own reason where it gives one."""
    with answering(status, body) as url, pytest.raises(PrometheusRefused, match=told):
        measure(url, "1h")


def test_where_nobody_listens_there_is_nobody_to_ask(crank: Crank, tmp_path: Path) -> None:
    """Exit code 3, as for a NATS server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(PrometheusUnreachable, match="nobody answers as Prometheus at http"):
        measure(url, "1h")
    (tmp_path / "slos").mkdir()
    (tmp_path / "slos" / "greet_hello_world.yaml").write_text(SLO_FILE)
    asked = crank("slo", "gate", "--prometheus", url)
    assert (asked.returncode, "nobody answers as Prometheus" in asked.stderr) == (3, True)

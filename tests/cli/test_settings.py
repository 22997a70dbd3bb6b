"""The controller's settings: sources, their order, and mistakes told by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.settings import ControllerSettings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ControllerSettings.model_fields:
        monkeypatch.delenv(f"CRANK_{name.upper()}", raising=False)
    monkeypatch.delenv("CRANK_CONFIG", raising=False)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "crank.yaml"
    path.write_text(text)
    return path


def _mistakes(config: Path | None = None, **flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, flags)
    return str(caught.value).splitlines()


def test_without_any_source_the_defaults_hold_and_each_controller_gets_an_id_of_its_own() -> None:
    """Two controllers on one machine need no settings."""
    one, two = load_settings(), load_settings()
    assert one.nats_url == "nats://127.0.0.1:4222"
    assert one.controller_id != two.controller_id


def test_a_flag_beats_a_variable_and_a_variable_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer to the command, the stronger."""
    config = _file(tmp_path, "prefix: from_file\nhttp_port: 1\nreplicas: 3\n")
    monkeypatch.setenv("CRANK_PREFIX", "from_env")
    monkeypatch.setenv("CRANK_HTTP_PORT", "2")
    settings = load_settings(config, {"http_port": 3, "controller_id": None})
    assert (settings.prefix, settings.http_port, settings.replicas) == ("from_env", 3, 3)


def test_the_file_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRANK_CONFIG is --config for those who cannot give flags."""
    monkeypatch.setenv("CRANK_CONFIG", str(_file(tmp_path, "log_level: DEBUG")))
    assert load_settings().log_level == "debug"


def test_an_empty_variable_and_an_empty_file_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable set to nothing is how people unset one."""
    monkeypatch.setenv("CRANK_HTTP_PORT", "")
    assert load_settings(_file(tmp_path, "")).http_port == 9464


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a mistake: the flag, variable or key, what it should be, what it is."""
    config = _file(tmp_path, "http_prot: 1\nreplicas: many\n")
    monkeypatch.setenv("CRANK_DEFAULT_TIMEOUT_MS", "0")
    lines = _mistakes(config, http_port=70000, nats_url="localhost", controller_id="a.b")
    assert f"{config}: http_prot is not a setting; did you mean http_port?" in lines
    assert f"{config}: replicas must be a number of JetStream replicas from 1 to 5, not 'many'" in lines
    assert any(line.startswith("CRANK_DEFAULT_TIMEOUT_MS must be a whole number of milliseconds") for line in lines)
    assert "--http-port must be a port from 0 (any free one) to 65535, not 70000" in lines
    assert any(line.startswith("--nats must be a NATS URL, such as nats://127.0.0.1:4222") for line in lines)
    assert any(line.startswith("--id must be ") for line in lines)
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "must be a mapping of settings"),
        ("a: [", "crank.yaml:1: column 5: "),
        ("replicas: 1\nreplicas: 2\n", "replicas is there twice"),
        ("heartbeat_interval_s: .nan", "heartbeat_interval_s must be a number of seconds"),
        ("1: 2", "1 is not a setting"),
        ("log_level: loud", "log_level must be one of: debug"),
        ("a: \x07", "a character that YAML does not allow"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    """Never a traceback for a typing mistake."""
    lines = _mistakes(_file(tmp_path, text))
    assert len(lines) == 1
    assert said in lines[0]


def test_a_file_that_is_not_there_is_said_with_who_named_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is a mistake of whoever named it."""
    assert _mistakes(tmp_path / "no.yaml")[0].startswith("--config: ")
    monkeypatch.setenv("CRANK_CONFIG", str(tmp_path))
    assert _mistakes()[0].startswith("CRANK_CONFIG: ")


def test_settings_do_not_change_once_made() -> None:
    """Frozen: whoever holds them may rely on them."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().prefix = "other"

"""Owns the controller's settings: what there is to set, what each may be, and where a mistake came from.

Sources, strongest first: flags, ``CRANK_…`` variables, one YAML file, defaults. It refuses to know what a setting is
for beyond its range; ``controller.app`` takes the result, and the command line calls ``load_settings``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bus.addresses import NATS_URL_RULE, is_nats_url, public
from controller.yaml_files import read_yaml
from subjects.tokens import TOKEN_RULE, is_token

_PREFIX = "CRANK_"
# Far more than all settings take.
_MOST_BYTES = 64 * 1024
# What other parts of an installation read; a controller passes over these.
_OTHERS = ("CONFIG", "NATS_PORT", "NATS_SERVER", "STATE", "WORKERS", "WORKER_ID")
# Kubernetes tells every container of a service that is called crank in variables like these.
_from_kubernetes = re.compile(r"(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT.*)|PORT_\d+_.*)").fullmatch
# What a message must not repeat.
_SECRET = ("alert_webhooks",)
# Flags whose names are not the setting's own.
_FLAGS = {"nats_url": "--nats", "controller_id": "--id"}


class SettingsError(Exception):
    """One line per mistake: where it stands, and what it should be."""


def _new_id() -> str:
    return f"c-{secrets.token_hex(4)}"


class Webhook(BaseModel):
    """Where alerts of a channel go. Both are secrets: they appear in no message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False)
    routing_key: str = Field("", repr=False)
    """PagerDuty's."""


class ControllerSettings(BaseSettings):
    """Everything one controller can be told. A description completes the sentence "must be …"."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    nats_url: str = Field("nats://127.0.0.1:4222", description=f"{NATS_URL_RULE}, or several, separated by commas")
    prefix: str = Field("crank", description=TOKEN_RULE)
    controller_id: str = Field(default_factory=_new_id, description=TOKEN_RULE)
    http_host: str = Field("127.0.0.1", min_length=1, description="the address to serve metrics and health on")
    # 9464 is the port OpenTelemetry's Prometheus exporters use.
    http_port: int = Field(9464, ge=0, le=65535, description="a port from 0 (any free one) to 65535")
    default_timeout_ms: int = Field(
        30_000, ge=1, le=86_400_000, description="a whole number of milliseconds from 1 to 86400000"
    )
    # nats-server itself takes at most 64 MB, headers included.
    max_body_bytes: int = Field(
        1_048_576, ge=1, le=64 * 1024 * 1024 - 65_536, description="a whole number of bytes from 1 to 67043328"
    )
    heartbeat_interval_s: float = Field(
        2.0, ge=0.05, le=60, allow_inf_nan=False, description="a number of seconds from 0.05 to 60"
    )
    replicas: int = Field(1, ge=1, le=5, description="a number of JetStream replicas from 1 to 5")
    drain_timeout_s: float = Field(
        30.0, ge=0, le=3600, allow_inf_nan=False, description="a number of seconds from 0 to 3600"
    )
    queue_limit: int = Field(
        1000, ge=0, le=1_000_000, description="how many requests of a capability may wait, from 0 to 1000000"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="a number of attempts from 1 to 100")
    claim_lease_s: float = Field(
        15.0, ge=0.5, le=300, allow_inf_nan=False, description="a number of seconds from 0.5 to 300"
    )
    idempotency_window_s: int = Field(
        3600, ge=1, le=7 * 86_400, description="a whole number of seconds from 1 to 604800, which is 7 days"
    )
    claims_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024 * 1024, le=2**50, description="a whole number of bytes, 1048576 or more"
    )
    claims_cache_bytes: int = Field(
        64 * 1024 * 1024, ge=0, le=2**40, description="a whole number of bytes, 0 to keep no answers in memory"
    )
    job_attempts: int = Field(5, ge=1, le=100, description="a number of attempts from 1 to 100")
    jobs_max_bytes: int = Field(
        256 * 1024 * 1024, ge=1024 * 1024, le=2**50, description="a whole number of bytes, 1048576 or more"
    )
    results_ttl_s: int = Field(
        86_400, ge=1, le=35 * 86_400, description="a whole number of seconds from 1 to 3024000, which is 35 days"
    )
    # Those that nobody named need not be there; None is that there are none.
    slos: Path | None = Field(Path("slos"), validate_default=False, description="a folder of SLO files that is there")
    limits_file: Path | None = Field(
        Path("limits.yaml"), validate_default=False, description="a file of rate limits that is there"
    )
    alert_webhooks: Annotated[dict[str, Webhook], NoDecode] = Field(
        {},
        description="a mapping of a channel's name to an address, http:// or https://, or to url and routing_key "
        "(which pagerduty needs)",
        repr=False,
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="one of: debug, info, warning, error"
    )

    @field_validator("nats_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not is_nats_url(value):
            raise ValueError
        return value

    @field_validator("prefix", "controller_id")
    @classmethod
    def _is_token(cls, value: str) -> str:
        if not is_token(value):
            raise ValueError
        return value

    @field_validator("slos", "limits_file")
    @classmethod
    def _is_there(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not (value.is_dir() if info.field_name == "slos" else value.is_file()):
            raise ValueError
        return value

    @field_validator("alert_webhooks", mode="before")
    @classmethod
    def _read_webhooks(cls, value: object) -> object:
        read = json.loads(value) if isinstance(value, str) else value
        if not isinstance(read, dict):
            raise ValueError
        return {name: {"url": told} if isinstance(told, str) else told for name, told in read.items()}

    @field_validator("alert_webhooks")
    @classmethod
    def _are_addresses(cls, value: dict[str, Webhook]) -> dict[str, Webhook]:
        for name, webhook in value.items():
            if not is_token(name):  # it may be the address, where the two were swapped
                raise ValueError(f"a channel's name is not {TOKEN_RULE}")
            if not _is_address(webhook.url):
                raise ValueError(f"the address of {name} is not http://… or https://…")
            if name == "pagerduty" and not webhook.routing_key:
                raise ValueError(f"{name} lacks its routing_key")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def load_settings(config_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> ControllerSettings:
    """The settings from all sources. ``config_file`` None means the one that ``CRANK_CONFIG`` names, if any.

    ``overrides`` are flags by setting name; None stands for a flag that was not given.

    Raises:
        SettingsError: with every mistake there is, one a line.

    """
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    variables = {name.upper() for name, value in os.environ.items() if value}
    named_by = "--config"
    if config_file is None and os.environ.get("CRANK_CONFIG"):
        config_file, named_by = Path(os.environ["CRANK_CONFIG"]), "CRANK_CONFIG"
    stored = _read_file(config_file, named_by) if config_file is not None else {}
    # What a variable says is left to pydantic-settings, so what the file says about the same setting is dropped.
    heard = {key: value for key, value in stored.items() if (_PREFIX + key).upper() not in variables}

    def source(name: str) -> str:
        if name in flags:
            return _FLAGS.get(name, "--" + name.replace("_", "-"))
        return f"{config_file}: {name}" if name in heard else (_PREFIX + name).upper()

    mistakes = _unknown(stored, config_file)
    try:
        settings = ControllerSettings(**{**{k: v for k, v in heard.items() if k in _known()}, **flags})
    except ValidationError as error:
        mistakes += [_mistake(source, item) for item in error.errors()]
        raise SettingsError("\n".join(mistakes)) from None
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """One line for each ``CRANK_…`` variable that nothing reads; with the one that was probably meant.

    These are warnings: the environment is shared, and a stray variable must not keep a controller from starting.
    """
    known = sorted(_PREFIX + name for name in {*(field.upper() for field in _known()), *_OTHERS})
    lines = []
    for variable, value in environ.items():
        name = variable.upper()
        rest = name.removeprefix(_PREFIX)
        if rest == name or name in known or _from_kubernetes(rest) or value.startswith(("tcp://", "udp://")):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        lines.append(f"{variable} is not a setting and is not read; {advice}")
    return sorted(lines)


def _known() -> Mapping[str, Any]:
    return ControllerSettings.model_fields


def _mistake(source: Callable[[str], str], error: ErrorDetails) -> str:
    name, value = str(error["loc"][0]), error["input"]
    field = ControllerSettings.model_fields[name]
    if name in _SECRET:
        return f"{source(name)} must be {field.description}{_fault(error)}"
    shown = public(value) if name == "nats_url" and isinstance(value, str) else value
    return f"{source(name)} must be {field.description}, not {shown!r:.60}"


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        return False


def _fault(error: ErrorDetails) -> str:
    """What is wrong with a mapping, by the name of what is in it and never by its value."""
    inner = [str(part) if is_token(str(part)) else "a channel" for part in error["loc"][1:]]
    if inner:
        wrongs = {"missing": "is missing", "extra_forbidden": "is unknown"}
        return f"; {'.'.join(inner)} {wrongs.get(error['type'], 'is of the wrong kind')}"
    raised = error.get("ctx", {}).get("error")
    # What a reader of JSON says may hold a piece of it.
    told = "it is no JSON" if isinstance(raised, json.JSONDecodeError) else str(raised or "")
    return f"; {told}" if told else ""


def _unknown(stored: Mapping[str, Any], config_file: Path | None) -> list[str]:
    lines = []
    for key in stored.keys() - _known().keys():
        near = difflib.get_close_matches(key, _known(), n=1)
        advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(_known())}"
        lines.append(f"{config_file}: {key} is not a setting; {advice}")
    return sorted(lines)


def _read_file(path: Path, named_by: str) -> dict[str, Any]:
    document, mistakes = read_yaml(path, _MOST_BYTES)
    if document is None or mistakes:
        raise SettingsError(
            "\n".join(str(each) if each.line else f"{named_by}: {each.file} {each.text}" for each in mistakes)
        )
    if document.content is None:
        return {}
    if not isinstance(document.content, dict):
        raise SettingsError(f"{path} must be a mapping of settings, such as `http_port: 9464`")
    return {str(key): value for key, value in document.content.items()}

"""Owns the options that several subcommands share, and what a person may write in them."""

from __future__ import annotations

import math
import mimetypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_NATS = "nats://127.0.0.1:4222"
_header_name = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}").fullmatch
# Not in every machine's table of types.
_TYPES = {".eml": "message/rfc822", ".md": "text/markdown", ".yaml": "application/yaml", ".yml": "application/yaml"}


def nats_option(command: F) -> F:
    """``--nats URL`` and ``--prefix``: which installation is meant."""
    command = click.option(
        "--prefix", type=Token(), envvar="CRANK_PREFIX", default="crank", show_default=True,
        help="The installation's prefix.",
    )(command)  # fmt: skip
    return click.option(
        "--nats", "nats_url", type=NatsUrl(), metavar="URL", envvar="CRANK_NATS_URL", default=DEFAULT_NATS,
        show_default=True, help="The NATS server; also by CRANK_NATS_URL.",
    )(command)  # fmt: skip


def json_option(command: F) -> F:
    """``--json``: for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def limit_option(command: F) -> F:
    """``--limit``: how many items of a list."""
    return click.option(
        "--limit", type=click.IntRange(1, 1_000_000), default=200, show_default=True, metavar="N",
        help="Show at most so many.",
    )(command)  # fmt: skip


def yes_option(command: F) -> F:
    """``--yes``: without being asked."""
    return click.option("--yes", is_flag=True, help="Do it without asking first.")(command)


class NatsUrl(click.ParamType[str]):
    """The address of a NATS server, or several, separated by commas."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value``, or wrong usage."""
        from bus.addresses import NATS_URL_RULE, is_nats_url, public

        if not is_nats_url(value):
            _wrong(f"{public(value)!r} is not {NATS_URL_RULE}", self, param, ctx)
        return str(value)


def _wrong(
    message: str, kind: click.ParamType[Any], param: click.Parameter | None, ctx: click.Context | None
) -> NoReturn:
    """Wrong usage, told with the variable's name where a variable said it: nobody looks for a flag not written."""
    source = ctx.get_parameter_source(param.name or "") if ctx is not None and param is not None else None
    if param is not None and source is ParameterSource.ENVIRONMENT:
        raise click.UsageError(f"{param.envvar}: {message}", ctx)
    kind.fail(message, param, ctx)


class Token(click.ParamType[str]):
    """1 to 64 of the characters that may stand in a subject."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value``, or wrong usage."""
        from subjects.tokens import TOKEN_RULE, is_token

        if not is_token(value):
            _wrong(f"{value!r} is not {TOKEN_RULE}", self, param, ctx)
        return str(value)


class Key(click.ParamType[str]):
    """An idempotency key, or what it begins with: ``room`` characters are kept free."""

    name = "key"

    def __init__(self, room: int = 0) -> None:
        self._room = room

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value``, or wrong usage."""
        from subjects.claims import KEY_RULE, is_key

        if not is_key(value + "." * self._room):
            less = f"; here it is followed by {self._room} more" if self._room else ""
            _wrong(f"{value!r:.100} is not {KEY_RULE}{less}", self, param, ctx)
        return str(value)


class CapabilityName(click.ParamType[str]):
    """``VERB:NAME``."""

    name = "capability"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value``, or wrong usage, which knows the subject's spelling."""
        from subjects.tokens import TOKEN_RULE, is_capability

        if not is_capability(value):
            meant = value.removeprefix("crank.request.").replace(".", ":", 1)
            advice = f"; did you mean {meant}?" if is_capability(meant) else f", each {TOKEN_RULE}"
            self.fail(f"{value!r} is not VERB:NAME{advice}", param, ctx)
        return str(value)


class HeaderLine(click.ParamType[tuple[str, str]]):
    """``KEY=VALUE``, fit for a header."""

    name = "header"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """``(key, value)``, or wrong usage."""
        if isinstance(value, tuple):
            return value
        key, found, text = value.partition("=")
        if not found or not _header_name(key):
            self.fail(f"{value!r} is not KEY=VALUE, such as Crank-Request-Id=order-7", param, ctx)
        if any(c < " " or c == "\x7f" for c in text):
            self.fail(f"the value of {key} holds a control character", param, ctx)
        return key, text


class TokenCount(click.FloatRange):
    """A number of tokens, which is what requests cost."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or wrong usage."""
        tokens = float(super().convert(value, param, ctx))
        if not math.isfinite(tokens):
            self.fail(f"{value!r} is not a number of tokens, such as 0.5", param, ctx)
        return tokens


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Its members, or wrong usage."""
        import msgspec

        if isinstance(value, dict):
            return value
        try:
            return msgspec.json.decode(value, type=dict[str, Any])
        except (ValueError, RecursionError):
            self.fail(f"{value!r} is not a JSON object, such as '{{\"gpu_count\": 1}}'", param, ctx)


def prepare_ready_file(path: Path) -> None:
    """Make sure of a place that is written only once everything serves: late is too late to hear that it cannot be.

    Raises:
        click.UsageError: it cannot be written.

    """
    from crank.ready import prepare_ready

    try:
        prepare_ready(path)
    except OSError as error:
        raise click.UsageError(f"--ready-file: {path} cannot be written: {error.strerror}") from None


def read_data(data: str | None) -> tuple[bytes, str | None]:
    """``(body, content type or None for the default)`` of DATA: text, ``@file``, ``-`` for stdin, nothing.

    Raises:
        click.UsageError: the file cannot be read.

    """
    if data is None:
        return b"", None
    if data == "-":
        return sys.stdin.buffer.read(), None
    if not data.startswith("@"):
        return data.encode(errors="surrogateescape"), None
    path = Path(data[1:])
    try:
        body = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    suffix = path.suffix.lower()
    return body, _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")

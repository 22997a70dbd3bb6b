"""Owns the options that several subcommands share, and what a person may write in them."""

from __future__ import annotations

import mimetypes
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
        "--nats", "nats_url", metavar="URL", envvar="CRANK_NATS_URL", default=DEFAULT_NATS, show_default=True,
        help="The NATS server; also by CRANK_NATS_URL.",
    )(command)  # fmt: skip


def json_option(command: F) -> F:
    """``--json``: for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


class Token(click.ParamType[str]):
    """1 to 64 of the characters that may stand in a subject."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """``value``, or wrong usage."""
        from subjects.tokens import TOKEN_RULE, is_token

        if not is_token(value):
            self.fail(f"{value!r} is not {TOKEN_RULE}", param, ctx)
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
            self.fail(f"{value!r} is not KEY=VALUE, such as Idempotency-Key=order-7", param, ctx)
        if any(c < " " or c == "\x7f" for c in text):
            self.fail(f"the value of {key} holds a control character", param, ctx)
        return key, text


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

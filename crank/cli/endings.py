"""Owns the exit codes and what people read when something is refused or fails. Every subcommand ends through here."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from callers.failures import CrankError
    from subjects.errors import Offence

T = TypeVar("T")

DONE, FAILED, USAGE, NOBODY = 0, 1, 2, 3
EMPTY_BODY = "Mind that the body was empty: no DATA was given."


def end(message: str, code: int) -> NoReturn:
    """Say ``message`` on stderr and end the command with ``code``."""
    say(message)
    raise click.exceptions.Exit(code)


def refuse_settings(error: Exception) -> NoReturn:
    """End with all that is wrong with the settings, a line each."""
    end("\n".join(f"crank: {line}" for line in str(error).splitlines()), USAGE)


def why(error: Exception) -> str:
    """``error`` for a person: of what the system refuses, the place and its reason without the number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def say(message: str) -> None:
    """Say ``message`` on stderr, each line broken at words on a terminal."""
    click.echo("\n".join(_wrapped(line, "") for line in message.split("\n")), err=True)


def ask_first(warning: str, question: str, *, yes: bool) -> None:
    """Go on only when whoever is at the terminal says so; ``yes`` says it beforehand, for scripts."""
    if yes:
        return
    say(warning)
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; say --yes to do it")
    if not click.confirm(question, err=True):
        end("Nothing was changed.", FAILED)


def called() -> str:
    """How whoever started this command can start the next one."""
    if shutil.which("crank"):
        return "crank"
    return "python -m crank" if sys.argv[0].endswith("__main__.py") else shlex.quote(sys.argv[0])


def run_client(
    work: Coroutine[Any, Any, T], *, as_json: bool, hint: Callable[[CrankError], str] = lambda error: ""
) -> T:
    """Run ``work``, which asks a controller, and turn its failure into text and exit code.

    ``hint`` says what this command can tell a person beside the failure itself, or "".
    """
    import asyncio

    from callers.failures import CrankError, Unreachable

    try:
        return asyncio.run(work)
    except CrankError as error:
        if as_json:
            click.echo(json_problem(error))
        else:
            click.echo(told(error), err=True)
            if more := hint(error):
                click.echo("\n".join(_wrapped(line, "  ") for line in more.split("\n")), err=True)
        raise click.exceptions.Exit(NOBODY if isinstance(error, Unreachable) else FAILED) from None


def json_problem(error: CrankError) -> bytes:
    """The failure as the one JSON object of ``--json``."""
    import msgspec

    from crank.cli.show import friendly_meta

    failed = {"ok": False, "code": error.code, "problem": error.problem, "meta": friendly_meta(error.meta)}
    if error.idempotency_key is not None:
        failed["idempotency_key"] = error.idempotency_key
    return msgspec.json.encode(failed)


def told(error: CrankError, indent: str = "") -> str:
    """The failure for a person: code and title, what to do, each offence, each worker left out, when to try again."""
    from callers.failures import Unreachable

    problem = error.problem
    if isinstance(error, Unreachable):
        return _wrapped(f"crank: {error.detail}", indent)
    kind = problem.type.rpartition(":")[2]
    head = indent + printable(f"{problem.status} {kind}: {problem.title}")
    lines = [problem.detail] if problem.detail and problem.detail != problem.title else []
    lines += [_offence(offence) for offence in problem.errors if not _is_in(offence, problem.detail)]
    lines += [f"- {left_out.worker_id}: {left_out.reason}" for left_out in problem.candidates]
    if problem.worker_code is not None and problem.worker_message and problem.worker_message not in problem.detail:
        lines.append(f"The worker said {problem.worker_code}: {problem.worker_message}")
    lines += [error.hint] if error.hint else []
    if sys.stderr.isatty():
        head = click.style(head, fg="red", bold=True)
    return "\n".join([head, *(_wrapped(line, indent + "  ") for line in lines)])


def _offence(offence: Offence) -> str:
    return f"- {offence.path or 'body'}: {offence.message}"


def _is_in(offence: Offence, detail: str) -> bool:
    """Whether ``detail`` has said it already, as it does with the first one."""
    return offence.message in detail and (offence.path in detail or offence.path == "body")


def _wrapped(text: str, indent: str) -> str:
    """``text`` indented, broken at words on a terminal; a file or pipe gets it whole, so that it can be searched."""
    text = printable(text)
    if not sys.stderr.isatty():
        return indent + text
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def printable(text: str) -> str:
    """``text`` without control characters: what a worker says must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "\ufffd" for c in text)

"""``crank controller`` and ``crank worker``: one process that serves until it is asked to stop, and then drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from crank.cli.endings import FAILED, NOBODY, USAGE, end, refuse_settings, say
from crank.cli.options import Token, nats_option, prepare_ready_file

if TYPE_CHECKING:
    from controller.settings import ControllerSettings
    from workers import Worker

T = TypeVar("T")

_with_parent = click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input closes.")
LOG_LEVEL = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)


@click.command()
@click.option("--nats", "nats_url", metavar="URL", help="The NATS server; also by CRANK_NATS_URL.")
@click.option("--id", "controller_id", metavar="ID", help="This controller's name; default: a random one.")
@click.option("--http-host", metavar="HOST", help="Where health is served; default 127.0.0.1.")
@click.option("--http-port", metavar="PORT", help="Its port; 0 takes a free one; default 9464.")
@click.option("--prefix", metavar="TOKEN", help="The installation's prefix; default crank.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings; also by CRANK_CONFIG.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written, as one JSON line, once it serves.")
@_with_parent
def controller(config: Path | None, ready_file: Path | None, with_parent: bool, **flags: str | None) -> None:
    """Run one controller until SIGINT or SIGTERM; then finish what is in hand.

    Every setting can also be a CRANK_… variable or stand in the file: flags beat variables, variables beat the file.
    """
    from controller.settings import SettingsError, load_settings

    try:
        settings = load_settings(config, flags)
    except SettingsError as error:
        refuse_settings(error)
    if ready_file is not None:
        prepare_ready_file(ready_file)
    log_to_stderr(settings.log_level)
    run_loop(_controller(settings, ready_file, with_parent))


async def _controller(settings: ControllerSettings, ready_file: Path | None, with_parent: bool) -> None:
    from bus import BusUnavailable
    from bus.addresses import public
    from bus.connection import BusError
    from callers.failures import no_server
    from controller.app import Controller
    from crank.cli.stopping import stop_event, unless_stopped
    from crank.ready import write_ready

    stop = stop_event(with_parent=with_parent)
    app = Controller(settings)
    try:
        if await unless_stopped(app.start(), stop):
            _collect_seldom()
            click.echo(
                f"controller {settings.controller_id} is ready; its health is at {app.http_url}/readyz", err=True
            )
            if ready_file is not None:
                write_ready(ready_file, nats=public(settings.nats_url), http=app.http_url)
            await stop.wait()
    except BusUnavailable as error:
        end(f"crank: {no_server(error)}", NOBODY)
    except BusError as error:
        end(f"crank: {error}", FAILED)
    except OSError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        end(f"crank: {where} cannot be listened on ({error.strerror or error}); choose another --http-port", FAILED)
    finally:
        await app.stop()


def _collect_seldom() -> None:
    """What is here now stays; to look through it again takes 40 ms, in which no request moves.

    Requests are freed by themselves. Only what fails in a tangle is collected, when there is much of it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@click.command()
@click.argument("target", metavar="NAME|MODULE:ATTR|FILE")
@click.option(
    "--id", "worker_id", type=Token(), metavar="ID", help="This worker's name; default: NAME and a random end."
)
@click.option("--log-level", type=LOG_LEVEL, envvar="CRANK_LOG_LEVEL", default="info", show_default=True)
@click.option("--reload", is_flag=True, help="Serve it anew whenever a Python file of this folder is saved.")
@click.option("--manifest", "only_manifest", is_flag=True, help="Print what it would register, as JSON; run nothing.")
@_with_parent
@nats_option
def worker(
    target: str,
    worker_id: str | None,
    log_level: str,
    reload: bool,
    only_manifest: bool,
    with_parent: bool,
    nats_url: str,
    prefix: str,
) -> None:
    """Run one worker until SIGINT or SIGTERM; then finish what is in hand.

    NAME is a reference worker, such as hello_world; MODULE:ATTR is one of your own in this folder, such as
    shout:worker for `worker = Worker(…)` in shout.py, which can also be named as FILE.
    """
    import secrets

    from crank.targets import TargetError, load_worker, name_of

    ident = worker_id or f"{name_of(target)}-{secrets.token_hex(2)}"
    if reload and not only_manifest:
        os.environ["CRANK_NATS_URL"] = nats_url  # for the child; its flags are everybody's to read
        _serve_anew(target, ["--id", ident, "--log-level", log_level, "--prefix", prefix])
    log_to_stderr(log_level)
    try:
        loaded = load_worker(target, Path.cwd())
    except TargetError as error:
        end(f"crank: {error}", USAGE)
    if only_manifest:
        _print_manifest(loaded, worker_id)
        return
    left = run_loop(_worker(loaded, ident, nats_url, prefix, with_parent))
    if left:
        click.echo(f"crank: {left} handlers did not end in time and are given up", err=True)
        sys.stderr.flush()
        os._exit(FAILED)  # Python would wait for their threads, for as long as they like


def _serve_anew(target: str, options: list[str]) -> NoReturn:
    """Nothing of the user's is imported here; what no save could mend is told at once."""
    from crank.cli.reloading import folders_of, serve_anew
    from crank.cli.stopping import stop_event
    from crank.targets import TargetError, check_target, is_own, load_worker

    folder = Path.cwd()
    try:
        if is_own(target):
            check_target(target, folder)
        else:  # one of ours, or none
            load_worker(target, folder)
    except TargetError as error:
        end(f"crank: {error}", USAGE)
    # -B: Python takes a file that was saved twice in a second for the same one.
    command = [sys.executable, "-B", "-P", "-m", "crank", "worker", target, *options, "--with-parent"]

    async def serve() -> int:
        return await serve_anew(command, folders_of(target, folder), stop_event(), lambda text: say(f"crank: {text}"))

    raise click.exceptions.Exit(asyncio.run(serve()))


def _print_manifest(loaded: Worker, worker_id: str | None) -> None:
    """Without ``instance``, which is new with each process: the same worker prints the same text."""
    import msgspec

    from subjects.messages import encode

    click.echo(msgspec.json.format(encode(loaded.manifest(worker_id)), indent=2))


async def _worker(loaded: Worker, worker_id: str, nats_url: str, prefix: str, with_parent: bool) -> int:
    from bus import BusUnavailable
    from bus.connection import BusError
    from callers.failures import no_server
    from crank.cli.stopping import stop_event
    from workers import WorkerError
    from workers.runtime import serve
    from workers.worker import DRAIN_TIMEOUT_S

    stop = stop_event(with_parent=with_parent)
    try:
        return await serve(loaded, nats_url, worker_id, prefix, stop, DRAIN_TIMEOUT_S)
    except BusUnavailable as error:
        end(f"crank: {no_server(error)}", NOBODY)
    except (BusError, WorkerError) as error:
        end(f"crank: {error}", FAILED)


def log_to_stderr(level: str) -> None:
    """Start logging, for people."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s  %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # what comes of a change is said by us


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where there is one: a third more requests a second."""
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    return uvloop.run(work)

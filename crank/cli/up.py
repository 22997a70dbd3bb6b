"""``crank up``: everything on one machine, until Ctrl-C or until one of them dies."""

from __future__ import annotations

import asyncio
import difflib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crank.cli.endings import FAILED, USAGE, called, end, refuse_settings, say, why
from crank.cli.options import prepare_ready_file

if TYPE_CHECKING:
    from controller.settings import ControllerSettings
    from crank.local import Local, WorkerPlan

_HOST = "127.0.0.1"
_port = click.IntRange(0, 65535)


@click.command()
@click.option(
    "--nats-port", type=_port, envvar="CRANK_NATS_PORT", default=4222, show_default=True, help="0: a free one."
)
@click.option("--http-port", metavar="PORT", help="For health; 0: a free one; default 9464.")
@click.option("--state", type=click.Path(path_type=Path), envvar="CRANK_STATE", default=Path(".crank"),
              show_default=True, metavar="DIR", help="For the NATS server's store and all logs.")  # fmt: skip
@click.option("--workers", envvar="CRANK_WORKERS", default="all", show_default=True, metavar="A,B|all|none",
              help="Which workers to start: reference workers, or MODULE:ATTR or FILE of your own.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings; also by CRANK_CONFIG.")
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Written, as one JSON line, once requests are served."
)
def up(
    nats_port: int, http_port: str | None, state: Path, workers: str, config: Path | None, ready_file: Path | None
) -> None:
    """Start a NATS server with JetStream, a controller and workers; stop them all on Ctrl-C.

    When one of them dies, the others are stopped too, and the exit code is 1.
    """
    from controller.settings import SettingsError, load_settings

    try:
        settings = load_settings(config, {"http_port": http_port})
    except SettingsError as error:
        refuse_settings(error)
    wanted = _plans(workers)
    _free(nats_port, "--nats-port", "perhaps another NATS server; to use that one: crank controller --nats URL")
    _free(settings.http_port, "--http-port", "perhaps another controller")
    local = _local(state, nats_port, wanted, settings, config)
    for mistake in _mistakes(settings):  # the controller says them too, in its log
        say(f"crank: warning: {mistake}")
    if ready_file is not None:
        prepare_ready_file(ready_file)
    raise click.exceptions.Exit(asyncio.run(_up(local, ready_file, settings)))


def _local(
    state: Path, nats_port: int, plans: list[WorkerPlan], settings: ControllerSettings, config: Path | None
) -> Local:
    from crank.local import Local

    named = "controller_id" in settings.model_fields_set
    return Local(
        state.absolute(),
        nats_port=nats_port,
        http_port=settings.http_port,
        workers=plans,
        prefix=settings.prefix,
        controller_id=settings.controller_id if named else "c-1",
        config=config,
        drain_timeout_s=settings.drain_timeout_s,
    )


def _mistakes(settings: ControllerSettings) -> list[str]:
    """What is wrong with the files of objectives and limits: one does not keep the others from being served."""
    from controller.limits_file import load_rates
    from controller.slo_files import load_objectives

    slos, limits = settings.slos, settings.limits_file
    found = [*load_objectives(slos).mistakes] if slos is not None and slos.exists() else []
    found += load_rates(limits).mistakes if limits is not None and limits.exists() else []
    return list(map(str, found))


def _plans(workers: str) -> list[WorkerPlan]:
    from crank.local import plans
    from crank.targets import TargetError, check_target, is_own

    if workers == "none":
        return []
    from workers.catalogue import REFERENCE

    names = list(REFERENCE) if workers == "all" else [name.strip() for name in workers.split(",") if name.strip()]
    for name in names:
        try:
            check_target(name, Path.cwd())
        except TargetError as error:
            end(f"--workers: {error}", USAGE)
    unknown = [name for name in names if not is_own(name) and name.replace("-", "_") not in REFERENCE]
    if unknown or not names:
        near = [match for name in unknown for match in difflib.get_close_matches(name, REFERENCE, 1)]
        wrong = (", ".join(unknown) or repr(workers)) + (f" (did you mean {', '.join(near)}?)" if near else "")
        end(
            f"--workers: there is no {wrong}; there are: {', '.join(REFERENCE)}; or all, none, MODULE:ATTR, FILE", USAGE
        )
    return plans(names)


def _free(port: int, flag: str, guess: str) -> None:
    """End unless ``port`` can be listened on; said before anything is started."""
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                end(f"crank: port {port} cannot be used: {error.strerror}; choose another with {flag}", FAILED)
            end(
                f"crank: port {port} is taken, {guess}.\n"
                f"Stop what listens there, or choose another with {flag} (0 takes a free one).",
                FAILED,
            )


async def _up(local: Local, ready_file: Path | None, settings: ControllerSettings) -> int:
    from callers.failures import CrankError
    from crank.cli.stopping import stop_event, unless_stopped
    from crank.local import LocalError
    from crank.ready import write_ready

    stop = stop_event()
    code = 0
    started = False

    async def serve() -> None:
        await local.start()
        nonlocal started
        started = True
        await _tell(local)
        if ready_file is not None:
            write_ready(ready_file, nats=local.nats.url, http=local.http_url)
        raise LocalError(await local.died())

    try:
        await unless_stopped(serve(), stop)
        click.echo("Stopping: workers, controller, NATS server …", err=True)
    except (LocalError, CrankError, OSError) as error:
        say(f"crank: {why(error)}" + ("\nThe others are being stopped." if started else ""))
        code = FAILED
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        await local.stop()
    return code


async def _tell(local: Local) -> None:
    """Print where everything is, and what to try."""
    from callers import Client
    from crank.cli.fleet import names

    async with await Client.connect(local.nats.url, prefix=local.prefix) as client:
        # Others may be known from before, or come from elsewhere.
        found = [worker for worker in await client.listed("workers") if worker["worker_id"] in local.worker_ids]
    lines = [
        "Crank is up.",
        "",
        f"  NATS     {local.nats.url}",
        f"  HTTP     {local.http_url}",
        f"  State    {local.state}",
    ]
    width = max((len(str(worker["worker_id"])) for worker in found), default=0)
    for index, worker in enumerate(sorted(found, key=lambda worker: str(worker["worker_id"]))):
        offers = names(worker.get("capabilities"))
        head = f"  {'Workers' if index == 0 else '':7}  {worker['worker_id']!s:{width}}  "
        lines.append(head + ("\n" + " " * len(head)).join(offers))
    click.echo("\n".join([*lines, "", *_try(local, found), "Ctrl-C stops everything."]))


def _try(local: Local, found: list[dict[str, object]]) -> list[str]:
    command = called()
    other = [] if local.nats.port == 4222 else [f"--nats {local.nats.url}"]
    other += [] if local.prefix == "crank" else [f"--prefix {local.prefix}"]
    at = "".join(f" \\\n      {each}" for each in other)  # on lines of their own, since a terminal may have 80 columns
    if any(worker["worker_id"] == "hello_world-1" for worker in found):
        return ["In another terminal:", "", f'  {command} request greet:hello_world \'{{"name":"Ada"}}\'{at}', ""]
    return ["In another terminal:", "", f"  {command} capabilities{at}", ""]

"""``crank slo export`` and ``crank slo import``: objectives in the exchange format OpenSLO, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crank.cli.endings import FAILED, end, say
from crank.cli.objective_files import SLOS, loaded_or_end
from crank.cli.options import CapabilityName

if TYPE_CHECKING:
    from subjects.tokens import CapabilityId

# Far more than a fleet's objectives take.
_MOST_BYTES = 1024 * 1024


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH]...")
def export(paths: tuple[Path, ...]) -> None:
    """Print the objectives of PATH, which are files or folders, as OpenSLO v1; without PATH those of slos/.

    What OpenSLO has no place for is said, and stays in our files.
    """
    import yaml

    from crank.slo.openslo import exported, left_out

    loaded = loaded_or_end(paths, broken=FAILED, empty=FAILED)
    click.echo(yaml.safe_dump_all(exported(loaded.files.values()), sort_keys=False, allow_unicode=True), nl=False)
    for path, objective in loaded.files.items():
        for each in left_out(objective):
            say(f"{path}: {each}")


@click.command("import")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--capability", type=CapabilityName(), metavar="VERB:NAME", help="Whose objective it is, if it does not say so."
)
@click.option(
    "--into", type=click.Path(path_type=Path), default=SLOS, show_default=True, metavar="DIR", help="Where to."
)
def take_in(file: Any, capability: CapabilityId | None, into: Path) -> None:
    """Make SLO files from the OpenSLO v1 documents in FILE (- for standard input).

    What could not be taken over is said. A file that is there already stays as it is, and the exit code is 1.
    """
    from controller.slo_files import SUFFIX, read_slo_file
    from crank.slo.openslo_import import taken_in

    documents = _documents(file)
    if any(isinstance(each, dict) and "capability" in each and "apiVersion" not in each for each in documents):
        end(f"crank: {file.name} is an SLO file already; save it as {into}/VERB_NAME.yaml", FAILED)
    found = taken_in(documents, capability)
    for each in found.left:
        say(f"not taken over: {each}")
    if not found.files:
        end(f"crank: there is no objective in {file.name}", FAILED)
    into.mkdir(parents=True, exist_ok=True)
    failed = False
    for name, content in found.files.items():
        path = into / f"{name.replace(':', '_')}{SUFFIX}"
        try:
            with path.open("x") as made:
                made.write(_written(content))
        except FileExistsError:
            failed = True
            say(f"{path} is there already and stays as it is; another place: --into DIR")
            continue
        click.echo(path)
        for mistake in read_slo_file(path).mistakes:
            failed = True
            say(str(mistake))
    raise click.exceptions.Exit(FAILED if failed else 0)


def _documents(file: Any) -> list[object]:
    import yaml

    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        end(f"crank: {file.name} is longer than {_MOST_BYTES} bytes", FAILED)
    try:
        return list(yaml.safe_load_all(data))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        end(f"crank: {file.name} is not YAML: {' '.join(str(error).split())}", FAILED)


def _written(content: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)

"""``crank adopt``: an existing NATS service, offered as capabilities without a line changed there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from crank.cli.endings import FAILED, NOBODY, end
from crank.cli.options import CapabilityName, Token, TokenCount, nats_option
from crank.cli.run import LOG_LEVEL, log_to_stderr, run_loop

if TYPE_CHECKING:
    from crank.adopting.plans import Wishes

_MOST_AT_ONCE = 1_000_000
# \b keeps click from joining the lines.
_EXAMPLES = """\b
Examples:
  crank adopt orders
  crank adopt orders --only total --idempotent --as total=sum:orders
"""


class _Renaming(click.ParamType[tuple[str, str]]):
    """``ENDPOINT=VERB:NAME``."""

    name = "renaming"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """``(endpoint or subject, verb:name)``, or wrong usage."""
        if isinstance(value, tuple):
            return value
        endpoint, found, capability = value.partition("=")
        if not (endpoint and found):
            self.fail(f"{value!r} is not ENDPOINT=VERB:NAME, such as total=sum:orders", param, ctx)
        return endpoint, CapabilityName().convert(capability, param, ctx)


@click.command(epilog=_EXAMPLES)
@click.argument("service", type=Token())
@click.option(
    "--id", "worker_id", type=Token(), metavar="ID", help="The worker's name; default: SERVICE and a random end."
)
@click.option("--only", metavar="ENDPOINT", multiple=True, help="Leave out all others; may be repeated.")
@click.option(
    "--as", "names", metavar="ENDPOINT=VERB:NAME", type=_Renaming(), multiple=True,
    help="Call an endpoint so, instead of SERVICE:ENDPOINT; may be repeated.",
)  # fmt: skip
@click.option(
    "--max-concurrency", type=click.IntRange(1, _MOST_AT_ONCE), metavar="N",
    help="How many requests an endpoint takes at once, for each instance; default 16.",
)  # fmt: skip
@click.option("--idempotent", is_flag=True, help="Running a request twice does no harm.")
@click.option("--cost", "cost_tokens", type=TokenCount(), metavar="TOKENS", help="The price of a request.")
@click.option("--log-level", type=LOG_LEVEL, envvar="CRANK_LOG_LEVEL", default="info", show_default=True)
@nats_option
def adopt(
    service: str,
    worker_id: str | None,
    only: tuple[str, ...],
    names: tuple[tuple[str, str], ...],
    max_concurrency: int | None,
    idempotent: bool,
    cost_tokens: float | None,
    log_level: str,
    nats_url: str,
    prefix: str,
) -> None:
    """Offer what an existing NATS service does, as capabilities SERVICE:ENDPOINT, until SIGINT or SIGTERM.

    Nothing is changed in the service: each request is passed on to the subject of its endpoint. While no instance of
    it answers, it is not offered. An ENDPOINT is given by its name, or by its subject where several have that name.
    """
    import secrets

    from crank.adopting.plans import Wishes
    from subjects.tokens import CapabilityId

    _check_one_to_one(names)
    renamed = {endpoint: CapabilityId(capability) for endpoint, capability in names}
    wishes = Wishes(renamed, frozenset(only), max_concurrency, idempotent, cost_tokens)
    log_to_stderr(log_level)
    run_loop(_adopt(service, worker_id or f"{service[:48]}-adopted-{secrets.token_hex(2)}", wishes, nats_url, prefix))


def _check_one_to_one(names: tuple[tuple[str, str], ...]) -> None:
    for (endpoint, capability), (other, another) in itertools.combinations(dict.fromkeys(names), 2):
        if endpoint == other:
            raise click.UsageError(f"--as: {endpoint} cannot be both {capability} and {another}")
        if capability == another:
            raise click.UsageError(f"--as: {capability} cannot be both {endpoint} and {other}")


async def _adopt(service: str, worker_id: str, wishes: Wishes, nats_url: str, prefix: str) -> None:
    from bus import BusUnavailable
    from bus.connection import BusError
    from callers.failures import no_server
    from crank.adopting.adoption import adopt
    from crank.adopting.refusals import CannotAdopt
    from crank.cli.stopping import stop_event
    from subjects.tokens import WorkerId
    from workers import WorkerError
    from workers.worker import DRAIN_TIMEOUT_S

    stop = stop_event()
    try:
        await adopt(nats_url, service, WorkerId(worker_id), prefix, wishes, stop, DRAIN_TIMEOUT_S)
    except BusUnavailable as error:
        end(f"crank: {no_server(error)}", NOBODY)
    except (BusError, CannotAdopt, WorkerError) as error:
        end(f"crank: {error}", FAILED)

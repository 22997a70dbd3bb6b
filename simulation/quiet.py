"""Owns the end of a run: all faults are over, time passes, and whatever should have come to rest has.

``world`` calls ``settle`` when the plan is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.events import TICK, StoredManifest
from controller.core.fleet import State
from controller.core.registry import FORGET_AFTER_S
from controller.core.router import SWEEP, Router
from simulation import books, keys
from simulation.exchange import Exchange
from simulation.laws import Broken, must
from simulation.plan import Call
from simulation.stream import digest_of
from subjects.tokens import WorkerId

if TYPE_CHECKING:
    from simulation.controllers import Controller
    from simulation.world import Simulation

# The longest that anything can go on by itself is well below this: patience of callers and workers, orphans, the time
# until a silent worker is gone and another one may have its id, answers that are late, a claim's window.
_REST_S = 60.0
_PROBE_TIMEOUT_MS = 2000
# Numbers that no plan's calls have.
_PROBES = 1_000_000_000


def settle(simulation: Simulation) -> None:
    """Wait until all is quiet, and check the laws that hold then."""
    simulation.network.noise = False
    simulation.clock.run(simulation.clock.now + _REST_S, simulation.unbroken)
    for controller in simulation.controllers:
        controller.look()
    if not simulation.unbroken():
        return
    for controller in simulation.controllers:
        _check_rest(controller)
        _check_agreement(simulation, controller)
    _probe(simulation)
    keys.settle(simulation)
    for controller in simulation.controllers:
        _check_empty(controller.name, controller.router, controller.own.now)


def _check_rest(controller: Controller) -> None:
    router, name = controller.router, controller.name
    must(controller.up and not controller.watch.owed, "in-time", f"{name} still owes {list(controller.watch.owed)}")
    # A job that nobody can do now is tried again and again, until somebody can.
    lives = [life for twins in router._lives.values() for life in twins if not life.delivery]
    must(not lives and not router.lingering, "nothing-left", f"{name} has {router.live} lives")
    must(router.in_flight == 0, "counts", f"{name} has {router.in_flight} in flight")
    books.check_all(router)  # so that nothing is in flight at anybody, and nobody waits
    membership = router.membership
    for what in ("_joining", "_leaving", "_reading", "_known_when_read"):
        left = getattr(membership, what)
        must(not left, "nothing-left", f"{name} keeps {what.strip('_')} {sorted(left)}")


def _check_agreement(simulation: Simulation, controller: Controller) -> None:
    """Who lives is known to everybody as the stream has it; who is dead is known to nobody as alive."""
    known = controller.router.world.registry.workers
    for worker in simulation.workers.values():
        entry = simulation.stream.get(worker.id)
        seen = known.get(worker.id)
        if not worker.up:
            gone = seen is None or seen.state is State.GONE
            must(gone, "agreement", f"{controller.name} takes {worker.id} for alive, and it is dead")
            continue
        must(worker.registered, "agreement", f"{worker.id} could not register")
        if not isinstance(entry, StoredManifest) or entry.digest != digest_of(worker.body):
            raise Broken("agreement", f"the stream does not have {worker.instance} for {worker.id}, but {entry}")
        if seen is None or (seen.seq, seen.digest, seen.state) != (entry.seq, entry.digest, State.ALIVE):
            told = f"{controller.name} does not have {worker.instance} as number {entry.seq} of the stream, but {seen}"
            raise Broken("agreement", told)
        for offer in seen.offers:
            must(offer.free, "recovery", f"{controller.name} does not count {offer.address} as free")
    strangers = [worker_id for worker_id in known if worker_id not in simulation.workers]
    must(not strangers, "agreement", f"{controller.name} knows {strangers}")


def _probe(simulation: Simulation) -> None:
    """Ask every controller for everything that is offered."""
    offered = {spec.id for worker in simulation.workers.values() if worker.up for spec in worker.manifest.capabilities}
    callers = simulation.callers
    probes: list[tuple[Controller, Exchange]] = []
    for controller in simulation.controllers:
        for capability in sorted(offered):
            call = Call(0.0, _PROBES + len(probes), capability, timeout_ms=_PROBE_TIMEOUT_MS)
            exchange = Exchange(call, simulation.plan.seed, simulation.network, calm=True)
            controller.receive(controller.feed, callers.request(exchange))
            probes.append((controller, exchange))
    simulation.clock.run(simulation.clock.now + 2 * _PROBE_TIMEOUT_MS / 1000, simulation.unbroken)
    for controller, exchange in probes:
        got = exchange.outcome or "nothing"
        callers.outcomes[got] -= 1
        must(got == "answered", "recovery", f"{controller.name} answers {exchange.call.capability} with {got}")


def _check_empty(name: str, router: Router, now: float) -> None:
    """All workers fall silent, and an hour later nothing is left of anything."""
    for step_s in (20.0, FORGET_AFTER_S + 20.0, 1.0):
        now += step_s
        router.handle(TICK, now)
    books.check_all(router)
    must(not router.claims, "nothing-left", f"{name} still has to do with {list(router.claims)}")
    workers: list[WorkerId] = list(router.world.registry.workers)
    must(not workers, "nothing-left", f"{name} still knows {workers}")
    timers = len(router.timers) - (SWEEP in router.timers)
    must(timers == 0, "nothing-left", f"{name} has {timers} timers")
    must(not router._flights, "nothing-left", f"{name} has {len(router._flights)} flights")

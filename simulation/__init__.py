"""Crank in a simulated world: real routers and loops; pretended workers, callers, network and stream; one clock.

``python -m simulation`` runs it; ``docs/architecture.md`` tells what it can and cannot find.
"""

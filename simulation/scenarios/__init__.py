"""Objectives put to the test: fleets of workers of different speed and price under a load that does not wait for them.

The real router behind the real loop, on the virtual clock; nothing is lost on the way here, which ``simulation.world``
looks after. ``python -m simulation.scenarios`` runs all of them and prints a table.
"""

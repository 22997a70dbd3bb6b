"""Reproducible comparisons in one run: what NATS costs, what a router that decides nothing costs, what Crank costs."""

"""For tests of workers: everything that answers a request, in one process and without NATS."""

from crank.testing.serving import serving

__all__ = ["serving"]

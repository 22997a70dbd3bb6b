"""For tests of workers: everything that answers a request, in one process and without NATS."""

from crank.shadows import check_ours

check_ours()  # a test runner puts the project first

from crank.testing.serving import serving  # noqa: E402

__all__ = ["serving"]

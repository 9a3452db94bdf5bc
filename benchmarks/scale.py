"""How many contexts the benchmarks work on, and engines of that many."""

from wfpsa import testing

SIZES = (1_000, 100_000, 1_000_000)
BASELINE_SIZE = 10_000
"""Slow baselines are run at this size and quoted per context."""


def fresh(size: int) -> testing.EmbeddedEngine:
    """An engine of which nothing has expired yet."""
    control = testing.EmbeddedEngine()
    control.stop_clock()
    control.seed(size, 7)
    return control

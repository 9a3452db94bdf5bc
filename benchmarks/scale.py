"""How many contexts the benchmarks work on."""

SIZES = (1_000, 100_000, 1_000_000)
BASELINE_SIZE = 10_000
"""Slow baselines are run at this size and quoted per context."""

"""How many contexts the benchmarks work on."""

SIZES = (1_000, 100_000, 1_000_000)

"""How many contexts the benchmarks work on, and engines of that many."""

import wfpsa
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


CORE = (
    "context_id",
    "has_inbound",
    "has_outbound",
    "ip_version",
    "traffic_type",
    "local_address",
    "remote_address",
    "remote_port",
    "spi_in",
    "spi_out",
    "transform_out",
    "cipher_config_out",
    "lifetime_seconds_out",
    "mm_sa_id_out",
    "filter_id_out",
)
"""The columns that most agents need."""


def core(batch: wfpsa.SaBatch, **cells: bytes) -> wfpsa.SaBatch:
    """A copy of the batch with the core set only, and with these cells instead of its own."""
    rebuild, (version, length, own, presence, _, backend, pushed) = batch.__reduce__()  # type: ignore[misc]
    kept = {name: own[name] for name in CORE} | cells
    made = rebuild(version, length, kept, presence, [], backend, pushed)
    assert isinstance(made, wfpsa.SaBatch)
    return made

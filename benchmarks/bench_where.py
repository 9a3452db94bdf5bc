"""Selecting by conditions other than the subnet of the budget table, which bench_budgets.py has."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from scale import SIZES

import wfpsa
from wfpsa.bench.cases import seeded

sized = pytest.mark.parametrize("size", SIZES)


@cache
def batch_of(size: int) -> wfpsa.SaBatch:
    with seeded(size) as control, control.open() as engine:
        return engine.snapshot()


CONDITIONS: dict[str, Callable[[wfpsa.SaBatch], dict[str, Any]]] = {
    "bool": lambda batch: {"has_outbound": True},
    "range": lambda batch: {"lifetime_seconds_out": (0, 3600)},
    "one of 2": lambda batch: {"transform_out": {1, 2}},
    "one of 1000": lambda batch: {"spi_out": set(batch["spi_out"][: len(batch) // 2].tolist()[:1000]) - {None}},
    "text": lambda batch: {"main_mode_target_in": batch["main_mode_target_in"].strings[1]},
    "all IPv6": lambda batch: {"remote": "::/0"},
    "20 subnets": lambda batch: {"remote": [f"10.{at}.0.0/17" for at in range(20)]},
    "3 together": lambda batch: {"remote": "10.0.0.0/8", "has_outbound": True, "lifetime_seconds_out": (0, 3600)},
}


@sized
@pytest.mark.parametrize("condition", CONDITIONS)
def bench_conditions(size: int, condition: str, measure: Callable[..., Any]) -> None:
    batch = batch_of(size)
    wanted = CONDITIONS[condition](batch)
    found = measure(f"where, other conditions, of {size}", condition, size, lambda: batch.where(**wanted), rounds=20)
    assert len(found) < size

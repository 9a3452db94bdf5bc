"""Counting values of the core set: wfpsa beside NumPy (unique) and collections.Counter over the same values."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from scale import SIZES

import wfpsa
from wfpsa.bench.cases import BASELINE_CONTEXTS, seeded

WAYS: dict[str, tuple[tuple[str, ...], tuple[int, int] | None]] = {
    "transform_out": (("transform_out",), None),
    "remote_address": (("remote_address",), None),
    "remote_address by network": (("remote_address",), (16, 48)),
    "ip_version, transform_out": (("ip_version", "transform_out"), None),
    "lifetime_seconds_out": (("lifetime_seconds_out",), None),
}

ways = pytest.mark.parametrize("way", WAYS)
sized = pytest.mark.parametrize("size", SIZES)


@cache
def snapshot(size: int) -> wfpsa.SaBatch:
    with seeded(size) as control, control.open() as engine:
        return engine.snapshot(fields=wfpsa.CORE_FIELDS)


def with_numpy(arrays: list[Any], prefix: tuple[int, int] | None) -> int:
    """How many values there are: rows of two columns as one number, addresses as 16 bytes."""
    cells = arrays[0]
    if len(arrays) == 2:
        cells = arrays[0].astype(np.uint32) << 16 | arrays[1]
    elif cells.ndim == 2:
        if prefix:
            mapped = (cells[:, :10] == 0).all(1) & (cells[:, 10:12] == 255).all(1)
            cells = cells.copy()
            cells[mapped, 12 + prefix[0] // 8 :] = 0
            cells[~mapped, prefix[1] // 8 :] = 0
        cells = np.ascontiguousarray(cells).view("V16")[:, 0]
    values, counts = np.unique(cells, return_counts=True)
    np.argsort(-counts, kind="stable")
    return len(values)


@sized
@ways
def bench_count_by(size: int, way: str, measure: Callable[..., Any]) -> None:
    names, prefix = WAYS[way]
    batch = snapshot(size)
    found = measure(f"count {size} by {way}", "wfpsa", size, lambda: batch.count_by(*names, prefix=prefix))
    assert sum(count for _, count in found) == size


@sized
@ways
def bench_numpy(size: int, way: str, measure: Callable[..., Any]) -> None:
    names, prefix = WAYS[way]
    arrays = [np.asarray(snapshot(size)[name]) for name in names]
    found = measure(f"count {size} by {way}", "numpy", size, lambda: with_numpy(arrays, prefix), rounds=3)
    assert found <= len(snapshot(size).count_by(*names, prefix=prefix)) <= found + 1  # absent is the same cell


@pytest.mark.parametrize("way", [way for way, (_, prefix) in WAYS.items() if not prefix])
def bench_counter(way: str, measure: Callable[..., Any]) -> None:
    """Both at the size of slow baselines."""
    names, _ = WAYS[way]
    batch = snapshot(BASELINE_CONTEXTS)
    columns = [batch[name] for name in names]
    group = f"count {BASELINE_CONTEXTS} by {way}"
    found = measure(
        group,
        "Counter",
        BASELINE_CONTEXTS,
        lambda: Counter(columns[0] if len(columns) == 1 else zip(*columns, strict=True)),
    )
    assert found.total() == BASELINE_CONTEXTS


@ways
def bench_beside_counter(way: str, measure: Callable[..., Any]) -> None:
    names, prefix = WAYS[way]
    batch = snapshot(BASELINE_CONTEXTS)
    group = f"count {BASELINE_CONTEXTS} by {way}"
    assert measure(group, "wfpsa", BASELINE_CONTEXTS, lambda: batch.count_by(*names, prefix=prefix))

"""Comparing two snapshots of the core set, 1 % of it churned: wfpsa beside NumPy (argsort and searchsorted)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scale import SIZES, fresh

import wfpsa

_pairs: dict[int, tuple[wfpsa.SaBatch, wfpsa.SaBatch]] = {}


def pair(size: int) -> tuple[wfpsa.SaBatch, wfpsa.SaBatch]:
    """A batch, and what it is after 0.5 % went, 0.5 % came and 0.5 % changed; in the order of an engine."""
    if size not in _pairs:
        _pairs.clear()
        generator = np.random.default_rng(7)
        churn = size // 200
        with fresh(size + churn) as control, control.open() as engine:
            snapshot = engine.snapshot(fields=wfpsa.CORE_FIELDS)
        stays = np.ones(size + churn, bool)
        stays[generator.choice(size, churn, replace=False)] = False
        after = snapshot.take(np.flatnonzero(stays))
        lifetimes = np.array(after["lifetime_seconds_out"])
        lifetimes[generator.choice(size, churn, replace=False)] += 1
        _pairs[size] = snapshot.take(np.arange(size)), with_lifetimes(after, lifetimes.tobytes())
    return _pairs[size]


def with_lifetimes(batch: wfpsa.SaBatch, cells: bytes) -> wfpsa.SaBatch:
    """The batch with these cells for its lifetimes."""
    rebuild, (version, length, own, *rest) = batch.__reduce__()  # type: ignore[misc]
    made = rebuild(version, length, own | {"lifetime_seconds_out": cells}, *rest)
    assert isinstance(made, wfpsa.SaBatch)
    return made


def with_numpy(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, int, int]:
    """How many rows were added, removed and changed: the rows of both matched by sorting the ids."""
    ids, sought = before["context_id"], after["context_id"]
    order = np.argsort(ids)
    places = np.minimum(np.searchsorted(ids, sought, sorter=order), len(ids) - 1)
    rows = order[places]
    both = ids[rows] == sought
    old, new = rows[both], np.flatnonzero(both)
    left = np.ones(len(ids), bool)
    left[old] = False
    changed = np.zeros(len(old), bool)
    for name in wfpsa.CORE_FIELDS[1:]:
        one, other = before[name][old], after[name][new]
        changed |= (one != other).any(1) if one.ndim == 2 else one != other
    return int((~both).sum()), int(left.sum()), int(changed.sum())


@pytest.mark.parametrize("order", ["same", "shuffled"])
@pytest.mark.parametrize("size", SIZES)
def bench_diff(size: int, order: str, measure: Callable[..., Any]) -> None:
    before, after = pair(size)
    if order == "shuffled":
        after = after.take(np.random.default_rng(8).permutation(len(after)))
    diff = measure(f"diff {size}, {order} order", "wfpsa", size, lambda: before.diff(after))
    churn = size // 200
    assert (len(diff.added), len(diff.removed)) == (churn, churn) and 0 < len(diff.changed) <= churn


@pytest.mark.parametrize("order", ["same", "shuffled"])
@pytest.mark.parametrize("size", SIZES)
def bench_numpy(size: int, order: str, measure: Callable[..., Any]) -> None:
    before, after = pair(size)
    if order == "shuffled":
        after = after.take(np.random.default_rng(8).permutation(len(after)))
    arrays = [
        {
            name: np.asarray(batch[name]).view("u8") if "address" in name else np.asarray(batch[name])
            for name in wfpsa.CORE_FIELDS
        }
        for batch in (before, after)
    ]
    found = measure(f"diff {size}, {order} order", "numpy", size, lambda: with_numpy(*arrays))
    diff = before.diff(after)
    assert found == (len(diff.added), len(diff.removed), len(diff.changed))

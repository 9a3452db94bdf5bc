"""Selecting by a subnet that holds 1 %, 12 % or 90 % of the addresses: wfpsa beside NumPy and beside other conditions.

The addresses of the population are replaced so that the share is exact, and the chosen rows lie at random.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from scale import SIZES, fresh

import wfpsa

SHARES = (1, 12, 90)
PREFIX = np.frombuffer(bytes(10) + b"\xff\xff\x0a\x02", np.uint8)
"""Of 10.2.0.0/16, as an address column has it."""

sized = pytest.mark.parametrize("size", SIZES)
shared = pytest.mark.parametrize("share", SHARES)


@cache
def batch_of(size: int) -> wfpsa.SaBatch:
    with fresh(size) as control, control.open() as engine:
        return engine.snapshot()


@cache
def shaped(size: int, share: int) -> wfpsa.SaBatch:
    """A batch of which that share has its remote address in 10.2.0.0/16, the rest in other subnets."""
    rebuild, (version, length, cells, *rest) = batch_of(size).__reduce__()
    draw = np.random.default_rng(share)
    addresses = np.frombuffer(cells["remote_address"], np.uint8).reshape(-1, 16).copy()
    addresses[(addresses[:, :14] == PREFIX).all(1), 13] = 3
    chosen = draw.permutation(size)[: size * share // 100]
    addresses[chosen, :14] = PREFIX
    presence = np.frombuffer(rest[0], np.uint8) | 0x07
    return rebuild(version, length, cells | {"remote_address": addresses.tobytes()}, presence.tobytes(), *rest[1:])


@sized
@shared
def bench_where(size: int, share: int, measure: Callable[..., Any]) -> None:
    batch = shaped(size, share)
    found = measure(f"where {share} % of {size}", "wfpsa", size, lambda: batch.where(remote="10.2.0.0/16"), rounds=20)
    assert len(found) == size * share // 100


@sized
@shared
def bench_numpy_bytes(size: int, share: int, measure: Callable[..., Any]) -> None:
    addresses = np.asarray(shaped(size, share)["remote_address"])
    mask = measure(f"where {share} % of {size}", "numpy bytes", size, lambda: (addresses[:, :14] == PREFIX).all(1))
    assert mask.sum() == size * share // 100


@sized
@shared
@pytest.mark.parametrize("result", ["mask", "rows"])
def bench_numpy_words(size: int, share: int, result: str, measure: Callable[..., Any]) -> None:
    """Over a view of two words an address: the mask alone, and the rows that a selection has too."""
    words = np.asarray(shaped(size, share)["remote_address"]).view(np.uint64)
    address = np.frombuffer(PREFIX.tobytes() + bytes(2), np.uint64)[1]
    bits = np.frombuffer(b"\xff" * 6 + bytes(2), np.uint64)[0]

    def mask() -> Any:
        return (words[:, 0] == 0) & ((words[:, 1] & bits) == address)

    def rows() -> Any:
        return np.flatnonzero(mask())

    function = mask if result == "mask" else rows
    found = measure(f"where {share} % of {size}", f"numpy u64 {result}", size, function, rounds=20)
    assert (found.sum() if result == "mask" else len(found)) == size * share // 100


@sized
@shared
@pytest.mark.parametrize("name", ["context_id", "remote_address", "has_outbound"])
def bench_first_touch(size: int, share: int, name: str, measure: Callable[..., Any]) -> None:
    """A column of a selection, the first time it is asked for; in ns of a context of the whole batch."""
    batch = shaped(size, share)

    def select() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (batch.where(remote="10.2.0.0/16"),), {}

    column = measure(
        f"where {share} % of {size}", f"touch {name}", size, lambda found: found[name], setup=select, rounds=20
    )
    assert len(column) == size * share // 100


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

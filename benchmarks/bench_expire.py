"""Expiring contexts in mass: wfpsa's C loop beside ctypes loops, and beside a drain of as many contexts."""

from collections.abc import Callable
from typing import Any

import pytest
from baselines import ctypes_fast, ctypes_naive
from scale import BASELINE_SIZE, SIZES, fresh

from wfpsa import Outcome, testing

FUNCTIONS = testing.functions()

sized = pytest.mark.parametrize("size", SIZES)


@sized
def bench_expire(size: int, measure: Callable[..., Any]) -> None:
    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        with fresh(size) as control:
            engine = control.open()
        return (engine, engine.snapshot()["context_id"]), {}

    def expire(engine: Any, ids: Any) -> Any:
        return engine.expire(ids)

    report = measure(f"expire {size}", "wfpsa", size, expire, setup=setup)
    assert report.counts[Outcome.EXPIRED] == size


@sized
def bench_drain(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    with population(size).open() as engine:
        measure(f"expire {size}", "drain", size, lambda: testing.drain(engine))


@sized
@pytest.mark.parametrize("baseline", [ctypes_fast, ctypes_naive], ids=["ctypes_fast", "ctypes_naive"])
def bench_ctypes(size: int, baseline: Any, measure: Callable[..., Any]) -> None:
    contexts = min(size, BASELINE_SIZE)
    kept = []

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        kept[:] = [fresh(contexts)]
        with kept[0].open() as engine:
            ids = engine.snapshot()["context_id"].tolist()
        return (FUNCTIONS, kept[0].server_name, ids), {}

    codes = measure(f"expire {size}", baseline.__name__.rpartition(".")[2], contexts, baseline.expire, setup=setup)
    assert set(codes) == {0}

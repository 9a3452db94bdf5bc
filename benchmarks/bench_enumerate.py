"""Listing all contexts with all columns: wfpsa beside ctypes, and beside a C loop that reads nothing (the drain)."""

from collections.abc import Callable
from typing import Any

import pytest
from baselines import ctypes_fast, ctypes_naive
from scale import BASELINE_SIZE, SIZES

from wfpsa import engine as facade
from wfpsa import testing

FUNCTIONS = testing.functions()

sized = pytest.mark.parametrize("size", SIZES)


@sized
def bench_snapshot(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    with population(size).open() as engine:
        batch = measure(f"enumerate {size}", "wfpsa", size, engine.snapshot)
    assert len(batch) == size


@sized
def bench_pages(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    with population(size).open() as engine:
        count = measure(f"enumerate {size}", "wfpsa pages", size, lambda: sum(len(page) for page in engine.pages()))
    assert count == size


@sized
def bench_drain(size: int, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]) -> None:
    with population(size).open() as engine:
        count = measure(f"enumerate {size}", "drain", size, lambda: testing.drain(engine))
    assert count == size


@sized
@pytest.mark.parametrize("baseline", [ctypes_fast, ctypes_naive], ids=["ctypes_fast", "ctypes_naive"])
def bench_ctypes(
    size: int, baseline: Any, population: Callable[[int], testing.EmbeddedEngine], measure: Callable[..., Any]
) -> None:
    contexts = min(size, BASELINE_SIZE)
    server = population(contexts).server_name
    rows = measure(
        f"enumerate {size}",
        baseline.__name__.rpartition(".")[2],
        contexts,
        lambda: baseline.enumerate_contexts(FUNCTIONS, server, page_size=facade.DEFAULT_PAGE_SIZE),
    )
    assert len(rows) == contexts

"""Memory: what a listing needs beside what it returns."""

import importlib.util
import os
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "memory.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in a forked child")


def measured(size: int, way: str) -> tuple[int, int]:
    """Growth of the peak and bytes held, in a process of its own."""
    spec = importlib.util.spec_from_file_location("memory", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    growth, held = module.measured(size, way)
    assert isinstance(growth, int) and isinstance(held, int)
    return growth, held


def test_pages_need_no_more_memory_for_four_times_the_contexts() -> None:
    few, _ = measured(100_000, "pages")
    many, _ = measured(400_000, "pages")
    assert many < few + 4_000_000


def test_a_snapshot_is_built_in_at_most_twice_its_size_and_two_pages() -> None:
    growth, held = measured(200_000, "snapshot")
    assert held / 200_000 < 360
    assert growth < 2 * held + 2 * 1024 * 2048 + 4_000_000

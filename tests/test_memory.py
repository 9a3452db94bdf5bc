"""Memory: what a listing needs beside what it returns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "memory.py"

pytestmark = [pytest.mark.fork, pytest.mark.resident]

OS_PAGE = 4096 * 2048
"""A generous bound of what a page of 4096 contexts takes as the engine gives it."""


def measured(size: int) -> dict[str, tuple[float, float]]:
    """By way of listing: growth of the peak and bytes held, measured in processes of their own, whose allocator gives
    large blocks back to the system at once: glibc's keeps more of them the more often threads met each other."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    command = [sys.executable, BENCHMARK, str(size)]
    script = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    rows = [line.split() for line in script.stdout.splitlines()[1:]]
    return {way: (float(growth) * 1e6, float(held) * 1e6) for _, way, growth, held, _ in rows}


def test_pages_need_two_pages_of_the_engine_and_two_decoded_ones_whatever_the_number() -> None:
    for size in (50_000, 400_000):
        growth, page = measured(size)["pages"]
        assert growth < 2 * OS_PAGE + 2 * page + 4e6, size


def test_a_snapshot_is_built_in_at_most_twice_its_size_and_two_pages() -> None:
    growth, held = measured(200_000)["snapshot"]
    assert held / 200_000 < 360
    assert growth < 2 * held + 2 * OS_PAGE + 4e6

"""The budget table: the work of each row done by wfpsa and by other means, at every size."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scale import SIZES

from wfpsa.bench.cases import BASELINE_CONTEXTS, CASES, Case, Stage, missing

_stage: tuple[tuple[str, int], Stage] | None = None


@pytest.fixture(scope="module", autouse=True)
def last_stage_ends() -> Iterator[None]:
    yield
    if _stage is not None:
        _stage[1].close()


def stage(row: str, size: int) -> Stage:
    """What the cases of a row share, until another row or size has its turn."""
    global _stage
    if _stage is None or _stage[0] != (row, size):
        if _stage is not None:
            _stage[1].close()
        _stage = (row, size), Stage()
    return _stage[1]


def chosen(timed: bool) -> list[Any]:
    """Each case at every size, or once where the size says nothing to it."""
    return [
        pytest.param(case, size, id=f"{case.row}, {case.name}-{size}")
        for size in SIZES
        for case in CASES
        if (case.unit != "B") is timed and (case.sized or size == SIZES[0])
    ]


@pytest.mark.parametrize(("case", "size"), chosen(timed=True))
def bench_budget(case: Case, size: int, measure: Callable[..., Any]) -> None:
    if why := missing(case.module):
        pytest.skip(why)
    contexts = min(size, BASELINE_CONTEXTS) if case.slow else size
    work = case.setup(stage(case.row, size), contexts)
    setup = None if work.arguments is tuple else lambda: (work.arguments(), {})
    divided = 1_000_000 if case.unit == "ms" else case.per(contexts)
    row = (case.row, size, case.unit)
    result = measure(f"{case.row}, {size}", case.name, divided, work.function, setup=setup, row=row)
    assert work.is_right(result)


@pytest.mark.parametrize(("case", "size"), chosen(timed=False))
def bench_bytes(case: Case, size: int, file_value: Callable[..., None]) -> None:
    work = case.setup(stage(case.row, size), size)
    file_value(f"{case.row}, {size}", case.name, work.function(), (case.row, size, case.unit))

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
        _stage[1].__exit__()


def stage(row: str, size: int) -> Stage:
    """What the cases of a row share, until another row or size has its turn."""
    global _stage
    if _stage is None or _stage[0] != (row, size):
        if _stage is not None:
            _stage[1].__exit__()
        _stage = (row, size), Stage()
    return _stage[1]


TIMED = [case for case in CASES if case.unit != "B"]
sized = pytest.mark.parametrize("size", SIZES)


def named(case: Case) -> str:
    return f"{case.row}, {case.name}"


@pytest.mark.parametrize("case", TIMED, ids=named)
@sized
def bench_budget(case: Case, size: int, measure: Callable[..., Any]) -> None:
    if why := missing(case.module):
        pytest.skip(why)
    if not case.sized and size != SIZES[0]:
        pytest.skip("the same at every size")
    contexts = min(size, BASELINE_CONTEXTS) if case.slow else size
    work = case.setup(stage(case.row, size), contexts)
    setup = None if work.arguments is tuple else lambda: (work.arguments(), {})
    divided = 1_000_000 if case.unit == "ms" else case.per(contexts)
    row = (case.row, size, case.unit)
    result = measure(f"{case.row}, {size}", case.name, divided, work.function, setup=setup, row=row)
    assert work.is_right(result)


@pytest.mark.parametrize("case", [case for case in CASES if case not in TIMED], ids=named)
@sized
def bench_bytes(case: Case, size: int, file: Callable[..., None]) -> None:
    work = case.setup(stage(case.row, size), size)
    file(f"{case.row}, {size}", case.name, work.function(), (case.row, size, case.unit))

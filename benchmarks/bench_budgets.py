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


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}, {case.name}")
@pytest.mark.parametrize("size", SIZES)
def bench_budget(case: Case, size: int, measure: Callable[..., Any], file: Callable[..., None]) -> None:
    if why := missing(case.module):
        pytest.skip(why)
    contexts = min(size, BASELINE_CONTEXTS) if case.slow else size
    work = case.setup(stage(case.row, size), contexts)
    group = f"{case.row}, {size}"
    if case.unit == "B":
        file(group, case.name, work.function(), case.row)
        return
    setup = None if work.arguments is tuple else lambda: (work.arguments(), {})
    divided = 1_000_000 if case.unit == "ms" else case.per(contexts)
    measure(group, case.name, divided, work.function, setup=setup, row=case.row)

"""What a context costs on this machine, beside what it costs by other means: `run()`, or the command `wfpsa bench`.

Every figure is measured on the embedded engine. What the OS's own call costs is not known and in none of them.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import wfpsa
from wfpsa.bench.budgets import verdicts
from wfpsa.bench.cases import BASELINE_CONTEXTS, CASES, ROWS, Case, Stage, Work, in_unit, missing

__all__ = ["ROWS", "Figure", "Report", "Row", "Verdict", "run"]

LEAST_ROUNDS, MOST_ROUNDS = 3, 25


@dataclass(frozen=True)
class Figure:
    """What one case of a row costs."""

    name: str
    value: float
    """The median of the rounds."""
    unit: str
    """ns a context, B a context, or ms."""
    contexts: int
    """That one round worked on; 0 where it is no work on contexts."""
    rounds: int


@dataclass(frozen=True)
class Verdict:
    """A budget, and what was measured."""

    what: str
    measured: float
    wanted: float
    at_least: bool
    met: bool


@dataclass
class Row:
    """One comparison: the same work done in several ways."""

    row: str
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class Report:
    """What `run` measured, on what."""

    machine: dict[str, str]
    contexts: int
    seconds: float
    """What it took."""
    rows: list[Row]
    skipped: dict[str, str]
    """By case, as row/name: why it was not run."""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and texts, for JSON."""
        return asdict(self)


def _measured(cases: list[tuple[Case, int, Work]], seconds: float) -> list[Figure]:
    """All cases of a row in turns, round by round, so that what disturbs the machine disturbs them all."""
    times: list[list[float]] = [[] for _ in cases]
    figures = {at: work.function() for at, (case, _, work) in enumerate(cases) if case.unit == "B"}
    timed = [at for at in range(len(cases)) if at not in figures]
    end = time.monotonic() + seconds
    for turn in range(MOST_ROUNDS if timed else 0):
        for at in timed:
            times[at].append(cases[at][2].run(time.perf_counter_ns))
        if turn + 1 >= LEAST_ROUNDS and time.monotonic() > end:
            break
    found = []
    for at, (case, contexts, _) in enumerate(cases):
        value: Any = figures[at] if at in figures else in_unit(case, contexts, statistics.median(times[at]))
        done = 0 if case.unit == "ms" else case.per(contexts)
        found.append(Figure(case.name, float(value), case.unit, done, max(1, len(times[at]))))
    return found


def _machine() -> dict[str, str]:
    facts = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count() or "unknown"),
    }
    with suppress(AttributeError):  # a checkout has no version
        facts["wfpsa"] = str(wfpsa.__version__)
    return facts


def run(
    contexts: int = 100_000,
    *,
    rows: Iterable[str] | None = None,
    seconds: float = 3.0,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Measures the rows (names or beginnings of names out of `ROWS`; None: all) and returns the medians.

    Each row takes about `seconds` and three rounds at the least; slow baselines run on 10,000 contexts at most. What
    needs a package that is not installed is left out and named in `skipped`. `progress` is called with each row's name.
    Raises ValueError or TypeError for bad arguments.
    """
    chosen = chosen_rows(contexts, rows, seconds)
    skipped: dict[str, str] = {}
    measured = []
    start = time.monotonic()
    for row in chosen:
        if progress:
            progress(row)
        with Stage() as stage:
            ready = []
            for case in CASES:
                if case.row != row:
                    continue
                if why := missing(case.module):
                    skipped[f"{row}/{case.name}"] = why
                    continue
                number = min(contexts, BASELINE_CONTEXTS) if case.slow else contexts
                work = case.setup(stage, number)
                try:
                    work.run(time.perf_counter_ns)  # which warms up, too
                except Exception as error:
                    if not case.module:
                        raise
                    skipped[f"{row}/{case.name}"] = f"failed: {type(error).__name__}: {error}"
                else:
                    ready.append((case, number, work))
            figures = _measured(ready, seconds)
            del ready
        values = {figure.name: figure.value for figure in figures}
        found = [
            Verdict(budget.what, value, budget.wanted, budget.at_least, budget.met(value))
            for budget, value in verdicts(row, values, contexts)
        ]
        if figures:
            measured.append(Row(row, figures, found))
    return Report(_machine(), contexts, time.monotonic() - start, measured, skipped)


def chosen_rows(contexts: int, rows: Iterable[str] | None, seconds: float) -> list[str]:
    """The rows whose names begin with one of the texts; ValueError or TypeError for what `run` refuses."""
    if isinstance(contexts, bool) or not isinstance(contexts, int):
        raise TypeError(f"contexts must be an int, not {type(contexts).__name__}")
    if not 1000 <= contexts <= 10_000_000:
        raise ValueError(f"contexts must be 1,000 to 10,000,000, not {contexts}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
    if not 0 <= seconds <= 600:
        raise ValueError(f"seconds must be 0 to 600, not {seconds}")
    if rows is None:
        return list(ROWS)
    if isinstance(rows, str):
        raise TypeError(f"rows must be several names, such as [{rows!r}], not a str")
    wanted = list(rows)
    for text in wanted:
        if not any(row.startswith(text) for row in ROWS):
            raise ValueError(f"rows: {text!r} is the beginning of no row; there are: {'; '.join(ROWS)}")
    return [row for row in ROWS if any(row.startswith(text) for text in wanted)]

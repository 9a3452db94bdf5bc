"""What is wanted of the measured figures: ratios within one run, and a few absolute times."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

LARGE = 100_000
"""Contexts from which the cost of a call by itself no longer shows."""

Figures = Mapping[str, float]
"""By the name of the case: what a context costs, all in one row."""


class Budget(NamedTuple):
    """One thing wanted of a row."""

    row: str
    what: str
    value: Callable[[Figures], float]
    wanted: float
    at_least: bool = False
    contexts: int = 0
    """With fewer it says nothing: what a call costs by itself would be most of it."""

    def met(self, measured: float) -> bool:
        """Whether a measured value is what is wanted."""
        return measured >= self.wanted if self.at_least else measured <= self.wanted


def judged(what: str, measured: float, wanted: float, at_least: bool, met: bool) -> str:
    """A line that says what was wanted, what was measured, and whether that will do."""
    bound = f"{'at least' if at_least else 'at most'} {wanted:g}"
    return f"  {what:32}{measured:16,.2f}{bound:>24}  {'met' if met else 'NOT MET'}"


def titled(row: str, unit: str, beside: str) -> str:
    """The line above a row's figures."""
    return f"{row:34}{unit if unit == 'ms' else f'{unit} a context':>16}{': ' + beside:>24}"


def _ratio(row: str, over: str, under: str, wanted: float, *, at_least: bool = False, contexts: int = 0) -> Budget:
    what = f"{over} : {under}"
    return Budget(row, what, lambda figures: figures[over] / figures[under], wanted, at_least, contexts)


def _figure(row: str, name: str, wanted: float, unit: str, *, contexts: int = 0) -> Budget:
    return Budget(row, f"{name}, {unit}", lambda figures: figures[name], wanted, contexts=contexts)


BUDGETS = (
    *(
        budget
        for fields, fast, naive in (("core", 40, 80), ("all", 60, 100))
        for version, of in ((1, ""), (0, " (Enum1)"))
        for budget in (
            _ratio(f"decode {fields}, Enum{version}", f"ctypes_fast{of}", "wfpsa", fast, at_least=True),
            _ratio(f"decode {fields}, Enum{version}", f"ctypes_naive{of}", "wfpsa", naive, at_least=True),
        )
    ),
    Budget(
        "list, one thread",
        "wfpsa : drain + decode",
        lambda figures: figures["wfpsa"] / (figures["drain"] + figures["decode"]),
        1.10,
        contexts=LARGE,
    ),
    _ratio("list, pipelined", "wfpsa", "drain", 1.05, contexts=LARGE),
    _figure("objects", "list(batch)", 50, "ns"),
    _figure("objects", "u64 attribute", 60, "ns"),
    _figure("objects", "enum attribute", 100, "ns"),
    _figure("objects", "address attribute", 1500, "ns"),
    _figure("memory of a context", "core", 96, "B"),
    _figure("memory of a context", "all", 360, "B"),
    _figure("expire, no-op engine", "wfpsa", 10, "ns"),
    _ratio("expire, no-op engine", "ctypes_fast", "wfpsa", 40, at_least=True, contexts=LARGE),
    _ratio("expire, 100 us outside the lock", "1 session", "16 sessions", 12, at_least=True),
    _ratio("expire, 100 us inside the lock", "16 sessions", "1 session", 1.10),
    *(
        budget
        for share in (1, 12, 90)
        for budget in (
            _figure(f"where, {share} % selected", "wfpsa", 4, "ns", contexts=LARGE),  # 4 ms a million
            _ratio(f"where, {share} % selected", "numpy bytes", "wfpsa", 10, at_least=True, contexts=LARGE),
            _ratio(f"where, {share} % selected", "wfpsa", "numpy u64 mask", 1, contexts=LARGE),
        )
    ),
    _figure("diff, same order", "wfpsa", 60, "ns"),
    _figure("diff, shuffled order", "wfpsa", 120, "ns"),
    *(_ratio(f"diff, {order} order", "numpy", "wfpsa", 2, at_least=True) for order in ("same", "shuffled")),
    Budget(
        "import",
        "wfpsa over bare Python, ms",
        lambda figures: figures["import wfpsa"] - figures["bare Python"],
        20,
    ),
)


def verdicts(row: str, figures: Figures, contexts: int) -> list[tuple[Budget, float]]:
    """What is wanted of a row and what was measured, where every figure that it takes is there."""
    found = []
    for budget in BUDGETS:
        if budget.row == row and budget.contexts <= contexts:
            try:
                found.append((budget, budget.value(figures)))
            except KeyError:  # of a case that was left out
                continue
    return found

"""What the benchmarks share: seeded engines, one way to measure, and the tables at the end."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from figures import Figure

from wfpsa import testing
from wfpsa.bench.budgets import judged, titled, verdicts
from wfpsa.bench.cases import BASELINE_CONTEXTS, seeded, unaudited

_results: dict[str, dict[str, float]] = {}
_rows: dict[str, tuple[str, int, str]] = {}
"""By group: its row of the budget table, the size and the unit, where it is one."""
_figures: list[tuple[Figure, float]] = []


@pytest.fixture(scope="session", autouse=True)
def nothing_is_audited() -> Iterator[None]:
    with unaudited():
        yield


@pytest.fixture(scope="session")
def population() -> Iterator[Callable[[int], testing.EmbeddedEngine]]:
    """An embedded engine with that many contexts; the latest two stay."""
    kept: dict[int, testing.EmbeddedEngine] = {}

    def of_size(size: int) -> testing.EmbeddedEngine:
        if size not in kept:
            while len(kept) > 1:
                kept.pop(next(iter(kept))).close()
            kept[size] = seeded(size)
        return kept[size]

    yield of_size
    for control in kept.values():
        control.close()


@pytest.fixture
def file_figure() -> Callable[[Figure, float], None]:
    """Files a value, in the figure's own measure, for the table of figures."""
    return lambda figure, value: _figures.append((figure, value))


@pytest.fixture
def file_value() -> Callable[..., None]:
    """Files a value of a group under a name."""

    def filed(group: str, name: str, value: Any, row: tuple[str, int, str]) -> None:
        _rows[group] = row
        _results.setdefault(group, {})[name] = float(value)

    return filed


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., Any]:
    """Runs a function some rounds and files its median, in ns a context: under its group, or as that figure."""

    def run(
        group: str,
        name: str,
        contexts: int,
        function: Callable[..., Any],
        *,
        setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
        rounds: int | None = None,
        figure: Figure | None = None,
        row: tuple[str, int, str] | None = None,
    ) -> Any:
        benchmark.group = group
        benchmark.name = name
        rounds = rounds or (30 if contexts <= 1_000 else 10 if contexts <= 10_000 else 5)
        result = benchmark.pedantic(function, setup=setup, rounds=rounds, warmup_rounds=0 if setup else 1)
        if benchmark.stats is not None:
            ns = benchmark.stats.stats.median * 1e9 / contexts
            benchmark.extra_info["ns_per_context"] = ns
            if figure is not None:
                _figures.append((figure, ns))
            else:
                _results.setdefault(group, {})[name] = ns
                if row is not None:
                    _rows[group] = row
        return result

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a measurement: medians in ns a context, and what each costs relative to wfpsa and to the drain; then the
    figures, each beside what is wanted of it and beside the same at the smallest size."""
    for group, results in _results.items():
        terminalreporter.section(group)
        ours = results.get("wfpsa")
        drain = results.get("drain")
        row, size, unit = _rows.get(group, ("", 0, "ns"))
        terminalreporter.write_line(titled("", unit, "wfpsa") + f"{': drain':>12}")
        for name, ns in sorted(results.items(), key=lambda item: item[1]):
            to_ours = f"{ns / ours:.2f}" if ours else "-"
            to_drain = f"{ns / drain:.2f}" if drain else "-"
            terminalreporter.write_line(f"  {name:32}{ns:16,.1f}{to_ours:>24}{to_drain:>12}")
        for budget, value in verdicts(row, results, size):
            line = judged(budget.what, value, budget.wanted, budget.at_least, budget.met(value))
            terminalreporter.write_line(line)
    _write_growth(terminalreporter)
    if _results:
        terminalreporter.write_line("")
        terminalreporter.write_line(
            f"Medians, measured on the embedded engine; slow baselines at {BASELINE_CONTEXTS:,} contexts."
        )
    if _figures:
        terminalreporter.section("the embedded engine")
        terminalreporter.write_line(f"{'what':40}{'contexts':>10}{'measured':>12}{': smallest':>12}   wanted")
        smallest: dict[str, float] = {}
        for figure, value in _figures:
            ratio = value / smallest.setdefault(figure.what, value)
            shown = f"{ratio:.2f}" if figure.scales else "-"
            line = f"{figure.what:40}{figure.contexts:>10,}{figure.unit(value):>12}{shown:>12}   {figure.wanted}"
            terminalreporter.write_line(line)


def _write_growth(terminalreporter: pytest.TerminalReporter) -> None:
    """What a context costs at each size, one line a case of the budget table: the same where the cost is linear."""
    costs: dict[tuple[str, str], dict[int, float]] = {}
    for group, (row, size, _) in _rows.items():
        for name, value in _results[group].items():
            costs.setdefault((row, name), {})[size] = value
    sizes = sorted({size for _, size, _ in _rows.values()})
    if len(sizes) < 2:
        return
    terminalreporter.section("growth: what a context costs at each size (import: ms)")
    terminalreporter.write_line(f"{'':56}" + "".join(f"{size:>14,}" for size in sizes))
    for (row, name), by_size in costs.items():
        cells = "".join(f"{by_size[size]:14,.1f}" if size in by_size else f"{'-':>14}" for size in sizes)
        terminalreporter.write_line(f"{row + ': ' + name:56}{cells}")

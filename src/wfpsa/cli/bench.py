"""The verb that measures on this machine what a context costs, beside what it costs by other means."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from wfpsa.cli.common import argument_faults, notice, progress
from wfpsa.cli.output import FactsFormat, write, write_text
from wfpsa.cli.show import FactsFormatOption

if TYPE_CHECKING:
    from wfpsa import bench as benchmarks


def bench(
    contexts: Annotated[int, typer.Option("--contexts", help="How many contexts to measure with.")] = 100_000,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="TEXT", help="Only rows whose names begin with this; may be given again."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="About how long each row takes.")] = 3.0,
    format: FactsFormatOption = FactsFormat.TABLE,
) -> int:
    """Measure what a context costs here, beside ctypes, cffi, win32more and NumPy as far as they are installed.

    It works on engines in memory and asks no engine of this machine; what the OS's own calls cost is in none of the
    figures. All rows together take under two minutes at the default size.
    """
    from wfpsa import bench as benchmarks

    with argument_faults():
        benchmarks.chosen_rows(contexts, row, seconds)
    with progress("measuring") as say:
        report = benchmarks.run(contexts, rows=row, seconds=seconds, progress=lambda name: say(f"measuring {name}"))
    if format is FactsFormat.JSON:
        write(json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        return 0
    for name, why in report.skipped.items():
        notice(f"left out: {name} ({why})", "yellow")
    write_text("\n".join(_lines(report)) + "\n")
    return 0


def _lines(report: "benchmarks.Report") -> list[str]:
    from wfpsa.bench.budgets import judged, titled
    from wfpsa.bench.cases import BASELINE_CONTEXTS

    slow = min(report.contexts, BASELINE_CONTEXTS)
    lines = [
        ", ".join(f"{name} {value}" for name, value in report.machine.items()),
        f"Medians, measured on the embedded engine with {report.contexts:,} contexts; slow baselines with {slow:,}.",
    ]
    for row in report.rows:
        first = row.figures[0]
        lines += ["", titled(row.row, first.unit, first.name)]
        for figure in row.figures:
            lines.append(f"  {figure.name:32}{figure.value:16,.1f}{figure.value / first.value:24.2f}")
        lines += [judged(each.what, each.measured, each.wanted, each.at_least, each.met) for each in row.verdicts]
    return lines

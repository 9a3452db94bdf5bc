"""The verb that measures on this machine what a context costs, beside what it costs by other means."""

import json
from typing import Annotated

import typer

from wfpsa import bench as benchmarks
from wfpsa.cli.common import UsageFault, argument_faults, notice, progress
from wfpsa.cli.output import FactsFormat, write, write_text
from wfpsa.cli.show import FactsFormatOption


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
    try:
        with argument_faults(), progress("measuring"):
            report = benchmarks.run(contexts, rows=row, seconds=seconds)
    except TypeError as error:
        raise UsageFault(str(error)) from error
    if format is FactsFormat.JSON:
        write(json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        return 0
    for name, why in report.skipped.items():
        notice(f"left out: {name} ({why})", "yellow")
    write_text("\n".join(_lines(report)) + "\n")
    return 0


def _lines(report: benchmarks.Report) -> list[str]:
    lines = [
        ", ".join(f"{name} {value}" for name, value in report.machine.items()),
        f"Medians, measured on the embedded engine with {report.contexts:,} contexts; slow baselines with 10,000.",
    ]
    for row in report.rows:
        first = row.figures[0]
        unit = first.unit if first.unit == "ms" else f"{first.unit} a context"
        lines += ["", f"{row.row:34}{unit:>16}{': ' + first.name:>24}"]
        for figure in row.figures:
            lines.append(f"  {figure.name:32}{figure.value:16,.1f}{figure.value / first.value:24.2f}")
        for verdict in row.verdicts:
            bound = "at least" if verdict.at_least else "at most"
            met = "met" if verdict.met else "NOT MET"
            lines.append(f"  {verdict.what:32}{verdict.measured:16,.2f}{f'{bound} {verdict.wanted:g}':>24}  {met}")
    return lines

"""The verbs that show contexts: list and get."""

from pathlib import Path
from typing import Annotated

import typer

import wfpsa
from wfpsa.cli import output
from wfpsa.cli.common import (
    EngineOption,
    ExitCode,
    UsageFault,
    argument_faults,
    empty_batch,
    notice,
    opened,
    pages,
    parse_id,
    plural,
    progress,
    snapshot,
    target_or_fallback,
)

LocalOption = Annotated[
    str | None,
    typer.Option("--local", metavar="SUBNET", help="Only contexts with a local address in it, as in 10.2.0.0/16."),
]
RemoteOption = Annotated[
    str | None,
    typer.Option("--remote", metavar="SUBNET", help="Only contexts with a remote address in it."),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="SQL",
        help="Only contexts for which this DuckDB expression is true. It sees every column, addresses and names of "
        "enumerations as text: \"remote_address LIKE '10.2.%' AND lifetime_seconds_out < 900\".",
    ),
]
FactsFormatOption = Annotated[output.FactsFormat, typer.Option("--format", help="How to write the result.")]

_PAGE = 1024


def list_contexts(
    context: typer.Context,
    local: LocalOption = None,
    remote: RemoteOption = None,
    where: WhereOption = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="At most that many; without --where no more are asked for."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            help='Column names separated by commas, or "all". Without it a table has the usual ones, as many as fit '
            "the terminal, and a file format has all.",
        ),
    ] = None,
    format: Annotated[
        output.Format | None,
        typer.Option("--format", help="Without it the suffix of -o decides, and else it is a table."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there: beside, then renamed; - is stdout."),
    ] = None,
    engine: EngineOption = None,
) -> int:
    """List SA contexts.

    Absent values are null in JSON and Parquet, empty in CSV and - in a table.
    """
    file = None if file == Path("-") else file
    chosen = output.chosen_format(format, file)
    empty = empty_batch()
    names = output.chosen_columns(columns, chosen, empty.columns)
    if where is not None:
        from wfpsa.cli.where import check, matching

        check(where)
    target = target_or_fallback(context, engine)
    with opened(target) as open_engine:
        if limit is None or where is not None:
            batches = [snapshot(open_engine, local, remote)]
        else:
            batches = _first(open_engine, local, remote, limit) or [empty]
    if where is not None:
        batches = [matching(batches[0], where, limit)]
    output.emit(batches, names, chosen, file)
    count = sum(map(len, batches))
    if chosen is output.Format.TABLE or file is not None:
        limited = ", as many as --limit allows" if count == limit else ""
        notice(f"{plural(count, 'context')} from {target.text}{limited}")
    return ExitCode.DONE if count else ExitCode.NOTHING


def _first(engine: wfpsa.Engine, local: str | None, remote: str | None, limit: int) -> list[wfpsa.SaBatch]:
    """The first `limit` contexts in the batches they came in; no page after the last needed one is asked for."""
    found: list[wfpsa.SaBatch] = []
    missing = limit
    with argument_faults(), progress("enumerating contexts"), pages(engine, local, remote, min(limit, _PAGE)) as each:
        while missing and (page := next(each, None)) is not None:
            if part := page[:missing]:
                found.append(part)
                missing -= len(part)
    return found


def get(
    context: typer.Context,
    context_id: Annotated[str, typer.Argument(metavar="ID", help="Decimal, or 0x and hexadecimal.")],
    format: FactsFormatOption = output.FactsFormat.TABLE,
    engine: EngineOption = None,
) -> int:
    """Show one SA context; a table leaves out what is absent."""
    try:
        wanted = parse_id(context_id)
    except ValueError as error:
        raise UsageFault(str(error)) from error
    target = target_or_fallback(context, engine)
    with opened(target) as open_engine:
        try:
            found = open_engine.get(wanted)
        except wfpsa.NotFound as error:
            notice(f"{target.text} has no context with the id {wanted} (any more): {error}", "red")
            return ExitCode.NOTHING
    from wfpsa.cli.formats import context_facts

    facts = context_facts(found, empty_batch())
    if format is output.FactsFormat.TABLE:
        facts = {name: value for name, value in facts.items() if value is not None}
    output.write_facts(facts, format)
    return ExitCode.DONE

"""The SQL predicate of --where: one expression over the readable columns, evaluated by DuckDB behind closed doors."""

import duckdb

import wfpsa
from wfpsa.cli.common import UsageFault, empty_batch
from wfpsa.cli.duck import execute, faults

_CLOSED = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
"""No files, no network, no extensions, no Python variables, and no way to change that."""


def check(predicate: str) -> None:
    """Raises UsageFault unless that is one expression over columns that exist; asks no engine."""
    matching(empty_batch(), predicate)


def matching(batch: wfpsa.SaBatch, predicate: str, limit: int | None = None) -> wfpsa.SaBatch:
    """The contexts for which the predicate is true, in their order; at most `limit`."""
    with faults("--where", UsageFault), duckdb.connect(":memory:", config=dict(_CLOSED)) as connection:
        _check_expression(connection, predicate)
        connection.register("contexts", batch.arrow(addresses="text", enums="name"))
        rows = execute(connection, _selection(predicate, limit))
    return batch.take([row for (row,) in rows])


def _selection(predicate: str, limit: int | None) -> str:
    # The predicate has lines of its own: a comment in it ends before our parenthesis.
    return (
        "SELECT position FROM (SELECT row_number() OVER () - 1 AS position, * FROM contexts) AS contexts WHERE (\n"
        f"{predicate}\n) ORDER BY position" + (f" LIMIT {limit}" if limit is not None else "")
    )


def _check_expression(connection: duckdb.DuckDBPyConnection, predicate: str) -> None:
    """Raises unless the predicate parses alone, so that its parentheses pair, and inside a pair of ours.

    What does both cannot end our parenthesis ("1) OR (1" does not parse alone) nor be more than an expression
    ("1 FROM x" and "1 LIMIT 1" do not parse inside it).
    """
    if not predicate.isprintable() and any(0xD800 <= ord(c) <= 0xDFFF for c in predicate):
        raise UsageFault("--where is not text: it has bytes that are not of this terminal's encoding")
    for query in (f"SELECT\n{predicate}\n", f"SELECT 1 FROM contexts WHERE (\n{predicate}\n)"):
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageFault("--where takes one SQL expression, not several statements")

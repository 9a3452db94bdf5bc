"""The file formats, as DuckDB's COPY writes them from the readable Arrow stream of batches."""

import contextlib
import tempfile
from collections.abc import Generator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Self

import duckdb

import wfpsa
from wfpsa.cli.common import Failure
from wfpsa.cli.duck import execute, faults

ROWS_A_PART = 16_384
_BYTES_A_PART = 1 << 20

Parts = Generator[bytes, None, None]


class _Copier:
    """Copies contexts into a file of its own; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        self._select = "SELECT {} FROM contexts".format(", ".join(f'"{name}"' for name in names))
        self._folder = tempfile.TemporaryDirectory(prefix="wfpsa-")
        self.path = Path(self._folder.name, "part")
        self._connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def _execute(self, statement: str, batch: wfpsa.SaBatch | None = None) -> None:
        """Executes the statement, which knows the batch as "contexts"."""
        with faults("cannot write the contexts", Failure):
            if batch is not None:
                self._connection.register("contexts", batch.arrow(addresses="text", enums="name"))
            execute(self._connection, statement)

    def _copy(self, query: str, options: str) -> str:
        path = str(self.path).replace("'", "''")
        return f"COPY ({query}) TO '{path}' ({options})"

    def pieces(self, batches: Sequence[wfpsa.SaBatch], options: str) -> Parts:
        """What COPY writes for each piece of the batches, so that neither memory nor disk grows with their number."""
        for batch in batches:
            for at in range(0, len(batch), ROWS_A_PART):
                self._execute(self._copy(self._select, options), batch[at : at + ROWS_A_PART])
                yield self.path.read_bytes()

    def whole(self, batches: Sequence[wfpsa.SaBatch], options: str) -> None:
        """Makes one file of all batches."""
        if len(batches) == 1:
            self._execute(self._copy(self._select, options), batches[0])
            return
        for at, batch in enumerate(batches):
            self._execute(("INSERT INTO whole " if at else "CREATE TABLE whole AS ") + self._select, batch)
        self._execute(self._copy("FROM whole", options))


def jsonl(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Parts:
    """One JSON object a line."""
    with _Copier(names) as copier:
        yield from copier.pieces(batches, "FORMAT json, ARRAY false")


def json(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Parts:
    """One array of the lines of JSONL: a line break is never inside a JSON text."""
    before = b"[\n"
    with contextlib.closing(jsonl(batches, names)) as parts:
        for part in parts:
            yield before + part.rstrip(b"\n").replace(b"\n", b",\n")
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def csv(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Parts:
    """A line of names and one a context; null is nothing, an empty text two quotes."""
    yield ",".join(names).encode() + b"\n"
    with _Copier(names) as copier:
        yield from copier.pieces(batches, "FORMAT csv, HEADER false")


def parquet(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Parts:
    """One Parquet file."""
    with _Copier(names) as copier:
        copier.whole(batches, "FORMAT parquet")
        with open(copier.path, "rb") as file:
            while part := file.read(_BYTES_A_PART):
                yield part


def context_facts(context: wfpsa.SaContext, empty: wfpsa.SaBatch) -> dict[str, object]:
    """All columns of a context as the other formats have them: texts, numbers, booleans, None."""
    with faults("cannot read the context", Failure), duckdb.connect(":memory:") as connection:
        connection.register("contexts", empty.arrow(addresses="text", enums="name"))
        types = execute(connection, "DESCRIBE contexts")
    return {name: _readable(getattr(context, name), kind) for name, kind, *_ in types}


def _readable(value: object, kind: str) -> object:
    """The value; as text where its column is one, which holds the numbers of enumerations without a name too."""
    if value is None or kind != "VARCHAR":
        return value
    return value.name if isinstance(value, IntEnum) else str(value)

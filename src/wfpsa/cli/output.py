"""How results are written: tables for people, file formats through DuckDB, to stdout or to a file beside and renamed."""

import contextlib
import difflib
import errno
import json
import operator
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum, StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import wfpsa
from wfpsa.cli.common import Failure, UsageFault, console, is_colourful, notice, plural


class Format(StrEnum):
    """How contexts can be written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class FactsFormat(StrEnum):
    """How a single result can be written."""

    TABLE = "table"
    JSON = "json"


TABLE_COLUMNS = (
    "context_id",
    "local_address",
    "remote_address",
    "traffic_type",
    "has_inbound",
    "has_outbound",
    "transform_out",
    "cipher_config_out",
    "auth_config_out",
    "spi_in",
    "spi_out",
    "lifetime_seconds_out",
)
"""The columns of a table where none are named, the dispensable ones last."""

_NEVER_HIDDEN = 3
_ROWS_MEASURED = 10_000
_ROWS_A_PART = 16_384
_BYTES_A_PART = 1 << 20

_SUFFIXES = {
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
}


# ---- what is asked for ----


def chosen_format(asked: Format | None, output: Path | None) -> Format:
    """The format asked for, or the one that the file's suffix means, or a table."""
    chosen = asked or (_SUFFIXES.get(output.suffix.lower()) if output else None) or Format.TABLE
    if chosen is Format.PARQUET and output is None and sys.stdout.isatty():
        raise UsageFault("parquet is binary and would garble the terminal: name a file with -o")
    return chosen


def chosen_columns(asked: str | None, chosen: Format, known: Sequence[str]) -> tuple[str, ...]:
    """The columns of --columns; without it the ones that fit a table, and all in the file formats."""
    if asked is None:
        return TABLE_COLUMNS if chosen is Format.TABLE else tuple(known)
    if asked.strip() == "all":
        return tuple(known)
    names = tuple(name.strip() for name in asked.split(","))
    for name in names:
        if name not in known:
            raise UsageFault(f"--columns: {_unknown_column(name, known)}")
        if names.count(name) > 1:
            raise UsageFault(f"--columns: {name!r} is named twice")
    return names


def _unknown_column(name: str, known: Sequence[str]) -> str:
    if not name:
        return "a name is missing; give names separated by commas, or all"
    near = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(f"{name}_out", known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "wfpsa list --limit 1 --format json shows all names"
    return f"unknown column {name!r}; {hint}"


# ---- where it goes ----


def write(data: bytes) -> bool:
    """Writes to stdout; False where the reader has gone (`| head`), which is no error."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        _silence_stdout()
        # A closed pipe is EINVAL on Windows.
        if error.errno == errno.EPIPE or (sys.platform == "win32" and error.errno == errno.EINVAL):
            return False
        raise Failure(f"cannot write to standard output: {error.strerror}") from error
    return True


def write_text(text: str) -> bool:
    """Writes text to stdout in its encoding, what that lacks as \\u escapes."""
    return write(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def _silence_stdout() -> None:
    """What is still buffered must not fail once more when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file written beside the named one, which it replaces at the end of the block; on an error nothing changes."""
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():  # a device or a pipe is written to; a folder refuses
            with open(target, "wb") as file:
                yield file
            return
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(beside, "xb") as file:
                yield file
            if target.exists():
                shutil.copymode(target, beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except wfpsa.WfpError:
        raise
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}") from error


def emit(batches: Sequence[wfpsa.SaBatch], names: Sequence[str], chosen: Format, output: Path | None) -> None:
    """Writes those columns of the contexts, to stdout where no file is named."""
    if chosen is Format.TABLE:
        _emit_table(batches, names, output)
        return
    with contextlib.closing(_PARTS[chosen](batches, names)) as parts:
        _send(parts, output)


def _send(parts: Iterable[bytes], output: Path | None) -> None:
    if output is None:
        for part in parts:
            if not write(part):
                return
        return
    with _replaced(output) as file:
        for part in parts:
            file.write(part)


# ---- file formats ----


class _Copier:
    """Copies batches into a file of its own through DuckDB's COPY; a context manager."""

    def __init__(self, names: Sequence[str]) -> None:
        import duckdb

        self._columns = ", ".join(f'"{name}"' for name in names)
        self._error = duckdb.Error
        self._folder = tempfile.TemporaryDirectory(prefix="wfpsa-")
        self.path = Path(self._folder.name, "part")
        self._connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})

    def __enter__(self) -> "_Copier":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    def _execute(self, statement: str) -> None:
        from wfpsa.cli.where import interruptible

        try:
            with interruptible():
                self._connection.execute(statement)
        except self._error as error:
            raise Failure(f"cannot write the contexts: {error}") from error

    def _each(self, batches: Iterable[wfpsa.SaBatch], statement: Callable[[str], str]) -> Iterator[None]:
        """Executes the statement made from "SELECT ..." for each of the batches."""
        for batch in batches:
            self._connection.register("contexts", batch.arrow(addresses="text", enums="name"))
            try:
                self._execute(statement(f"SELECT {self._columns} FROM contexts"))
            finally:
                self._connection.unregister("contexts")
            yield

    def _copy(self, options: str) -> Callable[[str], str]:
        path = str(self.path).replace("'", "''")
        return lambda select: f"COPY ({select}) TO '{path}' ({options})"

    def pieces(self, batches: Iterable[wfpsa.SaBatch], options: str) -> Iterator[bytes]:
        """What COPY writes for each piece of the batches, so that neither memory nor disk grows with their number."""
        slices = (batch[at : at + _ROWS_A_PART] for batch in batches for at in range(0, len(batch), _ROWS_A_PART))
        for _ in self._each(slices, self._copy(options)):
            yield self.path.read_bytes()

    def whole(self, batches: Sequence[wfpsa.SaBatch], options: str) -> None:
        """Makes one file of all batches."""
        if len(batches) == 1:
            for _ in self._each(batches, self._copy(options)):
                pass
            return
        for _ in self._each(batches[:1], lambda select: f"CREATE TABLE whole AS {select}"):
            pass
        for _ in self._each(batches[1:], lambda select: f"INSERT INTO whole {select}"):
            pass
        self._execute(self._copy(options)("FROM whole"))


def _jsonl_parts(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Generator[bytes, None, None]:
    with _Copier(names) as copier:
        yield from copier.pieces(batches, "FORMAT json, ARRAY false")


def _json_parts(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Generator[bytes, None, None]:
    """One array of the lines of JSONL: a line break is never inside a JSON text."""
    before = b"[\n"
    with contextlib.closing(_jsonl_parts(batches, names)) as parts:
        for part in parts:
            yield before + part.rstrip(b"\n").replace(b"\n", b",\n")
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _csv_parts(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Generator[bytes, None, None]:
    yield ",".join(names).encode() + b"\n"
    with _Copier(names) as copier:
        yield from copier.pieces(batches, "FORMAT csv, HEADER false")


def _parquet_parts(batches: Sequence[wfpsa.SaBatch], names: Sequence[str]) -> Generator[bytes, None, None]:
    with _Copier(names) as copier:
        copier.whole(batches, "FORMAT parquet")
        with open(copier.path, "rb") as file:
            while part := file.read(_BYTES_A_PART):
                yield part


_PARTS = {
    Format.JSON: _json_parts,
    Format.JSONL: _jsonl_parts,
    Format.CSV: _csv_parts,
    Format.PARQUET: _parquet_parts,
}


# ---- text for people ----


def printable(text: str) -> str:
    """The text with everything that could move a cursor or hide something as an escape: peers choose their names."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(value: object) -> str:
    """A value in a table: yes and no, names of enumerations, addresses as text, "-" where absent."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, IntEnum):
        return value.name
    return printable(str(value))


def _width(text: str) -> int:
    """The columns of a terminal that the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int, right: bool) -> str:
    padding = " " * (width - _width(text))
    return padding + text if right else text + padding


class _Table:
    """A table whose columns are as wide as their first rows ask for, so that it can be written as it is made."""

    def __init__(self, batches: Iterable[wfpsa.SaBatch], names: Sequence[str], stacked: bool) -> None:
        values = operator.attrgetter(*names)
        contexts = (context for batch in batches for context in batch)
        rows: Iterator[tuple[Any, ...]] = (values(c) if len(names) > 1 else (values(c),) for c in contexts)
        first = list(islice(rows, _ROWS_MEASURED))
        self._rows = chain(first, rows)
        self._titles = [_stacked(name) if stacked else [name] for name in names]
        self._right = [_is_numeric(row[at] for row in first) for at in range(len(names))]
        self._widths = [max(map(len, title)) for title in self._titles]
        for row in first:
            self._widths = [max(width, _width(cell(value))) for width, value in zip(self._widths, row, strict=True)]

    def fit(self, room: int) -> int:
        """Hides columns at the end until the rest is no wider than that; returns how many it hid."""
        shown = len(self._widths)
        while shown > _NEVER_HIDDEN and sum(self._widths[:shown]) + 2 * (shown - 1) > room:
            shown -= 1
        hidden = len(self._widths) - shown
        self._widths = self._widths[:shown]
        return hidden

    def _line(self, cells: Iterable[str]) -> str:
        columns = zip(cells, self._widths, self._right, strict=False)
        return "  ".join(_padded(text, width, right) for text, width, right in columns).rstrip()

    @property
    def header(self) -> str:
        """The names of the columns, the words of each one below the other where stacked."""
        height = max(map(len, self._titles[: len(self._widths)]))
        lines = zip(*([""] * (height - len(title)) + title for title in self._titles), strict=True)
        return "\n".join(map(self._line, lines))

    def lines(self) -> Iterator[str]:
        """The rows."""
        for row in self._rows:
            yield self._line(map(cell, row))


def _stacked(name: str) -> list[str]:
    """A column's name in lines that end in the underscore: has_, inbound."""
    *words, last = name.split("_")
    return [*(f"{word}_" for word in words), last]


def _is_numeric(values: Iterable[object]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(type(value) is int for value in present)


def _emit_table(batches: Sequence[wfpsa.SaBatch], names: Sequence[str], output: Path | None) -> None:
    on_terminal = output is None and sys.stdout.isatty()
    table = _Table(batches, names, on_terminal)
    if on_terminal and tuple(names) == TABLE_COLUMNS:
        room = shutil.get_terminal_size().columns
        if hidden := table.fit(room):
            notice(f"{plural(hidden, 'column')} did not fit in {room} characters; --columns names what you need")
    lines = table.lines()
    parts = ("".join(f"{line}\n" for line in [line, *islice(lines, 999)]) for line in lines)
    if output is not None:
        _send((text.encode() for text in chain([table.header + "\n"], parts)), output)
        return
    if is_colourful(sys.stdout):
        console(sys.stdout).print(table.header, style="bold")
    elif not write_text(table.header + "\n"):
        return
    for part in parts:
        if not write_text(part):
            return


# ---- single results ----


def write_facts(facts: Mapping[str, object], chosen: FactsFormat) -> None:
    """Writes names and values: a line each, or one JSON object."""
    if chosen is FactsFormat.JSON:
        write(json.dumps(facts, ensure_ascii=False, indent=2).encode() + b"\n")
        return
    width = max((len(name) for name in facts), default=0)
    write_text("".join(f"{name:{width}}  {_fact(value)}\n".rstrip(" ") for name, value in facts.items()))


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{cell(name)} ({cell(of)})" for name, of in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or "-"
    return cell(value)


def context_facts(context: wfpsa.SaContext, empty: wfpsa.SaBatch) -> dict[str, object]:
    """All columns of a context as the readable Arrow stream has them: texts, numbers, booleans, None."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.register("contexts", empty.arrow(addresses="text", enums="name"))
        types = connection.execute("DESCRIBE contexts").fetchall()
    return {name: _readable(getattr(context, name), kind) for name, kind, *_ in types}


def _readable(value: object, kind: str) -> object:
    """The value; as text where its column is one, which holds the numbers of enumerations without a name too."""
    if value is None or kind != "VARCHAR":
        return value
    return value.name if isinstance(value, IntEnum) else str(value)

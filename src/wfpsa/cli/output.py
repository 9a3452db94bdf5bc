"""How results are written: which format and columns, tables for people, to stdout or to a file."""

import contextlib
import difflib
import errno
import json
import operator
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    from wfpsa.cli import formats

    makers = {
        Format.JSON: formats.json,
        Format.JSONL: formats.jsonl,
        Format.CSV: formats.csv,
        Format.PARQUET: formats.parquet,
    }
    with contextlib.closing(makers[chosen](batches, names)) as parts:
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
        del self._widths[shown:], self._titles[shown:]
        return hidden

    def _line(self, cells: Iterable[str]) -> str:
        columns = zip(cells, self._widths, self._right, strict=False)
        return "  ".join(_padded(text, width, right) for text, width, right in columns).rstrip()

    @property
    def header(self) -> str:
        """The names of the columns, the words of each one below the other where stacked."""
        height = max(map(len, self._titles))
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
        write(json.dumps(facts, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n")
        return
    width = max((len(name) for name in facts), default=0)
    write_text("".join(f"{name:{width}}  {_fact(value)}\n" for name, value in facts.items()))


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{cell(name)} ({cell(of)})" for name, of in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or "-"
    return cell(value)

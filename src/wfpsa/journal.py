"""Journals of mass expiries: what was about to be called, what became of it, and reading that again after a crash."""

import errno
import json
import os
import re
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wfpsa import _native
from wfpsa.enums import Outcome
from wfpsa.saved import placed

__all__ = ["Journal", "Recorded", "read"]

SCHEMA_VERSION = 1
"""Of the files written; files of a later one are refused."""

_FORMAT = "wfpsa expiry journal"
_OUTCOMES = frozenset(Outcome)
_ATTEMPTS_MAX = 255
_LOCKED = 0x7FFFFFF0
"""The byte by which Windows locks a file: far beyond what anybody reads."""
_APPENDED = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)


def _line(record: Mapping[str, Any]) -> bytes:
    """A record as it is written: its CRC-32 in hexadecimal, a space, JSON, and the end of the line."""
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lock(handle: int, path: str | os.PathLike[str]) -> None:
    """Keeps other runs off the file until it is closed; BlockingIOError where one is at work."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = "the journal is in use by another run"
        raise BlockingIOError(errno.EAGAIN, message, os.fspath(path)) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


# ---- writing ----


class Journal:
    """A journal that is being written, by threads; a record is appended whole or the journal is at its end.

    OSError from a method says that nothing can be recorded any more: whoever writes it must stop.
    """

    def __init__(self, path: str | os.PathLike[str], handle: int, size: int) -> None:
        self.path = os.path.realpath(path)
        self._handle = handle
        self._size = size
        self._synced = 0
        self._failure: OSError | None = None
        self._lock = threading.Lock()
        self._syncing = threading.Lock()

    @classmethod
    def begin(cls, path: str | os.PathLike[str], plan: Mapping[str, Any]) -> "Journal":
        """A new journal of the plan with that document; FileExistsError where there is a file."""
        header = _line({"format": _FORMAT, "schema_version": SCHEMA_VERSION, "plan": plan, "time": _now()})
        with placed(os.path.realpath(path), False) as file:  # with its first record, or not at all
            file.write(header)
        handle = os.open(path, _APPENDED)
        try:
            _lock(handle, path)
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, len(header))

    @classmethod
    def go_on(cls, recorded: "Recorded") -> "Journal":
        """The journal that was read, to be written on: what was torn off at its end goes."""
        handle = os.open(recorded.path, _APPENDED)
        journal = cls(recorded.path, handle, recorded.size)
        try:
            _lock(handle, recorded.path)
            if os.fstat(handle).st_size != recorded.found:
                raise ValueError(f"the journal {recorded.path!r} was written to since it was read: resume it again")
            if recorded.found > recorded.size:
                os.ftruncate(handle, recorded.size)
            journal._append({"resumed": _now()})
            journal.sync()
        except BaseException:
            journal.close()
            raise
        return journal

    def intend(self, first: int, stop: int) -> None:
        """Records, on the disk, that the rows from `first` to before `stop` are about to be called."""
        self._append({"intended": [first, stop]})
        self.sync()

    def note(self, first: int, stop: int, items: _native.ExpiryItems) -> None:
        """Records what became of these rows; the next intention brings it to the disk, or closing."""
        cells = (bytes(column[first:stop]).hex() for column in (items.outcome, items.code, items.attempts))
        outcomes, codes, attempts = cells
        if not codes.strip("0"):
            codes = ""
        self._append({"noted": [first, stop], "outcomes": outcomes, "codes": codes, "attempts": attempts})

    def end(self, stopped: str | None) -> None:
        """Records how the run ended."""
        self._append({"ended": stopped, "time": _now()})
        self.sync()

    def close(self) -> None:
        """Closes the file; again: does nothing."""
        with self._syncing, self._lock:
            if self._handle >= 0:
                os.close(self._handle)
            self._handle = -1

    def _append(self, record: Mapping[str, Any]) -> None:
        line = memoryview(_line(record))
        with self._lock:
            if self._failure is not None:
                raise OSError(self._failure.errno, self._failure.strerror, self.path)
            if os.fstat(self._handle).st_size != self._size:
                self._failure = OSError(errno.EBUSY, "somebody else wrote to it")
                raise OSError(errno.EBUSY, "somebody else wrote to it", self.path)
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._handle, line[written:])
            except OSError as error:
                self._failure = error
                with suppress(OSError):  # else a torn last record stays, which is recognised
                    os.ftruncate(self._handle, self._size)
                raise
            self._size += len(line)

    def sync(self) -> None:
        """Brings to the disk what was appended so far; threads that come meanwhile share one go."""
        with self._lock:
            wanted = self._size
        with self._syncing:
            if self._synced >= wanted:
                return
            with self._lock:
                if self._failure is not None:  # a system tells of it once
                    raise OSError(self._failure.errno, self._failure.strerror, self.path)
                upto = self._size
            try:
                os.fsync(self._handle)
            except OSError as error:
                with self._lock:
                    self._failure = error
                raise
            self._synced = upto


# ---- reading ----


@dataclass
class Recorded:
    """What a journal says."""

    path: str
    """Where it is."""
    plan: dict[str, Any]
    """The document of its plan."""
    outcomes: bytearray
    """wfpsa.Outcome of each context of the plan; NOT_ATTEMPTED where none is recorded."""
    codes: bytearray
    """Four bytes each, the native uint32 code."""
    attempts: bytearray
    """Attempts of each, those that were cut off included."""
    cut_off: frozenset[int] = frozenset()
    """The rows that were about to be called when a run ended that did not note what became of them."""
    stopped: str | None = None
    """What its last run was stopped by, where it said so."""
    size: int = 0
    """The bytes of its whole records."""
    found: int = 0
    """The bytes of the file: more than `size` where the last record is torn."""
    _begun: set[int] = field(default_factory=set, repr=False)
    _cut_off: set[int] = field(default_factory=set, repr=False)

    @property
    def left(self) -> list[tuple[int, int]]:
        """The rows without an outcome, as ranges (first, stop)."""
        return list(_ranges(self.outcomes, Outcome.NOT_ATTEMPTED))

    def _cut(self, rows: set[int]) -> None:
        self._cut_off |= rows
        for row in rows:
            self.attempts[row] = min(self.attempts[row] + 1, _ATTEMPTS_MAX)

    def _take(self, record: Mapping[str, Any]) -> None:
        """What a record after the first says; KeyError, TypeError or ValueError for one that makes no sense."""
        if "intended" in record:
            rows = set(range(*self._range(record["intended"])))
            self._cut(rows & self._begun)
            self._begun |= rows
        elif "noted" in record:
            first, stop = self._range(record["noted"])
            outcomes, attempts = bytes.fromhex(record["outcomes"]), bytes.fromhex(record["attempts"])
            codes = bytes.fromhex(record["codes"]) or bytes(4 * (stop - first))
            if not set(outcomes) <= _OUTCOMES:
                raise ValueError("an unknown outcome")
            if not len(outcomes) == len(attempts) == stop - first or len(codes) != 4 * len(outcomes):
                raise ValueError("not as many outcomes as rows")
            self.outcomes[first:stop] = outcomes
            self.codes[4 * first : 4 * stop] = codes
            self.attempts[first:stop] = attempts
            self._begun.difference_update(range(first, stop))
        elif "resumed" in record:
            self.stopped = None
            self._cut(self._begun)
            self._begun = set()
        else:
            self.stopped = record["ended"]

    def _range(self, pair: Any) -> tuple[int, int]:
        first, stop = pair
        if not isinstance(first, int) or not isinstance(stop, int) or not 0 <= first <= stop <= len(self.outcomes):
            raise ValueError("rows that the plan does not have")
        return first, stop

    def _finish(self) -> None:
        self._cut(self._begun)
        self.cut_off = frozenset(self._cut_off)


def _ranges(cells: bytes | bytearray, value: int) -> Iterator[tuple[int, int]]:
    """The runs of that value, as (first, stop)."""
    yield from (run.span() for run in re.finditer(re.escape(bytes([value])) + b"+", cells))


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is torn or damaged."""
    text = line[9:-1]
    if line[8:9] != b" " or line[-1:] != b"\n" or line[:8] != b"%08x" % zlib.crc32(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) else None


def read(path: str | os.PathLike[str]) -> Recorded:
    """What a journal says, but for a torn last record, which a crash may leave.

    Raises ValueError for a file that is no journal, has a later schema, or is damaged elsewhere; OSError where it
    cannot be read.
    """
    with open(path, "rb") as file:
        lines = file.readlines()
    name = os.fspath(path)
    records = [_record(line) for line in lines]
    whole = records.index(None) if None in records else len(records)
    if whole and whole < len(lines) and (whole < len(lines) - 1 or lines[whole].endswith(b"\n")):
        raise ValueError(f"{name!r} is damaged: its record {whole + 1} is not what was written")
    header = records[0] if whole else None
    if header is None or header.get("format") != _FORMAT:
        raise ValueError(f"{name!r} is no journal of an expiry")
    if header.get("schema_version") != SCHEMA_VERSION:
        version = header.get("schema_version")
        raise ValueError(f"{name!r} is a journal of schema version {version!r}, this wfpsa reads {SCHEMA_VERSION}")
    try:
        count = len(header["plan"]["contexts"]["presence"])
        recorded = Recorded(
            path=os.path.realpath(path),
            plan=header["plan"],
            outcomes=bytearray([Outcome.NOT_ATTEMPTED]) * count,
            codes=bytearray(4 * count),
            attempts=bytearray(count),
            size=sum(map(len, lines[:whole])),
            found=sum(map(len, lines)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name!r} is no journal of an expiry: {type(error).__name__} {error}") from error
    for number, record in enumerate(records[1:whole], 2):
        assert record is not None
        try:
            recorded._take(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{name!r}, record {number}: {type(error).__name__} {error}") from error
    recorded._finish()
    return recorded

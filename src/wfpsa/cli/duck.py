"""What every use of DuckDB needs: its errors as ours, and Ctrl-C."""

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import duckdb

from wfpsa.cli.common import Failure


@contextlib.contextmanager
def faults(doing: str, blame: type[Exception]) -> Iterator[None]:
    """Raises that exception for DuckDB's errors, but Failure where memory was short."""
    try:
        yield
    except duckdb.Error as error:
        # A stream that could not be read tells its reason in words only.
        short = isinstance(error, duckdb.OutOfMemoryException) or re.search("MemoryError|out of memory", str(error))
        raise (Failure if short else blame)(f"{doing}: {error}") from error


def execute(connection: duckdb.DuckDBPyConnection, statement: str) -> list[Any]:
    """The rows of a statement, in a thread of its own: in the main thread DuckDB misses many a Ctrl-C."""
    rows: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            rows.extend(connection.execute(statement).fetchall())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    done = threading.Event()  # an interrupted Thread.join takes the thread for ended
    thread = threading.Thread(target=work, name="duckdb")
    thread.start()
    try:
        while not done.wait(0.1):  # on Windows a wait without end cannot be interrupted
            pass
    finally:
        while not done.is_set():  # again and again: an interruption before the statement's start is forgotten
            connection.interrupt()
            done.wait(0.1)
        thread.join()
    if errors:
        raise errors.pop()
    return rows

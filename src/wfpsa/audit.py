"""The audit of mass expiries: one line of JSON a run, in a file and through logging."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from wfpsa.report import ExpiryReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

__all__ = ["LOGGER", "VARIABLE", "Auditor", "is_wanted"]

VARIABLE = "WFPSA_AUDIT"
"""Names the file where no path is given."""
LOGGER = "wfpsa.audit"


def is_wanted(path: str | os.PathLike[str] | None) -> bool:
    """Whether the line of a run would go anywhere."""
    if path is not None or os.environ.get(VARIABLE):
        return True
    if "logging" not in sys.modules:  # nobody can have asked for it
        return False
    import logging  # waits where another thread is about to

    return logging.getLogger(LOGGER).isEnabledFor(logging.INFO)


def _user() -> str | None:
    try:
        import getpass

        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return None


def _is_torn(path: str | os.PathLike[str]) -> bool:
    """Whether the file's last line has no end, so that another would be glued to it."""
    with suppress(OSError), open(path, "rb") as file:  # one that cannot be read is believed to be whole
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
    return False


class Auditor:
    """The audit of one run; a context manager, whose file is opened before the run begins, so that it can be refused.

    All that its line needs is imported then, too: not for a run that nobody audits, as most are, and not once it is
    done. Raises OSError where the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        path = path if path is not None else os.environ.get(VARIABLE) or None
        self._handle = -1
        self._prefix = b""
        self._facts: dict[str, Any] | None = None
        if not is_wanted(path):
            return
        import json
        import logging
        import platform
        from datetime import UTC, datetime

        self._dumps = json.dumps
        self._logger = logging.getLogger(LOGGER)
        self._facts = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "user": _user(),
            "host": platform.node(),
            "pid": os.getpid(),
        }
        if path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._handle = os.open(path, flags, 0o666)
            if _is_torn(path):
                self._prefix = b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def watch(
        self, report: ExpiryReport, run: Callable[[], ExpiryReport], facts: Callable[[], Mapping[str, Any]]
    ) -> ExpiryReport:
        """Runs that and appends its line, however it ends; OSError, with the line in the log, where that cannot be
        written, but for runs that raise: what ended them matters more. `facts` are what is said beside the report."""
        try:
            run()
        except BaseException:
            with suppress(OSError):
                self._note(report, facts)
            raise
        self._note(report, facts)
        return report

    def _note(self, report: ExpiryReport, facts: Callable[[], Mapping[str, Any]]) -> None:
        if self._facts is None:
            return
        said = {
            **self._facts,
            **facts(),
            "contexts": len(report),
            "counts": {outcome.name: count for outcome, count in report.counts.items() if count},
            "cut_off": len(report.cut_off),
            "stopped": report.stopped,
            "seconds": None if report.seconds is None else round(report.seconds, 3),
        }
        line = self._dumps(said, ensure_ascii=True)
        self._logger.info("%s", line)
        if self._handle < 0:
            return
        try:
            data = memoryview(self._prefix + line.encode() + b"\n")
            while data:
                data = data[os.write(self._handle, data) :]
            os.fsync(self._handle)
        except OSError as error:
            self._logger.error("the audit file could not be written (%s): %s", str(error), line)
            error.report = report  # type: ignore[attr-defined]
            raise

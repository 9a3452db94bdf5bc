"""What the verbs share: exit codes, faults, notices, the choice of an engine, and context ids."""

import contextlib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

import wfpsa

if TYPE_CHECKING:
    from rich.console import Console

FALLBACK = "embedded:?contexts=20&seed=7"
"""What list, get and doctor show off Windows where no engine is named."""

ELEVATE = (
    "run it elevated, as a member of Administrators, or as a member of Network Configuration Operators "
    "(an administrator without elevation counts as an ordinary user)"
)

EXIT_CODES = "Exit codes: 0 done, 1 failure, 2 usage, 3 partial, 4 nothing matched, 5 access denied, 130 interrupted."

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="TARGET",
        help='The engine: "windows:", or one in memory such as "embedded:?contexts=1000&seed=7". '
        "Without it WFPSA_ENGINE names it; without that it is this machine's on Windows.",
    ),
]

DurationOption = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="End after that: 60, 60s, 500ms, 10m or 1h."),
]


class ExitCode(IntEnum):
    """What the command tells the shell."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    NOTHING = 4
    DENIED = 5
    INTERRUPTED = 130


class UsageFault(Exception):
    """The arguments are wrong; nothing was done."""


class Failure(Exception):
    """Something outside the engine failed: a file, the disk, memory."""


@contextlib.contextmanager
def argument_faults() -> Iterator[None]:
    """Makes usage faults of the ValueErrors by which the package refuses an argument."""
    try:
        yield
    except wfpsa.WfpError:
        raise
    except ValueError as error:
        raise UsageFault(str(error)) from error


_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ms|s|m|h|)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def duration_seconds(text: str | None) -> float:
    """The seconds of --for, without end where it is not given."""
    if text is None:
        return math.inf
    if found := _DURATION.fullmatch(text):
        seconds = float(found[1]) * _UNITS[found[2]]
        if 0 < seconds < math.inf:
            return seconds
    shown = text if len(text) <= 40 else text[:40] + "..."
    raise UsageFault(f"--for must be a number above 0, of seconds or with ms, s, m or h after it, not {shown!r}")


# ---- what is said beside the results ----


def is_colourful(stream: TextIO) -> bool:
    """Whether escape codes may go there: to a terminal, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> "Console":
    """A rich console that writes the text as it is given, for a stream that is_colourful()."""
    from rich.console import Console

    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)


def notice(text: str, style: str = "cyan") -> None:
    """A line on stderr."""
    if not is_colourful(sys.stderr):
        print(f"wfpsa: {text}", file=sys.stderr)
        return
    from rich.text import Text

    console(sys.stderr).print(Text.assemble(("wfpsa:", style), f" {text}"))


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], object]]:
    """A spinner on stderr while something goes on, on a terminal only; gives what changes its text."""
    if not is_colourful(sys.stderr):
        yield lambda text: None
        return
    with console(sys.stderr).status(text) as status:
        yield status.update


def plural(count: int, noun: str) -> str:
    """ "1 context", "2 contexts"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def installed_version(package: str) -> str:
    """The version of a package, or that it is not installed (as in a source tree)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


# ---- the engine ----


@dataclass(frozen=True)
class Target:
    """A target, and how it came to be chosen."""

    text: str
    origin: str
    named: bool = True


def named_target(context: typer.Context, option: str | None) -> Target | None:
    """The target named by --engine after the verb, before it, or by WFPSA_ENGINE; on Windows the machine's own."""
    option = option if option is not None else context.obj
    if option is not None:
        return Target(option, "--engine")
    if variable := os.environ.get("WFPSA_ENGINE"):
        return Target(variable, "WFPSA_ENGINE")
    if sys.platform == "win32":
        return Target("windows:", "the default on Windows", named=False)
    return None


def required_target(context: typer.Context, option: str | None) -> Target:
    """The named target; a usage fault off Windows where none is named."""
    if target := named_target(context, option):
        return target
    raise UsageFault(
        f"{context.info_name} needs an engine to be named off Windows: --engine TARGET or WFPSA_ENGINE, "
        'as in --engine "embedded:?contexts=1000"'
    )


def target_or_fallback(context: typer.Context, option: str | None) -> Target:
    """The named target; off Windows, where none is named, a small made-up engine, and stderr says so."""
    if target := named_target(context, option):
        return target
    notice(
        f'no engine was named and this is not Windows: "{FALLBACK}" answers, an engine in memory with made-up '
        "contexts; --engine or WFPSA_ENGINE names another",
        "yellow",
    )
    return Target(FALLBACK, "the fallback off Windows; neither --engine nor WFPSA_ENGINE names one")


@contextlib.contextmanager
def opened(target: Target) -> Iterator[wfpsa.Engine]:
    """The open engine, closed at the end of the block."""
    with argument_faults():
        try:
            engine = wfpsa.open_engine(target.text)
        except ImportError as error:  # replaying needs more than the rest
            raise Failure(str(error)) from error
    with engine:
        yield engine


@contextlib.contextmanager
def subscribing(action: str) -> Iterator[None]:
    """Says which right is lacking where a subscription is denied in the block."""
    try:
        yield
    except wfpsa.AccessDenied as error:
        if error.function != "IPsecSaContextSubscribe0":
            raise
        needed = f"{action} needs the right FWPM_ACTRL_SUBSCRIBE"
        raise wfpsa.AccessDenied(error.code, error.function, needed) from error


def empty_batch() -> wfpsa.SaBatch:
    """A batch without contexts: it knows the columns, and a predicate can be tried on it before an engine is asked."""
    with wfpsa.open_engine("embedded:") as engine:
        return engine.snapshot()


def pages(
    engine: wfpsa.Engine, local: str | None, remote: str | None, page_size: int
) -> contextlib.closing[Generator[wfpsa.SaBatch, None, None]]:
    """All contexts between those subnets in pages, whose enumeration ends with the `with` block."""
    return contextlib.closing(engine.pages(local=local, remote=remote, page_size=page_size))


def snapshot(
    engine: wfpsa.Engine, local: str | None, remote: str | None, fields: Iterable[str] | None = None
) -> wfpsa.SaBatch:
    """All contexts between those subnets, with those columns or all."""
    with argument_faults(), progress("enumerating contexts"):
        return engine.snapshot(local=local, remote=remote, fields=fields)


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """In the block SIGTERM, and Ctrl-Break on Windows, do as Ctrl-C does, unless somebody else has a use for them."""
    taken = []
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
        taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


# ---- context ids ----

_ID = re.compile(r"[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}")


def parse_id(text: str) -> int:
    """A context id from decimal or 0x-hexadecimal digits; ValueError says what is wrong."""
    number = int(text, 16 if text[:2] in ("0x", "0X") else 10) if _ID.fullmatch(text) else -1
    if not 0 <= number < 1 << 64:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise ValueError(f"{shown!r} is not a context id (0 to {(1 << 64) - 1}, decimal or 0x and hexadecimal)")
    return number

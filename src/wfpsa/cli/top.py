"""The verb that shows a live table: counts, rates, the top peers, the oldest contexts, and how the engine is."""

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Annotated

import typer

import wfpsa
from wfpsa.cli import output
from wfpsa.cli.common import (
    DurationOption,
    EngineOption,
    ExitCode,
    UsageFault,
    argument_faults,
    duration_seconds,
    empty_batch,
    ended_as_by_ctrl_c,
    opened,
    required_target,
    subscribing,
)
from wfpsa.cli.keys import SUSPEND, Keys
from wfpsa.cli.show import LocalOption, RemoteOption, WhereOption
from wfpsa.cli.top_controls import Controls
from wfpsa.cli.top_figures import FIELDS, Figures, Observer, Sort

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_LISTED = 10
"""Rows of a table of --once where none are asked for."""
_LOOKED_AFTER = 0.1
"""Seconds after which the size of the terminal is looked at."""

_STOPPED_WITHIN = 0.05
"""Seconds in which a signal stops all threads, whichever of them gets it."""


def top(
    context: typer.Context,
    local: LocalOption = None,
    remote: RemoteOption = None,
    where: WhereOption = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, max=3600, metavar="SECONDS", help="How often it is drawn anew.")
    ] = 1.0,
    duration: DurationOption = None,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows", min=1, max=1000, metavar="N", help="Rows of a table at most; without it as many as fit."
        ),
    ] = None,
    sort: Annotated[
        Sort, typer.Option("--sort", help="Which peers come first; address: of those with most contexts.")
    ] = Sort.CONTEXTS,
    once: Annotated[
        bool, typer.Option("--once", help="Look on for one interval, print the tables, and end: for files and pipes.")
    ] = False,
    reconcile_every: Annotated[
        float, typer.Option("--reconcile-every", metavar="SECONDS", help="How often all contexts are listed.")
    ] = 300.0,
    engine: EngineOption = None,
) -> int:
    """Show a live table of SA contexts: counts, rates, the top peers, the oldest, and how the engine is.

    Keys: q ends it; c, a and r sort peers by contexts, address and rate; / takes a subnet that peers must be in and Esc
    drops it; Space pauses; Tab chooses the tables. An age with > is the time since wfpsa began to look: the context was
    there already. A mirror stands behind it, so that nothing is listed to draw; where the engine has gone it shows the
    last state, says so, and goes on when the engine is back. --where needs all columns and looks at each context.
    """
    seconds = duration_seconds(duration)
    target = required_target(context, engine)
    select = _selection(local, remote, where)
    if not once and not _is_screen():
        raise UsageFault(
            "top draws on a terminal, which stdout is not: --once prints it one time, "
            "wfpsa watch and wfpsa stats write lines"
        )
    fields = None if where is not None else (*FIELDS, *(("local_address",) if local is not None else ()))
    with (
        ended_as_by_ctrl_c(),
        opened(target) as open_engine,
        subscribing("top"),
        argument_faults(),
        open_engine.mirror(fields=fields, reconcile_every=reconcile_every) as mirror,
    ):
        encoding = sys.stdout.encoding or "utf-8"
        name = target.text.encode(encoding, "backslashreplace").decode(encoding)
        shown = _Shown(Observer(mirror, select), name, interval, rows, Controls(sort))
        if once:
            time.sleep(min(interval, seconds))
            _print_once(shown)
            return ExitCode.DONE
        with contextlib.suppress(KeyboardInterrupt):
            _follow(shown, _console(), time.monotonic() + seconds)
    return ExitCode.DONE


def _selection(
    local: str | None, remote: str | None, where: str | None
) -> Callable[[wfpsa.SaBatch], wfpsa.SaBatch] | None:
    """What chooses among contexts, None for all; bad arguments are faults before an engine is asked."""
    if local is None and remote is None and where is None:
        return None

    def select(batch: wfpsa.SaBatch) -> wfpsa.SaBatch:
        chosen = batch if local is None and remote is None else batch.where(local=local, remote=remote)
        if where is None:
            return chosen
        from wfpsa.cli.where import matching

        return matching(chosen, where)

    with argument_faults():
        select(empty_batch())
    return select


def _is_screen() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


# ---- drawing ----


@dataclasses.dataclass
class _Shown:
    """What is shown, and how."""

    observer: Observer
    target: str
    interval: float
    rows: int | None
    controls: Controls

    def figures(self, rows: int) -> Figures:
        """The figures of the state read last."""
        return self.observer.figures(rows, self.controls.sort, self.controls.within)


def _console() -> "Console":
    """A console that draws on stdout, without colours where NO_COLOR is set."""
    from rich.console import Console

    return Console(
        force_terminal=True, no_color=bool(os.environ.get("NO_COLOR")), highlight=False, markup=False, emoji=False
    )


def _print_once(shown: _Shown) -> None:
    from rich.console import Console

    from wfpsa.cli.top_view import page

    shown.observer.read()
    width = shutil.get_terminal_size().columns
    file = StringIO()
    console = Console(
        file=file,
        width=width,
        color_system=None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    figures = shown.figures(_LISTED if shown.rows is None else shown.rows)
    console.print(page(figures, shown.controls, shown.target, shown.interval, width))
    output.write_text("".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines()))


def _follow(shown: _Shown, console: "Console", end: float) -> None:
    """Draws until the end or a key that means it; a stop from the keyboard leaves the screen first."""
    from rich.live import Live

    while True:
        with (
            Keys() as keys,
            Live(
                console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            ) as live,
        ):
            suspended = _draw(shown, keys, live, end)
        if not suspended:
            return
        if sys.platform != "win32":
            os.kill(0, signal.SIGTSTP)  # as the terminal itself would have done it
            time.sleep(_STOPPED_WITHIN)


def _draw(shown: _Shown, keys: Keys, live: "Live", end: float) -> bool:
    """Draws, and obeys keys, until the end; True where the process is to be stopped until it is told to go on."""
    from wfpsa.cli.top_view import divided, fits_both, screen

    console, controls = live.console, shown.controls
    due = -math.inf
    drawn: object = None
    asked: object = None
    figures: Figures | None = None
    while (now := time.monotonic()) < end:
        if now >= due:
            if figures is None or not controls.paused:
                shown.observer.read()
                figures = None
            else:
                figures = dataclasses.replace(figures, health=shown.observer.health())
            drawn, due = None, now + shown.interval
        width, height = console.size
        height -= console.legacy_windows  # without a screen of its own the last line would scroll
        most = height if shown.rows is None else shown.rows
        wanted = divided(height, controls.tables, most).rows, controls.sort, controls.within
        if figures is None or wanted != asked:
            figures, asked = shown.figures(wanted[0]), wanted
        if drawn != (state := (width, height, repr(controls))):
            live.update(screen(figures, controls, shown.target, shown.interval, width, height, most), refresh=True)
            drawn = state
        try:
            key = keys.read(min(due, end, now + _LOOKED_AFTER) - time.monotonic())
        except EOFError:  # the terminal has gone
            return False
        if key == SUSPEND and sys.platform != "win32":
            return True
        if key is not None and controls.press(key, fits_both(height)):
            return False
    return False

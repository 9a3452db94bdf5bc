"""The verb that shows additions and deletions of contexts as they happen, and the gaps between them."""

import contextlib
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

import wfpsa
from wfpsa.cli import output
from wfpsa.cli.common import (
    DurationOption,
    EngineOption,
    ExitCode,
    Failure,
    argument_faults,
    duration_seconds,
    ended_as_by_ctrl_c,
    notice,
    opened,
    plural,
    required_target,
    subscribing,
)
from wfpsa.cli.show import LocalOption, RemoteOption


class WatchFormat(StrEnum):
    """How changes can be written."""

    LINES = "lines"
    JSONL = "jsonl"


_PULSE = 1.0
"""After how many seconds without a change it is seen whether one could still come, and be read."""


@dataclass
class _Tally:
    """How many changes were written, and how many are known to be lost."""

    changes: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return f"{plural(self.changes, 'change')}, {f'{self.lost} or more' if self.lost else '0'} lost"


def watch(
    context: typer.Context,
    local: LocalOption = None,
    remote: RemoteOption = None,
    duration: DurationOption = None,
    format: Annotated[
        WatchFormat, typer.Option("--format", help="A line a change for people, or one with a JSON object.")
    ] = WatchFormat.LINES,
    capacity: Annotated[
        int,
        typer.Option(
            "--capacity", min=1, max=1 << 28, metavar="N", help="How many changes may wait before some are lost."
        ),
    ] = 65536,
    engine: EngineOption = None,
) -> int:
    """Show additions and deletions of SA contexts as they happen, until Ctrl-C or the end of --for.

    A line has the time at which the change was read (UTC), ADDED or DELETED, the context's id, and its number since the
    start, lost changes included. GAP says where changes were lost, and how many at least: what was derived from changes
    must be read anew then. The exit code is 0 where it was ended on purpose, and 1 where the engine's service stopped.
    """
    seconds = duration_seconds(duration)
    target = required_target(context, engine)
    tally = _Tally()
    try:
        with (
            ended_as_by_ctrl_c(),
            opened(target) as open_engine,
            _subscribed(open_engine, local, remote, capacity) as changes,
        ):
            try:
                notice(f"watching {target.text}")
                wanted = _follow(open_engine, changes, seconds, format, tally)
            except KeyboardInterrupt:
                wanted = True
            if wanted:
                changes.close()  # and what was told until now is there to be read
                wanted = all(_tell(event, format, tally) for event in changes)
    except wfpsa.SessionAborted as error:
        raise Failure(
            f"{target.text} tells no changes any more, its service stopped or was restarted: {error}\n"
            f"{tally} until then; wfpsa watch begins anew"
        ) from error
    if wanted:
        notice(f"{tally} while watching {target.text}")
    return ExitCode.DONE


# ---- what it is given ----


def _subscribed(engine: wfpsa.Engine, local: str | None, remote: str | None, capacity: int) -> wfpsa.Subscription:
    with subscribing("watching"), argument_faults():
        return engine.subscribe(local=local, remote=remote, capacity=capacity)


# ---- what it tells ----


def _follow(
    engine: wfpsa.Engine, changes: wfpsa.Subscription, seconds: float, chosen: WatchFormat, tally: _Tally
) -> bool:
    """Writes what happens in that time; False where the reader has gone, SessionAborted where nothing can come."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        event = changes.get(min(left, _PULSE))
        if event is not None:
            if not _tell(event, chosen, tally):
                return False
        elif _reader_gone():
            return False
        else:
            # A subscription is silent when its session dies; another call says so. This one waits for no lock and
            # needs no right but the one that is there.
            engine.subscribe(capacity=1).close()
    return True


def _tell(event: wfpsa.SaChange | wfpsa.Gap, chosen: WatchFormat, tally: _Tally) -> bool:
    """Writes a line at once; False where the reader has gone."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    facts: dict[str, object] = {"time": now}
    if isinstance(event, wfpsa.Gap):
        tally.lost += event.lost
        facts |= {"gap": event.lost}
        line = f"{now}  GAP      {event.lost} lost"
    else:
        tally.changes += 1
        facts |= {"kind": event.kind.name, "context_id": event.context_id, "sequence": event.sequence}
        line = f"{now}  {event.kind.name:7}  {event.context_id}  {event.sequence}"
    written = output.write_text((json.dumps(facts) if chosen is WatchFormat.JSONL else line) + "\n")
    if written and isinstance(event, wfpsa.Gap):
        notice(f"{event.lost} or more changes were lost here; --capacity lets more of them wait", "yellow")
    return written


def _reader_gone() -> bool:
    """Whether nobody reads stdout any more, where the system says so before something is written (not on Windows)."""
    if sys.platform != "win32":
        import select

        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(sys.stdout.fileno(), select.POLLOUT)
            return any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0))
    return False

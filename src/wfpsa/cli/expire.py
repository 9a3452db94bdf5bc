"""The verb that expires contexts in mass: which contexts, by a new plan or one that was made already."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from wfpsa.cli.applying import Way, carry_out
from wfpsa.cli.common import (
    EngineOption,
    ExitCode,
    Target,
    UsageFault,
    argument_faults,
    named_target,
    notice,
    opened,
    required_target,
)
from wfpsa.cli.output import FactsFormat
from wfpsa.cli.selection import Selection, excluded
from wfpsa.cli.show import FactsFormatOption, LocalOption, RemoteOption, WhereOption
from wfpsa.expiry import Limits
from wfpsa.plan import ExpiryPlan

_MOST = 2**63 - 1
_PLANNING = (
    "local",
    "remote",
    "where",
    "ids",
    "ids_from",
    "peers_from",
    "max_count",
    "expect",
    "keep_per_peer",
    "exclude",
    "reason",
    "plan",
)
"""What a plan that was made already leaves no room for."""
_LIMITS = {
    "sessions": "--sessions",
    "max_rate": "--rate",
    "max_failures": "--max-failures",
    "max_failure_ratio": "--max-failure-ratio",
    "timeout": "--timeout",
}


def expire(
    context: typer.Context,
    local: LocalOption = None,
    remote: RemoteOption = None,
    where: WhereOption = None,
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="This context, decimal or 0x and hexadecimal; may be repeated."),
    ] = None,
    ids_from: Annotated[
        str | None,
        typer.Option("--ids-from", metavar="FILE", help="The ids in this file, one a line, # comments; - is stdin."),
    ] = None,
    peers_from: Annotated[
        str | None,
        typer.Option(
            "--peers-from",
            metavar="FILE",
            help="Contexts with a peer in this file: remote addresses, subnets or identity names, one a line; "
            "# at its start, or after a space, begins a comment.",
        ),
    ] = None,
    max_count: Annotated[
        int | None, typer.Option("--max", min=0, max=_MOST, metavar="N", help="Refuse if it were more.")
    ] = None,
    expect: Annotated[
        int | None, typer.Option("--expect", min=0, max=_MOST, metavar="N", help="Refuse if it were another number.")
    ] = None,
    keep_per_peer: Annotated[
        int,
        typer.Option(
            "--keep-per-peer",
            min=0,
            max=_MOST,
            metavar="N",
            help="Spare so many of each remote address, those with the highest ids: a guess at the newest.",
        ),
    ] = 0,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="ID", help="Spare this context; may be repeated.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the plan's file.")] = None,
    plan: Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="Write the plan to a new file.")] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="FILE", help="The plan in this file, instead of saying what to expire."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the plan of --journal where a run before ended.")
    ] = False,
    max_age: Annotated[
        float | None, typer.Option("--max-age", metavar="SECONDS", help="Refuse a plan that is older.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this it is a dry run.")] = False,
    sessions: Annotated[
        int, typer.Option("--sessions", metavar="N", help="Sessions of the engine at work at once.")
    ] = 1,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="N", help="At most so many contexts a second, all together.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", metavar="N", help="Stop when more than so many failed.")
    ] = None,
    max_failure_ratio: Annotated[
        float | None,
        typer.Option("--max-failure-ratio", metavar="R", help="Stop when more than this share failed: 0 to 1."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Stop after so many seconds.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option("--journal", metavar="FILE", help="Record in a new file what is done, for --resume."),
    ] = None,
    settle: Annotated[
        bool,
        typer.Option("--settle", help="Wait until the inbound SAs are gone, a minute or so, and say who came back."),
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option("--audit", metavar="FILE", help="Append a line of JSON to this file; else WFPSA_AUDIT names it."),
    ] = None,
    format: FactsFormatOption = FactsFormat.TABLE,
    engine: EngineOption = None,
) -> int:
    """Expire SA contexts: their outbound SAs go at once, their inbound SAs about a minute later.

    Say which: --id and --ids-from together, or --local, --remote, --where and --peers-from together (all of them must
    hold; --where true is every context). Or name a plan that was written earlier with --apply. A dry run shows the
    plan; --plan writes it.

    With --yes each context is expired if it still is what the plan saw, and it prints how many had which outcome: the
    exit code is 0 where all were expired (one that was gone already counts as done), 3 where some were not, since they
    failed, had changed or were not attempted, or still linger after --settle, 5 where all were denied and 1 where none
    was expired. A guard that says no, --max or --expect, is 2, and nothing
    was done. Ctrl-C stops it, and the counts say how far it came.
    """
    limits = _limits(sessions, rate, max_failures, max_failure_ratio, timeout)
    way = Way(yes, limits, journal, audit, settle, format)
    target = named_target(context, engine)
    if apply is not None or resume:
        made = _plan_of_files(apply, journal, resume, max_age, _given(context, _PLANNING))
        if target is None or not target.named:
            target = Target(made.engine, "the plan")
        with opened(target) as open_engine:
            return carry_out(open_engine, made, way, [])
    if max_age is not None:
        raise UsageFault("--max-age is about the plan of --apply or --resume")
    selection = Selection.read(local, remote, where, ids, ids_from, peers_from)
    spared = excluded(exclude)
    target = target or required_target(context, engine)
    with opened(target) as open_engine:
        batch = selection.contexts(open_engine)
        unknown: list[int] = []
        if selection.ids is not None:
            known = set(batch["context_id"])
            unknown = [number for number in selection.ids if number not in known]
        if not len(batch) and not unknown:
            what = "no ids were given" if selection.ids == [] else "no context matches"
            notice(f"{what}; nothing to expire")
            return ExitCode.NOTHING
        made = open_engine.plan_expiry(
            batch, max_count=max_count, expect=expect, keep_per_peer=keep_per_peer, exclude=spared, reason=reason
        )
        if plan is not None:
            try:
                made.save(plan)
            except FileExistsError as error:
                raise UsageFault(f"--plan: {plan} exists, and is not written over; nothing was expired") from error
            notice(f"the plan is in {plan}")
        return carry_out(open_engine, made, way, unknown)


# ---- what it says and what it is given ----


def _limits(
    sessions: int, rate: float | None, max_failures: int | None, ratio: float | None, timeout: float | None
) -> Limits:
    try:
        return Limits.checked(sessions, rate, max_failures, ratio, timeout)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageFault(f"{_LIMITS[name]} {rest}") from error


def _given(context: typer.Context, names: Collection[str]) -> list[str]:
    """The options among those parameters that stand in the command line."""
    found = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            found.append(parameter.opts[0])
    return found


def _plan_of_files(
    path: Path | None, journal: Path | None, resume: bool, max_age: float | None, given: list[str]
) -> ExpiryPlan:
    """The plan of --apply, or of the journal to go on with; `given` are options that it leaves no room for."""
    if given:
        way = "--resume" if path is None else "--apply"
        raise UsageFault(f"{way} and {given[0]} do not go together: the plan says it all")
    with argument_faults():
        if not resume:
            assert path is not None
            return ExpiryPlan.load(path, max_age=max_age)
        if journal is None:
            raise UsageFault("--resume goes on with a journal: --journal names it")
        resumed = ExpiryPlan.resume(journal, max_age=max_age)
        if path is not None and ExpiryPlan.load(path).checksum != resumed.checksum:
            raise UsageFault(f"{journal} is the journal of another plan than {path}")
        return resumed

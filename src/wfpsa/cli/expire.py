"""The verb that expires contexts in mass: what is selected, the dry run, and what became of each."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

import wfpsa
from wfpsa.cli.common import (
    EngineOption,
    ExitCode,
    UsageFault,
    named_target,
    notice,
    opened,
    parse_id,
    plural,
    progress,
    snapshot,
)
from wfpsa.cli.output import FactsFormat, cell, write_facts
from wfpsa.cli.show import FactsFormatOption, LocalOption, RemoteOption, WhereOption

_TOP = 5
_SHOWN = 100
_NOT_DONE = (wfpsa.Outcome.DENIED, wfpsa.Outcome.FAILED, wfpsa.Outcome.NOT_ATTEMPTED)


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
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this it is a dry run.")] = False,
    format: FactsFormatOption = FactsFormat.TABLE,
    engine: EngineOption = None,
) -> int:
    """Expire SA contexts: their outbound SAs go at once, their inbound SAs about a minute later.

    Say which: --id and --ids-from together, or --local, --remote and --where together (all of them must hold; --where
    true is every context). A dry run shows how many that is. With --yes it prints how many had which outcome: the exit
    code is 0 where none failed (one that was gone already counts as done), 3 where some did, 5 where all were denied
    and 1 where all failed. Ctrl-C stops it, and the counts say how far it came.
    """
    wanted = _wanted_ids(ids, ids_from)
    filters = {"--local": local, "--remote": remote, "--where": where}
    named = [name for name, value in filters.items() if value is not None]
    if wanted is None and not named:
        raise UsageFault("say what to expire: --id, --ids-from, --local, --remote or --where (--where true is all)")
    if wanted is not None and named:
        raise UsageFault(f"ids and {named[0]} do not go together: name the contexts one way or the other")
    target = named_target(context, engine)
    if target is None:
        raise UsageFault(
            "expire needs an engine to be named off Windows: --engine TARGET or WFPSA_ENGINE, "
            'as in --engine "embedded:?contexts=1000"'
        )
    if where is not None:
        from wfpsa.cli.where import check

        check(where)
    with opened(target) as open_engine:
        if wanted is None:
            return _expire_batch(open_engine, _selected(open_engine, local, remote, where), yes, format)
        return _expire_ids(open_engine, wanted, yes, format)


# ---- what is selected ----


def _wanted_ids(ids: list[str] | None, ids_from: str | None) -> list[int] | None:
    """The ids of --id and --ids-from, each once; None where neither was given."""
    if not ids and ids_from is None:
        return None
    try:
        wanted = [parse_id(text) for text in ids or ()]
    except ValueError as error:
        raise UsageFault(f"--id: {error}") from error
    if ids_from is not None:
        wanted += _ids_in(ids_from)
    return list(dict.fromkeys(wanted))


def _ids_in(name: str) -> list[int]:
    """The ids in a file, or in stdin for "-"; a line that is none is a fault that names it."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageFault(f"cannot read the ids from {name}: {error.strerror or error}") from error
    # What PowerShell 5 redirects into a file is UTF-16.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    found = []
    for number, line in enumerate(data.decode(encoding, "replace").split("\n"), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            found.append(parse_id(text))
        except ValueError as error:
            source = "standard input" if name == "-" else name
            raise UsageFault(f"{source}, line {number}: {error}; nothing was expired") from error
    return found


def _selected(engine: wfpsa.Engine, local: str | None, remote: str | None, where: str | None) -> wfpsa.SaBatch:
    batch = snapshot(engine, local, remote)
    if where is None:
        return batch
    from wfpsa.cli.where import matching

    return matching(batch, where)


# ---- what is done with it ----


def _expire_batch(engine: wfpsa.Engine, batch: wfpsa.SaBatch, yes: bool, format: FactsFormat) -> int:
    if not len(batch):
        notice("no context matches; nothing to expire")
        return ExitCode.NOTHING
    if yes:
        return _expire(engine, batch, format)
    column = batch["remote_address"]
    counts = Counter(column)
    top = {cell(batch[column.index(key)].remote_address): count for key, count in counts.most_common(_TOP)}
    _write_plan(engine, {"would_expire": len(batch), **_remotes(top, len(batch))}, format)
    return ExitCode.DONE


def _expire_ids(engine: wfpsa.Engine, wanted: list[int], yes: bool, format: FactsFormat) -> int:
    if not wanted:
        notice("no ids were given; nothing to expire")
        return ExitCode.NOTHING
    if yes:
        return _expire(engine, wanted, format)
    remotes: Counter[str] = Counter()
    unknown = []
    with progress("looking the ids up"):
        for context_id in wanted:
            try:
                remotes[cell(engine.get(context_id).remote_address)] += 1
            except wfpsa.NotFound:
                unknown.append(context_id)
    known = len(wanted) - len(unknown)
    facts = {"would_expire": known, **_remotes(dict(remotes.most_common(_TOP)), known), "not_known": unknown[:_SHOWN]}
    if len(unknown) > _SHOWN:
        facts["more_not_known"] = len(unknown) - _SHOWN
    _write_plan(engine, facts, format)
    return ExitCode.DONE if known else ExitCode.NOTHING


def _remotes(top: Mapping[str, int], total: int) -> dict[str, object]:
    """The remote addresses with the most contexts, and how many contexts have another one."""
    return {"remote_addresses": dict(top), "other_addresses": total - sum(top.values())}


def _write_plan(engine: wfpsa.Engine, facts: Mapping[str, object], format: FactsFormat) -> None:
    write_facts(facts, format)
    notice(f"a dry run on {engine.target}: nothing was expired; --yes does it", "yellow")


def _expire(engine: wfpsa.Engine, targets: wfpsa.SaBatch | list[int], format: FactsFormat) -> int:
    """Expires them and writes how many had which outcome."""
    what = f"{plural(len(targets), 'context')} of {engine.target}"
    interrupted = False
    try:
        with progress(f"expiring {what}"):
            report = engine.expire(targets)
    except wfpsa.ExpiryInterrupted as interrupt:
        interrupted = True
        report = cast(wfpsa.ExpiryReport, interrupt.report)
    notice(f"interrupted while expiring {what}" if interrupted else what, "red" if interrupted else "cyan")
    counts = report.counts
    write_facts({outcome.name: count for outcome, count in counts.items() if count}, format)
    _explain(zip(report.outcome, report.code, strict=True) if any(counts[o] for o in _NOT_DONE) else ())
    return _exit_code(counts, interrupted)


def _explain(results: Iterable[tuple[wfpsa.Outcome, int]]) -> None:
    """Says on stderr why contexts were not expired."""
    reasons = Counter(result for result in results if result[0] in _NOT_DONE)
    for (outcome, code), count in reasons.most_common(_TOP):
        reason = wfpsa.WfpError(code, "IPsecSaContextExpire0") if code else "it ended before their turn"
        notice(f"{count} {outcome.name}: {reason}", "red")


def _exit_code(counts: Mapping[wfpsa.Outcome, int], interrupted: bool) -> ExitCode:
    total = sum(counts.values())
    missed = sum(counts[outcome] for outcome in _NOT_DONE)
    if interrupted and counts[wfpsa.Outcome.NOT_ATTEMPTED] == total:
        return ExitCode.INTERRUPTED
    if not missed:
        return ExitCode.DONE
    if missed < total:
        return ExitCode.PARTIAL
    return ExitCode.DENIED if counts[wfpsa.Outcome.DENIED] == total else ExitCode.FAILURE

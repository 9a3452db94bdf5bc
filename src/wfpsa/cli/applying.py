"""Applying a plan from the command line: the dry run, the progress, what became of each context, and the exit code."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import wfpsa
from wfpsa.cli.common import ExitCode, UsageFault, argument_faults, console, is_colourful, notice, plural, progress
from wfpsa.cli.output import FactsFormat, cell, write_facts
from wfpsa.expiry import Limits
from wfpsa.plan import ExpiryPlan
from wfpsa.settle import Settlement

__all__ = ["Way", "carry_out"]

_TOP = 5
_SHOWN = 100
_NOT_DONE = (wfpsa.Outcome.DENIED, wfpsa.Outcome.FAILED, wfpsa.Outcome.NOT_ATTEMPTED)


@dataclass(frozen=True)
class Way:
    """How a plan is to be applied, if at all."""

    yes: bool
    limits: Limits
    journal: Path | None
    audit: Path | None
    settle: bool
    format: FactsFormat


def carry_out(engine: wfpsa.Engine, plan: ExpiryPlan, way: Way, unknown: list[int]) -> int:
    """Shows the plan, or applies it; `unknown` are ids that nobody knew when it was made."""
    if way.yes:
        return _apply(engine, plan, way, unknown)
    write_facts(_plan_facts(plan, unknown), way.format)
    with argument_faults():
        plan.check(engine)
    notice(f"a dry run on {engine.target}: nothing was expired; --yes does it", "yellow")
    return ExitCode.DONE if len(plan) else ExitCode.NOTHING


def _plan_facts(plan: ExpiryPlan, unknown: list[int]) -> dict[str, object]:
    peers = plan.peers
    facts: dict[str, object] = {
        "would_expire": len(plan),
        "remote_addresses": {cell(address): count for address, count in peers[:_TOP]},
        "other_addresses": sum(count for _, count in peers[_TOP:]),
        "types": {cell(kind): count for kind, count in plan.types},
    }
    if plan.skipped:
        spared = {"EXCLUDE": len(plan.excluded), "KEEP_PER_PEER": len(plan.kept)}
        facts["spared"] = {guard: count for guard, count in spared.items() if count}
    if plan.reason is not None:
        facts["reason"] = plan.reason
    if plan.loaded:
        facts |= {"planned": plan.created.isoformat(timespec="seconds"), "engine": plan.engine, "host": plan.host}
    if plan.recorded is not None:
        facts |= {"left": plan.left, "cut_off": len(plan.cut_off)}
    if unknown:
        facts["not_known"] = unknown[:_SHOWN]
    if len(unknown) > _SHOWN:
        facts["more_not_known"] = len(unknown) - _SHOWN
    return facts


def _apply(engine: wfpsa.Engine, plan: ExpiryPlan, way: Way, unknown: list[int]) -> int:
    """Applies the plan and writes how many contexts had which outcome."""
    what = f"{plural(len(plan), 'context')} of {engine.target}"
    interrupted, failure = False, None
    try:
        with _bar(plan) as tell, argument_faults():
            report = plan.apply(
                engine,
                sessions=way.limits.sessions,
                max_rate=way.limits.max_rate,
                max_failures=way.limits.max_failures,
                max_failure_ratio=way.limits.max_failure_ratio,
                journal=way.journal,
                on_progress=tell,
                timeout=way.limits.timeout,
                audit=way.audit,
            )
    except wfpsa.ExpiryInterrupted as interrupt:
        interrupted = True
        report = cast(wfpsa.ExpiryReport, interrupt.report)
    except FileExistsError as error:
        raise UsageFault(f"--journal: {way.journal} exists; --resume goes on with it") from error
    except OSError as error:
        if not isinstance(found := getattr(error, "report", None), wfpsa.ExpiryReport):
            raise
        report, failure = found, error
    notice(f"interrupted while expiring {what}" if interrupted else what, "red" if interrupted else "cyan")
    counts = Counter(report.counts)
    counts[wfpsa.Outcome.ALREADY_GONE] += len(unknown)
    facts = _report_facts(report, counts)
    settlement = None
    settling = way.settle and not interrupted
    try:
        if settling:
            if way.format is FactsFormat.TABLE:
                write_facts(facts, way.format)
            with progress("waiting for the inbound SAs to go"):
                settlement = report.settle(engine)
            settled = _settlement_facts(settlement)
            facts = settled if way.format is FactsFormat.TABLE else {**facts, "settlement": settled}
    except KeyboardInterrupt:
        notice("interrupted while waiting for the inbound SAs to go", "red")
    finally:
        if not (settling and settlement is None and way.format is FactsFormat.TABLE):
            write_facts(facts, way.format)
    _explain(report, counts, interrupted)
    code = _exit_code(counts, interrupted)
    if failure is not None:
        notice(f"{failure}", "red")
        code = code or ExitCode.FAILURE
    if way.settle and (settlement is None or not settlement.settled):
        code = code or ExitCode.PARTIAL
    return code


@contextlib.contextmanager
def _bar(plan: ExpiryPlan) -> Iterator[Callable[[wfpsa.ExpiryReport], None] | None]:
    """A progress bar on stderr, on a terminal only; gives what moves it."""
    if not is_colourful(sys.stderr):
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("expiring", total=len(plan.contexts), rate="")

        def tell(report: wfpsa.ExpiryReport) -> None:
            done = len(report) - report.counts[wfpsa.Outcome.NOT_ATTEMPTED]
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

        yield tell


def _report_facts(report: wfpsa.ExpiryReport, counts: Mapping[wfpsa.Outcome, int]) -> dict[str, object]:
    facts: dict[str, object] = {outcome.name: counts[outcome] for outcome in wfpsa.Outcome if counts[outcome]}
    if counts[wfpsa.Outcome.SKIPPED]:
        guards = Counter(guard for guard in report.guard if guard is not wfpsa.Guard.NONE)
        facts["skipped_by"] = {cell(guard): count for guard, count in sorted(guards.items())}
    if report.cut_off:
        facts["cut_off"] = len(report.cut_off)
    return facts


def _settlement_facts(settlement: Settlement) -> dict[str, object]:
    return {
        "settled": settlement.settled,
        "remaining": len(settlement.remaining),
        "renegotiated": {f"{cell(local)} and {cell(remote)}": n for (local, remote), n in settlement.pairs[:_SHOWN]},
        "renegotiated_contexts": len(settlement.renegotiated),
        "other_contexts": len(settlement.others),
        "waited_seconds": round(settlement.waited, 1),
    }


def _explain(report: wfpsa.ExpiryReport, counts: Mapping[wfpsa.Outcome, int], interrupted: bool) -> None:
    """Says on stderr why contexts were not expired, and what cannot be known of some."""
    if any(counts[outcome] for outcome in _NOT_DONE):
        results = zip(report.outcome, report.code, strict=True)
        for (outcome, code), count in Counter(each for each in results if each[0] in _NOT_DONE).most_common(_TOP):
            reason = wfpsa.WfpError(code, "IPsecSaContextExpire0") if code else "it ended before their turn"
            notice(f"{count} {outcome.name}: {reason}", "red")
    if counts[wfpsa.Outcome.CHANGED]:
        notice(f"{counts[wfpsa.Outcome.CHANGED]} CHANGED: no longer what the plan saw, and left alone", "yellow")
    if report.cut_off:
        notice(
            f"{len(report.cut_off)} had been begun by a run that was cut off, which may have expired what is "
            "CHANGED or ALREADY_GONE among them",
            "yellow",
        )
    if report.stopped and not interrupted:
        notice(f"stopped: {report.stopped}", "red")


def _exit_code(counts: Mapping[wfpsa.Outcome, int], interrupted: bool) -> ExitCode:
    total = sum(counts.values()) - counts[wfpsa.Outcome.SKIPPED]
    missed = sum(counts[outcome] for outcome in (*_NOT_DONE, wfpsa.Outcome.CHANGED))
    if interrupted and counts[wfpsa.Outcome.NOT_ATTEMPTED] == total:
        return ExitCode.INTERRUPTED
    if not missed:
        return ExitCode.DONE
    if missed < total:
        return ExitCode.PARTIAL
    return ExitCode.DENIED if counts[wfpsa.Outcome.DENIED] == total else ExitCode.FAILURE

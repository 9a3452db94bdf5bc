"""The verb that says which engine answers, whether this user may enumerate, and what to do if not."""

import platform
import sys

import typer

import wfpsa
from wfpsa.cli.common import (
    ELEVATE,
    EngineOption,
    ExitCode,
    Target,
    installed_version,
    opened,
    pages,
    target_or_fallback,
)
from wfpsa.cli.output import FactsFormat, write_facts
from wfpsa.cli.show import FactsFormatOption

RPC_S_CANNOT_SUPPORT = 1764

_EMBEDDED = '--engine "embedded:?contexts=1000&seed=7"'


def doctor(
    context: typer.Context,
    format: FactsFormatOption = FactsFormat.TABLE,
    engine: EngineOption = None,
) -> int:
    """Say which engine answers, whether this user may enumerate, and what to do if not.

    Changes nothing. The exit code is 0 where contexts can be enumerated, 5 where this user may not, 1 where there is no
    engine.
    """
    target = target_or_fallback(context, engine)
    facts: dict[str, object] = {"engine": target.text, "chosen_by": target.origin, **_versions()}
    code = _examine(target, facts)
    write_facts(facts, format)
    return code


def _versions() -> dict[str, object]:
    bits = "64-bit" if sys.maxsize > 1 << 32 else "32-bit"
    packages = {name: installed_version(name) for name in ("wfpsa", "typer", "rich", "duckdb")}
    python = f"{platform.python_implementation()} {platform.python_version()}, {bits}"
    return {**packages, "python": python, "platform": platform.platform()}


def _examine(target: Target, facts: dict[str, object]) -> ExitCode:
    """Opens the engine and asks it for one context; writes down how far that came, and what helps."""
    step = "opens"
    try:
        with opened(target) as engine:
            facts.update(opens=True, backend=engine.backend)
            step = "enumerates"
            with pages(engine, None, None, 1) as each:
                next(each, None)
            facts.update(enumerates=True)
    except wfpsa.AccessDenied as error:
        facts.update({step: False, "error": str(error), "advice": _denied_advice(target)})
        return ExitCode.DENIED
    except wfpsa.WfpError as error:
        facts.update({step: False, "error": str(error), "advice": _failure_advice(error)})
        return ExitCode.FAILURE
    return ExitCode.DONE


def _denied_advice(target: Target) -> str:
    if target.text.startswith("embedded:"):
        return f"the rights= of this embedded engine deny it; on Windows: {ELEVATE}"
    return f"{ELEVATE}; other software may have changed the access list of the filtering engine"


def _failure_advice(error: wfpsa.WfpError) -> str:
    if isinstance(error, wfpsa.EngineUnavailable):
        if error.code is None:
            return f"the engine in memory works everywhere: {_EMBEDDED}"
        if error.code == RPC_S_CANNOT_SUPPORT:
            return f"Wine has no Windows Filtering Platform, only its name; the engine in memory works: {_EMBEDDED}"
        return "see whether the Base Filtering Engine service runs (sc query BFE), and start it (sc start BFE)"
    return "try again; if it stays, the code above is what the Windows documentation explains"

"""The command itself: its verbs, what comes before them, and which error becomes which exit code."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

import wfpsa
from wfpsa.cli import bench, doctor, expire, serve, show, stats, top, watch
from wfpsa.cli.common import ELEVATE, EXIT_CODES, EngineOption, ExitCode, Failure, UsageFault, installed_version, notice

app = typer.Typer(
    name="wfpsa",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=EXIT_CODES,
)

app.command("list", epilog=EXIT_CODES)(show.list_contexts)
app.command("get", epilog=EXIT_CODES)(show.get)
app.command("expire", epilog=EXIT_CODES)(expire.expire)
app.command("watch", epilog=EXIT_CODES)(watch.watch)
app.command("top", epilog=EXIT_CODES)(top.top)
app.command("stats", epilog=EXIT_CODES)(stats.stats)
app.command("serve", epilog=EXIT_CODES)(serve.serve)
app.command("doctor", epilog=EXIT_CODES)(doctor.doctor)
app.command("bench", epilog=EXIT_CODES)(bench.bench)

_CommandLineFault: type[Exception] = typer.BadParameter.__mro__[1]
"""The parent of all that typer says of a command line that it cannot parse; typer gives it no name of its own."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wfpsa {installed_version('wfpsa')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _before_the_verb(
    context: typer.Context,
    engine: EngineOption = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and end.")
    ] = False,
) -> None:
    """IPsec SA contexts of the Windows Filtering Platform: list them, look at one, expire many."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(ExitCode.USAGE)
    context.obj = engine


def run(argv: Sequence[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    try:
        # With arguments given, typer does not expand the patterns in them, as it does on Windows: LIKE '%' stays.
        code: Any = typer.main.get_command(app).main(list(argv), "wfpsa", standalone_mode=False)
        return int(code or 0)
    except _CommandLineFault as fault:
        context = getattr(fault, "ctx", None)
        hint = f" (wfpsa {context.info_name} --help)" if context is not None and context.parent else " (wfpsa --help)"
        return _failed(fault.format_message().rstrip(".") + hint, ExitCode.USAGE)  # type: ignore[attr-defined]
    except UsageFault as fault:
        return _failed(str(fault), ExitCode.USAGE)
    except wfpsa.AccessDenied as error:
        return _failed(f"{error}\n{ELEVATE}; wfpsa doctor says more", ExitCode.DENIED)
    except (OSError, Failure) as error:  # WfpErrors are OSErrors
        return _failed(str(error), ExitCode.FAILURE)
    except MemoryError as error:
        return _failed(str(error) or "out of memory", ExitCode.FAILURE)
    except (KeyboardInterrupt, typer.Abort):
        return _failed("interrupted", ExitCode.INTERRUPTED)


def _failed(message: str, code: ExitCode) -> int:
    notice(message, "red")
    return code

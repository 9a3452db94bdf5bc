"""Tests of the command as a whole: its start, the engine it chooses, its errors and its exit codes."""

import errno
import os
import subprocess
import sys

import pytest
from command import Run, environment, failing_allocations, on_terminal

import wfpsa
from wfpsa import testing
from wfpsa.cli import main
from wfpsa.cli.common import FALLBACK, ExitCode

off_windows = pytest.mark.posix
posix = pytest.mark.posix


# ---- start ----


def test_importing_the_command_imports_nothing_of_the_extra(spawn: Run) -> None:
    code = "import sys, wfpsa.cli; print([name for name in ('typer', 'rich', 'duckdb') if name in sys.modules])"
    assert spawn(code=code).text.split() == ["[]"]


@pytest.mark.parametrize("package", ["typer", "duckdb"])
def test_without_the_extra_the_command_prints_what_to_install(spawn: Run, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from wfpsa.cli import main; sys.exit(main())"
    result = spawn("list", "--format", "json", code=code)
    assert result.code == ExitCode.FAILURE
    assert result.out == b""
    assert "pip install 'wfpsa[cli]'" in result.err
    assert "Traceback" not in result.err


def test_an_import_that_fails_for_another_reason_is_not_blamed_on_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wfpsa.cli.app", None)
    with pytest.raises(ImportError, match=r"wfpsa\.cli\.app"):
        main(["list"])


def test_a_table_is_written_without_duckdb(spawn: Run) -> None:
    code = "import sys; sys.modules['duckdb'] = None; from wfpsa.cli import main; sys.exit(main())"
    result = spawn("list", "--engine", FALLBACK, code=code)
    assert result.code == ExitCode.DONE
    assert len(result.lines) == 21


def test_without_a_verb_the_command_shows_its_help_on_stderr(run: Run) -> None:
    result = run()
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    for word in ("list", "get", "expire", "doctor", "--engine", "Exit codes"):
        assert word in result.err


@pytest.mark.parametrize("verb", ["list", "get", "expire", "doctor"])
def test_every_verb_has_help_with_the_exit_codes(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.code == ExitCode.DONE
    assert "4 nothing matched" in " ".join(result.text.split())


def test_version_is_one_line(run: Run) -> None:
    result = run("--version")
    assert result.code == ExitCode.DONE
    assert len(result.lines) == 1
    assert result.text.startswith("wfpsa ")


def test_the_module_runs_as_the_command(spawn: Run) -> None:
    result = spawn("list", "--engine", "embedded:?contexts=3&seed=7", "--columns", "context_id", "--format", "csv")
    assert result.code == ExitCode.DONE
    assert result.lines[0] == "context_id"
    assert len(result.lines) == 4
    assert result.err == ""


# ---- which engine ----


@pytest.mark.parametrize("arguments", [["--engine", "T", "list"], ["list", "--engine", "T"]])
def test_the_engine_may_be_named_before_and_after_the_verb(
    run: Run, embedded: testing.EmbeddedEngine, arguments: list[str]
) -> None:
    embedded.seed(3)
    result = run(*(embedded.target if argument == "T" else argument for argument in arguments))
    assert result.code == ExitCode.DONE
    assert f"3 contexts from {embedded.target}" in result.err


def test_the_engine_named_after_the_verb_wins(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    assert f"3 contexts from {embedded.target}" in run("--engine", "embedded:", "list", "--engine", embedded.target).err


def test_the_variable_names_the_engine_and_the_option_goes_before_it(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.seed(3)
    monkeypatch.setenv("WFPSA_ENGINE", embedded.target)
    assert f"3 contexts from {embedded.target}" in run("list").err
    assert "2 contexts from embedded:?contexts=2" in run("list", "--engine", "embedded:?contexts=2").err


@off_windows
@pytest.mark.parametrize("arguments", [["list"], ["get", "4294967297"], ["doctor"]])
@pytest.mark.parametrize("variable", [None, ""])
def test_off_windows_the_verbs_that_show_fall_back_and_say_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str | None
) -> None:
    if variable is not None:
        monkeypatch.setenv("WFPSA_ENGINE", variable)
    result = run(*arguments)
    assert result.code == ExitCode.DONE
    assert f'no engine was named and this is not Windows: "{FALLBACK}" answers' in result.err
    assert "no engine was named" not in result.text


@off_windows
@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_off_windows_expire_does_not_fall_back(run: Run, extra: list[str]) -> None:
    result = run("expire", "--where", "true", *extra)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert "expire needs an engine to be named" in result.err


@off_windows
@pytest.mark.parametrize(
    "arguments", [["list"], ["get", "1"], ["doctor"], ["expire", "--id", "1"], ["expire", "--id", "1", "--yes"]]
)
def test_on_windows_nothing_falls_back(run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    asked: list[object] = []

    def no_engine(target: str) -> wfpsa.Engine:
        asked.append(target)
        raise wfpsa.EngineUnavailable(1753, "FwpmEngineOpen0")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(wfpsa, "open_engine", no_engine)
    monkeypatch.setattr("wfpsa.cli.show.empty_batch", lambda: testing.decode_page(0, 0))
    result = run(*arguments)
    assert result.code == ExitCode.FAILURE
    assert asked == ["windows:"]
    assert "embedded" not in result.text + result.err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "target must begin with"),
        ("netlink:", "target must begin with"),
        ("embedded:?colour=red", "unknown option 'colour'"),
        ("embedded:?contexts=many", "must be a number of contexts"),
        ("embedded:?seed=1&seed=2", "occurs twice"),
        ("windows:here", "takes nothing after the colon"),
    ],
)
@pytest.mark.parametrize("arguments", [["list"], ["get", "1"], ["doctor"], ["expire", "--id", "1", "--yes"]])
def test_a_bad_target_is_a_usage_fault(run: Run, target: str, message: str, arguments: list[str]) -> None:
    result = run(*arguments, "--engine", target)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert result.err.startswith("wfpsa: ")
    assert message in result.err


# ---- errors ----


@pytest.mark.parametrize(
    "arguments",
    [["lists"], ["--colour"], ["list", "--remotes", "x"], ["list", "--limit", "0"], ["list", "--limit", "x"], ["get"]],
)
def test_a_command_line_that_cannot_be_parsed_is_a_usage_fault(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == ExitCode.USAGE
    assert result.out == b""
    assert result.err.startswith("wfpsa: ")
    assert "--help" in result.err


@pytest.mark.parametrize("arguments", [["list"], ["list", "--limit", "1"], ["get", "1"], ["expire", "--where", "true"]])
def test_a_denial_has_its_own_exit_code_and_says_what_to_do(
    run: Run, embedded: testing.EmbeddedEngine, arguments: list[str]
) -> None:
    embedded.rights("everyone")
    result = run(*arguments, "--engine", embedded.target)
    assert result.code == ExitCode.DENIED
    assert result.out == b""
    assert "ERROR_ACCESS_DENIED (5)" in result.err
    assert "run it elevated" in result.err
    assert "Traceback" not in result.err


def test_an_error_of_the_engine_is_a_failure_in_one_line(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("IPsecSaContextCreateEnumHandle0", code=0x80320012)
    result = run("list", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert result.err.startswith("wfpsa: IPsecSaContextCreateEnumHandle0: FWP_E_TIMEOUT (0x80320012)")
    assert len(result.err.splitlines()) == 1


def test_a_service_that_does_not_run_is_a_failure_with_advice(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.fail("FwpmEngineOpen0", code=1753)
    result = run("list", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert "sc start BFE" in result.err


@pytest.mark.parametrize(("file_format", "step"), [("table", 1), ("json", 17), ("csv", 19)])
def test_whichever_allocation_fails_the_command_fails_and_leaves_nothing(
    run: Run, embedded: testing.EmbeddedEngine, file_format: str, step: int
) -> None:
    embedded.seed(3)
    assert (
        failing_allocations(run, range(1, 2000, step), "list", "--engine", embedded.target, "--format", file_format)
        > 10
    )


def test_whichever_allocation_fails_a_predicate_is_not_blamed(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    failures = 0
    for nth in range(1, 2000, 43):
        testing.fail_allocation(nth)
        result = run("list", "--engine", embedded.target, "--where", "has_inbound", "--columns", "context_id")
        testing.fail_allocation(0)
        if result.code == ExitCode.DONE:
            break
        assert result.code == ExitCode.FAILURE, result.err
        failures += 1
    assert result.code == ExitCode.DONE
    assert failures > 5


def test_ctrl_c_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wfpsa.cli.show.snapshot", interrupted)
    result = run("list", "--engine", "embedded:")
    assert result.code == ExitCode.INTERRUPTED
    assert "Traceback" not in result.err


# ---- stdout ----


@posix
@pytest.mark.parametrize("file_format", ["table", "jsonl", "json", "csv", "parquet"])
def test_a_reader_that_goes_away_ends_the_command_quietly(file_format: str) -> None:
    command = [sys.executable, "-m", "wfpsa", "list", "--engine", "embedded:?contexts=40000&seed=7"]
    with subprocess.Popen(
        [*command, "--format", file_format],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == ExitCode.DONE
    assert [line for line in said.splitlines() if "40000 contexts" not in line] == []


@pytest.mark.posix
@pytest.mark.parametrize("file_format", ["table", "jsonl"])
def test_a_full_disk_is_a_failure(file_format: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "wfpsa", "list", "--engine", FALLBACK, "--format", file_format],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == ExitCode.FAILURE
    assert done.stderr.decode().strip() == f"wfpsa: cannot write to standard output: {os.strerror(errno.ENOSPC)}"


@pytest.mark.parametrize("arguments", [["list"], ["get", "4294967297"], ["doctor"], ["expire", "--id", "1"], ["bad"]])
def test_off_a_terminal_there_are_no_escape_codes(spawn: Run, arguments: list[str]) -> None:
    result = spawn(*arguments, env={"WFPSA_ENGINE": FALLBACK, "FORCE_COLOR": "1", "TERM": "xterm-256color"})
    assert b"\x1b" not in result.out
    assert "\x1b" not in result.err


@posix
@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colour_unless_no_color_is_set(variables: dict[str, str], coloured: bool) -> None:
    shown = on_terminal("list", "--engine", FALLBACK, columns=100, **variables)
    assert (b"\x1b[" in shown) is coloured
    assert b"10.243.198.138" in shown


@posix
@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_the_usual_columns_fit_the_terminal(columns: int) -> None:
    shown = on_terminal(
        "list", "--engine", FALLBACK, "--where", "ip_version = 4", columns=columns, NO_COLOR="1"
    ).decode()
    table = [line for line in shown.splitlines() if not line.startswith("wfpsa:")]
    assert max(map(len, table)) <= columns
    assert ("did not fit" in shown) is (columns < 200)
    assert any(line.startswith("4294967297  10.0.0.5") for line in table)


@posix
def test_parquet_is_not_written_to_a_terminal() -> None:
    shown = on_terminal("list", "--engine", FALLBACK, "--format", "parquet", code=ExitCode.USAGE, NO_COLOR="1")
    assert b"name a file with -o" in shown
    assert b"PAR1" not in shown

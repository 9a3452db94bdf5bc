"""Tests of `wfpsa top`: printed once, refused, and on a terminal, with each of the ways in which it ends there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from command import Run, environment, failing_allocations
from terminal import ENDED, ENTER, LEAVE, WAIT, Open, Terminal, column

import wfpsa
from wfpsa import testing
from wfpsa.cli.common import ExitCode

# ---- printed once ----


def test_once_prints_the_tables_and_ends(run: Run, embedded: testing.EmbeddedEngine, backend: str) -> None:
    for at in range(20):
        embedded.add(remote=f"10.0.0.{at % 15 + 1}")
    result = run("top", "--once", "--interval", "0.1", "--engine", embedded.target)
    assert result.code == ExitCode.DONE and result.err == ""
    assert [re.sub(r"state (< 1|\d+) s", "state < 1 s", line) for line in result.lines[:5]] == [
        f"wfpsa top {embedded.target}  {backend}, every 0.1 s",
        "contexts  20  both 20  inbound 0  outbound 0  none 0",
        "a second  added 0.0  deleted 0.0  changed 0.0",
        "engine    up  state < 1 s old  lag 0  gaps 0 (0 lost)  resyncs 0",
        "families  IPv4 20  IPv6 0  none 0",
    ]
    at = result.lines.index("", 6)
    assert result.lines[6].split() == ["PEER", "BY", "CONTEXTS", "CONTEXTS", "SHARE", "ADDED/S", "DELETED/S"]
    assert result.lines[7].split() == ["10.0.0.1", "2", "10.0%", "0.0", "0.0"]
    assert len(result.lines[7:at]) == len(result.lines[at + 2 :]) == 10
    assert b"\x1b" not in result.out


@pytest.mark.parametrize(
    ("options", "contexts"),
    [
        ([], 4),
        (["--remote", "10.9.2.0/24"], 2),
        (["--local", "10.1.0.0/16"], 2),
        (["--local", "10.1.0.0/16", "--remote", "10.9.2.0/24"], 1),
        (["--where", "ip_version = 6"], 1),
        (["--where", "remote_address LIKE '10.9.2.%'", "--local", "10.2.0.0/16"], 1),
        (["--remote", "192.0.2.0/24"], 0),
    ],
)
def test_subnets_and_predicates_choose(
    run: Run, embedded: testing.EmbeddedEngine, options: list[str], contexts: int
) -> None:
    for local, remote in (
        ("10.1.0.1", "10.9.1.1"),
        ("10.1.0.2", "10.9.2.2"),
        ("10.2.0.3", "10.9.2.3"),
        ("2001:db8::1", "2001:db8::2"),
    ):
        embedded.add(local, remote)
    result = run("top", "--once", "--interval", "0.1", *options, "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert result.lines[1].startswith(f"contexts  {contexts}  ")
    assert len(result.lines) == 5 + 3 + 2 * contexts + 1


def test_rows_and_sort(run: Run, embedded: testing.EmbeddedEngine) -> None:
    for at in (2, 1, 3):
        embedded.add(remote=f"10.0.0.{at}")
    options = ["--rows", "2", "--sort", "address", "--reconcile-every", "5"]
    result = run("top", "--once", "--interval", "0.1", *options, "--engine", embedded.target)
    assert [line.split()[0] for line in result.lines[6:9]] == ["PEER", "10.0.0.1", "10.0.0.2"]
    assert len(result.lines) == 5 + 3 + 4 + 1


@pytest.mark.posix
def test_a_reader_that_goes_away_ends_it_quietly(embedded: testing.EmbeddedEngine) -> None:
    arguments = ["top", "--once", "--interval", "0.3", "--rows", "1000", "--engine", "embedded:?contexts=2000"]
    with subprocess.Popen(
        [sys.executable, "-m", "wfpsa", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == ExitCode.DONE


def test_the_start_of_the_command_does_not_import_what_draws(spawn: Run) -> None:
    names = ("wfpsa.cli.top_view", "rich.live", "rich.table")
    code = f"import sys, wfpsa.cli.app; print([name for name in {names} if name in sys.modules])"
    assert spawn(code=code).text.split() == ["[]"]


# ---- refused ----


def test_without_a_terminal_it_says_what_to_use(run: Run, embedded: testing.EmbeddedEngine) -> None:
    result = run("top", "--engine", embedded.target)
    assert result.code == ExitCode.USAGE and result.out == b""
    for word in ("--once", "wfpsa watch", "wfpsa stats"):
        assert word in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--interval", "0"], "--interval"),
        (["--interval", "0.01"], "--interval"),
        (["--interval", "3601"], "--interval"),
        (["--interval", "nan"], "--interval"),
        (["--rows", "0"], "--rows"),
        (["--sort", "age"], "--sort"),
        (["--for", "soon"], "--for must be a number above 0"),
        (["--reconcile-every", "0"], "reconcile_every must be above 0"),
        (["--local", "10.0.0.0/33"], "10.0.0.0/33"),
        (["--remote", "here"], "here"),
        (["--local", "10.0.0.0/8", "--remote", "2001:db8::/32"], "of one address family"),
        (["--where", "colour = 3"], "--where"),
        (["--where", "1; 2"], "--where"),
        (["extra"], "extra"),
    ],
)
def test_wrong_arguments_are_a_usage_fault_that_names_them(
    run: Run, embedded: testing.EmbeddedEngine, arguments: list[str], message: str
) -> None:
    result = run("top", "--once", *arguments, "--engine", embedded.target)
    assert result.code == ExitCode.USAGE and result.out == b""
    assert result.err.startswith("wfpsa: ") and message in result.err


@pytest.mark.parametrize("profile", ["everyone", "read_only"])
def test_a_user_without_the_right_is_told_which_it_is(run: Run, embedded: testing.EmbeddedEngine, profile: str) -> None:
    embedded.rights(profile)
    result = run("top", "--once", "--interval", "0.1", "--engine", embedded.target)
    if profile == "read_only":
        assert result.code == ExitCode.DONE
        return
    assert result.code == ExitCode.DENIED and result.out == b""
    assert "IPsecSaContextSubscribe0: ERROR_ACCESS_DENIED (5)" in result.err
    assert "top needs the right FWPM_ACTRL_SUBSCRIBE" in result.err and "run it elevated" in result.err


def test_a_service_that_does_not_run_is_a_failure_with_advice(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.stop_service(1753)
    result = run("top", "--once", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE and "sc start BFE" in result.err


@pytest.mark.posix
def test_off_windows_it_does_not_fall_back(run: Run) -> None:
    result = run("top", "--once")
    assert result.code == ExitCode.USAGE and result.out == b""
    assert "top needs an engine to be named" in result.err


def test_whichever_allocation_fails_it_ends_and_leaves_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(3)
    command = ("top", "--once", "--interval", "0.1", "--engine", embedded.target)
    assert failing_allocations(run, range(1, 2000, 7), *command) > 2


# ---- on a terminal ----


@pytest.fixture
def terminal() -> Iterator[Open]:
    made: list[Terminal] = []

    def start(*arguments: str, width: int = 80, height: int = 24, stdin: bool = True, **variables: str) -> Terminal:
        made.append(Terminal(arguments, width, height, stdin, **variables))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.mark.posix
def test_it_draws_what_there_is_and_follows_it(terminal: Open) -> None:
    shown = terminal()
    lines = shown.until(lambda lines: lines[2].startswith("a second  added 0.0"))
    assert lines[0] == "wfpsa top embedded:topped  embedded, every 0.1 s"
    assert lines[1].startswith("contexts  300  both ")
    assert re.match(r"engine    up  state (< 1|\d+) s old  lag \d+  gaps 0", lines[3])
    assert len(column(lines, "PEER BY CONTEXTS")) == len(column(lines, "PEER OF THE OLDEST")) == 7
    assert lines[-1].startswith("q quit  / filter  Space pause  Tab tables")
    shown.do("[embedded.add(remote='10.99.0.1') for _ in range(700)]")
    lines = shown.until(lambda lines: lines[1].startswith("contexts  1,000 "))
    assert column(lines, "PEER BY CONTEXTS")[0] == "10.99.0.1"
    shown.press("q")
    assert shown.end() == ENDED
    assert shown.shown.count(ENTER) == 1


@pytest.mark.posix
def test_keys_sort_turn_and_pause(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.press("a")
    lines = shown.until(lambda lines: any(line.startswith("PEER BY ADDRESS") for line in lines))
    peers = [address for address in column(lines, "PEER BY ADDRESS") if ":" not in address and address != "-"]
    assert peers == sorted(peers, key=IPv4Address)
    shown.press("r\t")
    lines = shown.until(lambda lines: not any(line.startswith("PEER OF THE OLDEST") for line in lines[1:]))
    assert len(column(lines, "PEER BY RATE")) == 16
    shown.press("\x1b[A\x1bOP\t")  # an arrow and a function key are none of its keys
    lines = shown.until(lambda lines: any(line.startswith("PEER OF THE OLDEST") for line in lines))
    assert not any(line.startswith("PEER BY") for line in lines)
    shown.press(" ")
    shown.until(lambda lines: lines[0].endswith("PAUSED"))
    before = shown.lines()
    shown.do("embedded.add()")
    lines = shown.after(0.5)
    assert lines[:3] + lines[4:] == before[:3] + before[4:]
    shown.press("\t")  # what was not shown is shown as it is now
    shown.until(lambda lines: len(column(lines, "PEER BY RATE")) == len(column(lines, "PEER OF THE OLDEST")) == 7)
    shown.press("p")
    shown.until(lambda lines: lines[1].startswith("contexts  301 ") and not lines[0].endswith("PAUSED"))
    shown.press("q")
    assert shown.end() == ENDED


@pytest.mark.posix
def test_a_filter_is_typed_refused_applied_and_dropped(terminal: Open) -> None:
    shown = terminal()
    shown.do("[embedded.add(remote='10.99.0.1') for _ in range(3)]")
    shown.until(lambda lines: lines[1].startswith("contexts  303"))
    shown.press("/10.99.0.0/q")
    shown.until(lambda lines: lines[-1].startswith("peers in 10.99.0.0/q_"))
    shown.press("\r")
    shown.until(lambda lines: "'10.99.0.0/q' does not appear to be an IPv4 or IPv6 network" in lines[-1])
    shown.press("\x7f24\r")
    lines = shown.until(lambda lines: lines[0].endswith("peers in 10.99.0.0/24"))
    assert lines[1].startswith("contexts  3 ") and column(lines, "PEER BY") == ["10.99.0.1"]
    assert column(lines, "PEER OF THE OLDEST") == ["10.99.0.1"] * 3
    shown.press("\x1b")
    lines = shown.until(lambda lines: lines[1].startswith("contexts  303"))
    assert "peers in" not in lines[0]
    shown.press("q")
    assert shown.end() == ENDED


@pytest.mark.posix
def test_it_ends_by_itself_when_the_time_is_up(terminal: Open) -> None:
    assert terminal("--for", "300ms").end() == ENDED


@pytest.mark.posix
def test_ctrl_c_ends_it(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.press("\x03")
    assert shown.end() == ENDED


@pytest.mark.posix_signal
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_and_the_terminal_is_as_before(terminal: Open, name: str) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.process.send_signal(getattr(signal, name))
    assert shown.end() == ENDED


@pytest.mark.posix
def test_an_error_while_it_draws_leaves_the_terminal_as_before(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.do(
        "from wfpsa.cli import top_figures as t; t.Observer.read = lambda self: (_ for _ in ()).throw(MemoryError)"
    )
    assert shown.end() == (ExitCode.FAILURE, ["wfpsa: out of memory", "alive {}"])


@pytest.mark.posix_signal
def test_a_stop_from_the_keyboard_leaves_the_screen_first_and_comes_back(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.press("\x1a")  # nobody could make the only process of a session go on: the system does not stop it
    end = time.monotonic() + WAIT
    while shown.shown.count(ENTER) < 2:
        assert time.monotonic() < end
        shown._read(0.5)
    shown.press("q")
    assert shown.end() == ENDED
    assert shown.shown.count(LEAVE) == 2


@pytest.mark.posix
def test_an_engine_that_goes_away_is_shown_as_it_was_and_is_followed_again_when_it_is_back(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.do("embedded.stop_service()")
    lines = shown.until(lambda lines: lines[3].startswith("engine    DOWN "))
    assert lines[1].startswith("contexts  300")
    shown.until(lambda lines: "EPT_S_NOT_REGISTERED (FwpmEngineOpen0)  last state" in lines[3])
    shown.do("embedded.start_service(); embedded.seed(40, 5)")
    lines = shown.until(lambda lines: lines[3].startswith("engine    up") and lines[1].startswith("contexts  40 "))
    assert "resyncs 1" in lines[3]
    shown.press("q")
    assert shown.end() == ENDED


@pytest.mark.posix
def test_it_fits_small_terminals_and_follows_a_change_of_size(terminal: Open) -> None:
    shown = terminal(width=40, height=10)
    lines = shown.until(lambda lines: lines[1].startswith("contexts  300"))
    assert len(column(lines, "PEER BY CONTEXTS")) == 3 and lines[-1].startswith("q quit")
    shown.press("\t")
    shown.until(lambda lines: any(line.startswith("PEER OF THE OLDEST") for line in lines))
    for width, height in ((80, 24), (12, 4), (3, 2), (200, 60), (40, 10)):
        shown.resize(width, height)
        shown.until(
            lambda lines, width=width: lines[0] == "wfpsa top embedded:topped  embedded, every 0.1 s"[:width].rstrip()
        )
    shown.press("q")
    assert shown.end() == ENDED


@pytest.mark.posix
@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_respected(terminal: Open, variables: dict[str, str], coloured: bool) -> None:
    shown = terminal(**variables)
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.press("q")
    assert shown.end() == ENDED
    assert bool(re.search(rb"\x1b\[(\d+;)*3\d(;\d+)*m", shown.shown)) is coloured


@pytest.mark.posix
@pytest.mark.needs_pyarrow
def test_a_target_that_the_terminal_cannot_write_is_escaped(
    terminal: Open, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, tmp_path: Path
) -> None:
    embedded.seed(10)
    file = tmp_path / "b\N{LATIN SMALL LETTER U WITH DIAERESIS}ro.arrow"
    engine.snapshot().save(file)
    target = f"embedded:?replay={file}"
    shown = terminal("--engine", target, width=300, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    lines = shown.until(lambda lines: lines[1].startswith("contexts  10 "))
    assert r"b\xfcro.arrow  embedded, every 0.1 s" in lines[0]
    shown.press("q")
    assert shown.end() == ENDED


@pytest.mark.posix
def test_a_terminal_that_cannot_move_its_cursor_is_none(terminal: Open) -> None:
    code, said = terminal(TERM="dumb").end()
    assert code == ExitCode.USAGE and "--once" in said[0]


@pytest.mark.posix
def test_without_keys_it_draws_all_the_same(terminal: Open) -> None:
    shown = terminal(stdin=False)
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    shown.process.send_signal(signal.SIGTERM)
    assert shown.end() == ENDED


@pytest.mark.posix
def test_a_terminal_that_goes_away_ends_it(terminal: Open) -> None:
    shown = terminal()
    shown.until(lambda lines: lines[1].startswith("contexts  300"))
    for descriptor in (shown.ours, shown.its):
        os.close(descriptor)
    shown.ours = shown.its = -1
    assert shown.process.stderr is not None
    said = shown.process.stderr.read().decode().splitlines()
    assert said[-1] == "alive {}" and not any("Traceback" in line for line in said)
    assert shown.process.wait(WAIT) in (ExitCode.DONE, ExitCode.FAILURE)

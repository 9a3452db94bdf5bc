"""Tests of `wfpsa watch`: changes and gaps as they happen, and each of the ways in which it ends."""

import _thread
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import pytest
from command import Result, Run, environment, failing_allocations

import wfpsa
import wfpsa.cli.app  # which keeps output.write by name: imported before a test patches it
from wfpsa import testing
from wfpsa.cli import output, watch
from wfpsa.cli.common import ExitCode

WAIT = 60.0
"""Seconds for what must happen."""
ENDING = ["SIGINT", "SIGTERM", *(["SIGBREAK"] if sys.platform == "win32" else [])]


def until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


following = threading.Event()
"""Set once the command of this process writes what happens, and may be ended."""


@pytest.fixture(autouse=True)
def follows(monkeypatch: pytest.MonkeyPatch) -> None:
    original = watch._follow

    def follow(*arguments: Any) -> bool:
        following.set()
        return original(*arguments)

    following.clear()
    monkeypatch.setattr(watch, "_follow", follow)


def is_watched() -> bool:
    return following.is_set() and testing.live_counters()["subscriptions"] > 0


@contextlib.contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Does that in another thread, which the block waits for, as soon as somebody watches."""
    errors: list[BaseException] = []

    def act() -> None:
        try:
            until(is_watched)
            action()
        except BaseException as error:
            errors.append(error)
            if is_watched():
                _thread.interrupt_main()  # it must not wait for ever

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert errors == []


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What has been written to stdout until now, write by write."""
    writes: list[bytes] = []
    original = output.write

    def write(data: bytes) -> bool:
        done = original(data)
        writes.append(data)
        return done

    monkeypatch.setattr(output, "write", write)
    return writes


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silence is looked into after 20 ms."""
    monkeypatch.setattr("wfpsa.cli.watch._PULSE", 0.02)


def fields(result: Result) -> list[list[str]]:
    return [line.split() for line in result.lines]


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.lines]


def press_ctrl_c() -> None:
    _thread.interrupt_main()


# ---- what it shows ----


def test_a_line_has_time_kind_id_and_number(
    run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, written: list[bytes]
) -> None:
    ids: list[int] = []

    def change() -> None:
        ids.extend(embedded.add() for _ in range(2))
        engine.delete(ids[0])
        until(lambda: len(written) == 3)
        press_ctrl_c()

    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with meanwhile(change):
        result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    found = fields(result)
    assert [row[1:] for row in found] == [
        ["ADDED", str(ids[0]), "1"],
        ["ADDED", str(ids[1]), "2"],
        ["DELETED", str(ids[0]), "3"],
    ]
    times = [datetime.fromisoformat(row[0]) for row in found]
    ordered = [before, *times, datetime.now(UTC)]
    assert ordered == sorted(ordered)
    assert all(row[0] == datetime.fromisoformat(row[0]).isoformat(timespec="milliseconds") for row in found)
    assert all(row[0].endswith("+00:00") for row in found)


def test_a_json_line_has_the_same(
    run: Run, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, written: list[bytes]
) -> None:
    ids: list[int] = []

    def change() -> None:
        ids.append(embedded.add(context_id=2**64 - 1))
        engine.delete(ids[0])
        until(lambda: len(written) == 2)
        press_ctrl_c()

    with meanwhile(change):
        result = run("watch", "--format", "jsonl", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    found = objects(result)
    assert [list(each) for each in found] == [["time", "kind", "context_id", "sequence"]] * 2
    assert [(each["kind"], each["context_id"], each["sequence"]) for each in found] == [
        ("ADDED", 2**64 - 1, 1),
        ("DELETED", 2**64 - 1, 2),
    ]
    assert all(datetime.fromisoformat(str(each["time"])).utcoffset() == timedelta(0) for each in found)


def test_what_was_there_before_is_not_shown(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(20)
    result = run("watch", "--for", "50ms", "--engine", embedded.target)
    assert (result.code, result.out) == (ExitCode.DONE, b"")
    assert result.err.splitlines() == [
        f"wfpsa: watching {embedded.target}",
        f"wfpsa: 0 changes, 0 lost while watching {embedded.target}",
    ]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], [0, 1, 2, 3]),
        (["--local", "10.1.0.0/16"], [0, 1]),
        (["--remote", "10.9.2.0/24"], [1, 2]),
        (["--local", "10.1.0.0/16", "--remote", "10.9.2.0/24"], [1]),
        (["--remote", "2001:db8::/32"], [3]),
        (["--remote", "192.0.2.0/24"], []),
    ],
)
def test_subnets_choose(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], options: list[str], shown: list[int]
) -> None:
    pairs = [
        ("10.1.0.1", "10.9.1.1"),
        ("10.1.0.2", "10.9.2.2"),
        ("10.2.0.3", "10.9.2.3"),
        ("2001:db8::1", "2001:db8::2"),
    ]
    ids: list[int] = []

    def change() -> None:
        with embedded.open() as other, other.subscribe() as all_of_them:
            ids.extend(embedded.add(*pair) for pair in pairs)
            for _ in pairs:
                assert all_of_them.get(WAIT)
        until(lambda: len(written) == len(shown))
        press_ctrl_c()

    with meanwhile(change):
        result = run("watch", *options, "--engine", embedded.target)
    assert [row[1:3] for row in fields(result)] == [["ADDED", str(ids[at])] for at in shown]


def test_five_thousand_changes_come_in_their_order_and_none_is_lost(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes]
) -> None:
    seen: list[wfpsa.SaChange | wfpsa.Gap] = []

    def churn() -> None:
        embedded.seed(100)
        until(lambda: len(written) == 100)
        with embedded.open() as other, other.subscribe() as changes:
            embedded.churn(1000, 5)
            for _ in range(25):
                embedded.advance(0.1)
            embedded.churn(0)
            last = embedded.add()
            while not seen or seen[-1][:2] != (wfpsa.ChangeKind.ADDED, last):
                event = changes.get(WAIT)
                assert event is not None
                seen.append(event)
        until(lambda: len(written) == 100 + len(seen))
        press_ctrl_c()

    with meanwhile(churn):
        result = run("watch", "--format", "jsonl", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert len(seen) >= 5000
    found = objects(result)
    assert [each["sequence"] for each in found] == list(range(1, 100 + len(seen) + 1))
    told = [(event.kind.name, event.context_id) for event in seen if isinstance(event, wfpsa.SaChange)]
    assert [(each["kind"], each["context_id"]) for each in found[100:]] == told
    times = [str(each["time"]) for each in found]
    assert times == sorted(times)
    assert f"{100 + len(seen)} changes, 0 lost" in result.err


def test_a_change_is_written_while_another_session_holds_the_lock(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], hasty: None
) -> None:
    def change() -> None:
        with embedded.open() as other:
            with other.transaction():
                for count in range(1, 6):
                    time.sleep(0.05)  # it looks into the silence
                    embedded.add()
                    until(lambda count=count: len(written) == count)
            press_ctrl_c()

    with meanwhile(change):
        result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert [row[3] for row in fields(result)] == ["1", "2", "3", "4", "5"]


def test_looking_into_the_silence_leaves_nothing_and_misses_nothing(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wfpsa.cli.watch._PULSE", 0.001)

    def change() -> None:
        for _ in range(300):
            embedded.add()
            time.sleep(0.002)
        until(lambda: len(written) == 300)
        until(lambda: testing.live_counters()["subscriptions"] == 1)
        press_ctrl_c()

    with meanwhile(change):
        result = run("watch", "--engine", embedded.target)
    assert [int(row[3]) for row in fields(result)] == list(range(1, 301))
    assert testing.live_counters()["subscriptions"] == 0


# ---- gaps ----


@pytest.mark.parametrize("file_format", ["lines", "jsonl"])
def test_what_a_slow_reader_misses_is_a_gap_at_its_place(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    writes: list[bytes] = []
    goes_on = threading.Event()
    original = output.write

    def slow_write(data: bytes) -> bool:
        writes.append(data)
        assert goes_on.wait(WAIT)
        return original(data)

    monkeypatch.setattr(output, "write", slow_write)
    ids: list[int] = []

    def change() -> None:
        ids.append(embedded.add())
        until(lambda: writes)
        ids.extend(embedded.add() for _ in range(10))
        for _ in range(11):
            assert behind.get(WAIT)
        goes_on.set()
        until(lambda: len(writes) == 5)
        ids.append(embedded.add())
        until(lambda: len(writes) == 6)
        press_ctrl_c()

    with embedded.open() as other, other.subscribe() as behind, meanwhile(change):  # served in turn, later ones first
        result = run("watch", "--capacity", "3", "--format", file_format, "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    if file_format == "lines":
        found = [row[1:] for row in fields(result)]
        assert found[:4] == [["ADDED", str(ids[at]), str(at + 1)] for at in range(4)]
        assert found[4:] == [["GAP", "7", "lost"], ["ADDED", str(ids[11]), "12"]]
    else:
        found = objects(result)
        assert [each.get("sequence") for each in found] == [1, 2, 3, 4, None, 12]
        assert list(found[4]) == ["time", "gap"] and found[4]["gap"] == 7
    assert "wfpsa: 7 or more changes were lost here; --capacity lets more of them wait" in result.err
    assert "wfpsa: 5 changes, 7 or more lost while watching" in result.err


@pytest.mark.parametrize("ending", ["--for", "ctrl-c"])
def test_what_the_engine_itself_lost_is_a_gap_at_the_end(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], ending: str
) -> None:
    embedded.switch(overflow="reported")
    embedded.notifications(capacity=2, held=True)
    ids: list[int] = []

    def change() -> None:
        ids.extend(embedded.add() for _ in range(5))
        embedded.notifications(capacity=2)
        until(lambda: len(written) >= 2)
        if ending == "ctrl-c":
            press_ctrl_c()

    with meanwhile(change):
        duration = ["--for", "1s"] if ending == "--for" else []
        result = run("watch", "--format", "jsonl", *duration, "--engine", embedded.target)
    found = objects(result)
    assert [each.get("context_id") for each in found] == [*ids[:2], None]
    assert found[2]["gap"] == 1
    assert "2 changes, 1 or more lost" in result.err


def test_what_was_told_before_the_end_is_written_though_the_time_is_up(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    original = output.write

    def slow_write(data: bytes) -> bool:
        writes.append(data)
        if len(writes) == 1:
            until(lambda: len(embedded) == 40)
            time.sleep(1.1)
        return original(data)

    monkeypatch.setattr(output, "write", slow_write)
    with meanwhile(lambda: [embedded.add() for _ in range(40)]):
        result = run("watch", "--for", "1s", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert [int(row[3]) for row in fields(result)] == list(range(1, 41))


# ---- how long ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("0.2s", 0.2),
        (".2", 0.2),
        ("0.2", 0.2),
        ("1.", 1.0),
        ("0.004m", 0.24),
        ("0.0001h", 0.36),
    ],
)
def test_for_ends_it_after_that_time(run: Run, embedded: testing.EmbeddedEngine, text: str, seconds: float) -> None:
    began = time.monotonic()
    result = run("watch", "--for", text, "--engine", embedded.target)
    assert seconds <= time.monotonic() - began < seconds + 20
    assert (result.code, result.out) == (ExitCode.DONE, b"")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("text", ["60", "60s", "10m", "1h", "9" * 300])
def test_a_long_time_may_be_ended_early(run: Run, embedded: testing.EmbeddedEngine, text: str) -> None:
    with meanwhile(press_ctrl_c):
        assert run("watch", "--for", text, "--engine", embedded.target).code == ExitCode.DONE


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0s", "0.0ms", "-1", "-5s", "s", "ms", ".", "1 s", " 1", "1S", "1d", "1h30m", "1e3", "inf", "nan"),
        *("\N{ARABIC-INDIC DIGIT THREE}s", "9" * 400, "0." + "0" * 400 + "1"),
    ],
)
def test_a_duration_that_is_none_is_a_usage_fault(run: Run, embedded: testing.EmbeddedEngine, text: str) -> None:
    result = run("watch", "--for", text, "--engine", embedded.target)
    assert result.code == ExitCode.USAGE and result.out == b""
    assert result.err.startswith("wfpsa: --for must be a number above 0, of seconds or with ms, s, m or h after it")
    assert len(result.err) < 200


def test_a_flood_does_not_keep_it_beyond_its_time(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.seed(100)
    embedded.start_clock()
    embedded.churn(20_000, 5)
    began = time.monotonic()
    result = run("watch", "--for", "400ms", "--capacity", "100", "--engine", embedded.target)
    assert time.monotonic() - began < 20
    embedded.churn(0)
    assert result.code == ExitCode.DONE
    assert result.lines


# ---- ended on purpose ----


@pytest.mark.parametrize("name", ENDING)
def test_a_signal_that_means_to_end_it_ends_it_with_0_and_a_count(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], name: str
) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def change() -> None:
        embedded.add()
        until(lambda: written)
        _thread.interrupt_main(number)

    with meanwhile(change):
        result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.DONE
    assert len(result.lines) == 1
    assert result.err.splitlines()[1:] == [f"wfpsa: 1 change, 0 lost while watching {embedded.target}"]
    assert signal.getsignal(number) == before
    assert testing.live_counters()["subscriptions"] == 0


def test_a_handler_that_somebody_installed_stays(run: Run, embedded: testing.EmbeddedEngine) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))

    def change() -> None:
        _thread.interrupt_main(signal.SIGTERM)
        until(lambda: seen)
        press_ctrl_c()

    try:
        with meanwhile(change):
            assert run("watch", "--engine", embedded.target).code == ExitCode.DONE
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_it_can_be_run_in_another_thread(run: Run, embedded: testing.EmbeddedEngine) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run("watch", "--for", "50ms", "--engine", embedded.target)))
    thread.start()
    thread.join()
    assert [result.code for result in results] == [ExitCode.DONE]


def test_ctrl_c_before_it_watches_is_an_interruption(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wfpsa.cli.watch._subscribed", interrupted)
    result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.INTERRUPTED
    assert "Traceback" not in result.err and "watching" not in result.err


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_in_the_middle_of_a_line_ends_it_and_a_second_one_at_once(
    run: Run, embedded: testing.EmbeddedEngine, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    writes: list[bytes] = []
    original = output.write

    with embedded.open() as other, other.subscribe() as behind, monkeypatch.context() as patch:

        def write(data: bytes) -> bool:
            writes.append(data)
            if len(writes) == 1:
                for _ in range(30):
                    assert behind.get(WAIT)
            if len(writes) <= at:
                raise KeyboardInterrupt
            return original(data)

        patch.setattr(output, "write", write)
        with meanwhile(lambda: [embedded.add() for _ in range(30)]):
            result = run("watch", "--engine", embedded.target)
    assert result.code == (ExitCode.DONE if at == 1 else ExitCode.INTERRUPTED)
    assert "Traceback" not in result.err
    assert testing.live_counters()["subscriptions"] == 0


# ---- ended by something else ----


@pytest.mark.parametrize("what", ["stopped", "stopped_otherwise", "restarted"])
def test_a_service_that_stops_ends_it_as_a_failure_that_says_so(
    run: Run, embedded: testing.EmbeddedEngine, written: list[bytes], hasty: None, what: str
) -> None:
    def change() -> None:
        embedded.add()
        until(lambda: written)
        if what == "restarted":
            embedded.restart_service()
            embedded.add()  # is told nobody
        else:
            embedded.stop_service(1722 if what == "stopped" else 1726)

    began = time.monotonic()
    with meanwhile(change):
        result = run("watch", "--for", "40s", "--engine", embedded.target)
    assert time.monotonic() - began < 20
    assert result.code == ExitCode.FAILURE
    assert len(result.lines) == 1
    said = result.err.splitlines()
    assert len(said) == 3
    assert f"wfpsa: {embedded.target} tells no changes any more, its service stopped or was restarted" in said[1]
    assert said[2] == "1 change, 0 lost until then; wfpsa watch begins anew"
    assert testing.live_counters()["subscriptions"] == 0


@pytest.mark.parametrize("ending", ["--for", "ctrl-c"])
def test_a_watch_that_ends_after_its_service_did_does_not_pretend(
    run: Run, embedded: testing.EmbeddedEngine, ending: str
) -> None:
    def change() -> None:
        embedded.restart_service()
        if ending == "ctrl-c":
            press_ctrl_c()

    with meanwhile(change):
        result = run("watch", *(["--for", "900ms"] if ending == "--for" else []), "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert "its service stopped or was restarted" in result.err


def test_an_engine_that_no_longer_answers_for_another_reason_ends_it(
    run: Run, embedded: testing.EmbeddedEngine, hasty: None
) -> None:
    embedded.fail("IPsecSaContextSubscribe0", 3, 1753)
    result = run("watch", "--for", "20s", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert "IPsecSaContextSubscribe0: EPT_S_NOT_REGISTERED (1753)" in result.err


def test_a_service_that_does_not_run_is_a_failure_with_advice(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.stop_service(1753)
    result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.FAILURE
    assert "sc start BFE" in result.err


def test_whichever_allocation_fails_it_ends_and_leaves_nothing(run: Run, embedded: testing.EmbeddedEngine) -> None:
    assert failing_allocations(run, range(1, 200), "watch", "--for", "1ms", "--engine", embedded.target) > 2


# ---- refused ----


def test_a_user_without_the_right_is_told_which_it_is(run: Run, embedded: testing.EmbeddedEngine) -> None:
    embedded.rights("everyone")
    result = run("watch", "--engine", embedded.target)
    assert result.code == ExitCode.DENIED and result.out == b""
    assert "IPsecSaContextSubscribe0: ERROR_ACCESS_DENIED (5)" in result.err
    assert "the right FWPM_ACTRL_SUBSCRIBE" in result.err and "run it elevated" in result.err
    assert "watching embedded" not in result.err


@pytest.mark.parametrize("profile", ["read_only", "network_operator"])
def test_a_user_with_the_right_watches(run: Run, embedded: testing.EmbeddedEngine, hasty: None, profile: str) -> None:
    embedded.rights(profile)
    assert run("watch", "--for", "100ms", "--engine", embedded.target).code == ExitCode.DONE


@pytest.mark.posix
@pytest.mark.parametrize("extra", [[], ["--for", "1s"]])
def test_off_windows_it_does_not_fall_back(run: Run, extra: list[str]) -> None:
    result = run("watch", *extra)
    assert result.code == ExitCode.USAGE and result.out == b""
    assert "watch needs an engine to be named" in result.err


@pytest.mark.posix
def test_on_windows_it_watches_the_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def no_engine(target: str) -> wfpsa.Engine:
        asked.append(target)
        raise wfpsa.EngineUnavailable(1753, "FwpmEngineOpen0")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(wfpsa, "open_engine", no_engine)
    assert run("watch").code == ExitCode.FAILURE
    assert asked == ["windows:"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--capacity", "0"], "--capacity"),
        (["--capacity", "-1"], "--capacity"),
        (["--capacity", str(2**28 + 1)], "--capacity"),
        (["--capacity", "many"], "--capacity"),
        (["--format", "csv"], "--format"),
        (["--local", "10.0.0.0/33"], "10.0.0.0/33"),
        (["--remote", "here"], "here"),
        (["--local", "10.0.0.0/8", "--remote", "2001:db8::/32"], "of one address family"),
        (["extra"], "extra"),
    ],
)
def test_wrong_arguments_are_a_usage_fault_that_names_them(
    run: Run, embedded: testing.EmbeddedEngine, arguments: list[str], message: str
) -> None:
    result = run("watch", *arguments, "--engine", embedded.target)
    assert result.code == ExitCode.USAGE and result.out == b""
    assert result.err.startswith("wfpsa: ") and message in result.err
    assert len(result.err.splitlines()) == 1


def test_help_has_the_exit_codes(run: Run) -> None:
    result = run("watch", "--help")
    assert result.code == ExitCode.DONE
    assert "4 nothing matched" in " ".join(result.text.split())


# ---- in a process of its own ----

CHILD = """
import os, sys, threading
from wfpsa import testing
from wfpsa.cli import main

embedded = testing.EmbeddedEngine("watched")
busy = threading.Lock()

def obey():
    text = b""
    while part := os.read(0, 1):
        text += part
        if part == b"\\n":
            with busy:
                exec(text.decode(), {"embedded": embedded})
            text = b""

threading.Thread(target=obey, daemon=True).start()
code = main(["watch", "--engine", embedded.target, *sys.argv[1:]])
with busy:
    embedded.close()
print("alive", {name: count for name, count in testing.live_counters().items() if count}, file=sys.stderr)
sys.exit(code)
"""


class Child:
    """A process that watches its embedded engine, and does with that what it is told."""

    def __init__(self, arguments: Sequence[str], stdout: int | IO[bytes]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,  # communicate() would not give what a line's reading had read ahead
        )
        assert self.process.stderr is not None
        assert self.process.stderr.readline().decode().rstrip() == "wfpsa: watching embedded:watched"

    def do(self, code: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{code}\n".encode())
        self.process.stdin.flush()

    def line(self) -> list[str]:
        """The next line, which comes while the process goes on."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.endswith("\n"), "it ended"
        return line.split()

    def end(self) -> tuple[int, list[str], list[str]]:
        """The exit code, and what was still written to stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=WAIT)
        return self.process.returncode, (stdout or b"").decode().splitlines(), stderr.decode().splitlines()


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def start(*arguments: str, stdout: int | IO[bytes] = subprocess.PIPE) -> Child:
        children.append(Child(arguments, stdout))
        return children[-1]

    yield start
    for each in children:
        with each.process as process:
            process.kill()


def test_each_line_is_there_at_once_in_a_pipe(child: Callable[..., Child]) -> None:
    watching = child("--for", "1h")
    for number in ("1", "2", "3"):
        watching.do("embedded.add()")
        assert watching.line()[1::2] == ["ADDED", number]
    assert watching.process.poll() is None


def test_it_ends_by_itself_when_the_time_is_up(child: Callable[..., Child]) -> None:
    code, stdout, stderr = child("--for", "100ms").end()
    assert (code, stdout) == (ExitCode.DONE, [])
    assert stderr == ["wfpsa: 0 changes, 0 lost while watching embedded:watched", "alive {}"]


@pytest.mark.posix_signal
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("file_format", ["lines", "jsonl"])
def test_a_signal_from_outside_ends_it_cleanly(child: Callable[..., Child], name: str, file_format: str) -> None:
    watching = child("--format", file_format)
    watching.do("[embedded.add() for _ in range(3)]")
    for _ in range(3):
        watching.line()
    watching.process.send_signal(getattr(signal, name))
    code, stdout, stderr = watching.end()
    assert (code, stdout) == (ExitCode.DONE, [])
    assert stderr == ["wfpsa: 3 changes, 0 lost while watching embedded:watched", "alive {}"]


@pytest.mark.posix_signal
def test_a_signal_in_a_flood_ends_it_with_whole_lines_without_a_hole(child: Callable[..., Child]) -> None:
    watching = child("--format", "jsonl")
    watching.do("embedded.seed(100); embedded.churn(5000, 5)")
    numbers = [json.loads(" ".join(watching.line())) for _ in range(500)]
    watching.process.send_signal(signal.SIGTERM)
    code, stdout, stderr = watching.end()
    assert code == ExitCode.DONE
    numbers += map(json.loads, stdout)
    found = [each["sequence"] for each in numbers]
    missing = len(set(range(1, found[-1] + 1)) - set(found))
    assert found == sorted(set(found)) and missing <= 1  # the one that was being read when the signal came
    assert stderr[-1] == "alive {}" and not any("Traceback" in line for line in stderr)


@pytest.mark.posix
def test_a_reader_that_goes_away_ends_it_quietly_at_the_next_change(child: Callable[..., Child]) -> None:
    watching = child()
    watching.do("embedded.add()")
    watching.line()
    assert watching.process.stdout is not None and watching.process.stderr is not None
    watching.process.stdout.close()
    watching.do("embedded.add()")
    assert watching.process.stderr.read().decode().splitlines() == ["alive {}"]
    assert watching.process.wait(WAIT) == ExitCode.DONE


@pytest.mark.posix
def test_a_reader_that_goes_away_ends_it_quietly_though_nothing_changes(child: Callable[..., Child]) -> None:
    watching = child()
    watching.do("embedded.add()")
    watching.line()
    assert watching.process.stdout is not None and watching.process.stderr is not None
    watching.process.stdout.close()
    assert watching.process.stderr.read().decode().splitlines() == ["alive {}"]
    assert watching.process.wait(WAIT) == ExitCode.DONE


@pytest.mark.posix
def test_a_full_disk_is_a_failure(child: Callable[..., Child]) -> None:
    with open("/dev/full", "wb") as full:
        watching = child(stdout=full)
    watching.do("embedded.add()")
    code, _, stderr = watching.end()
    assert code == ExitCode.FAILURE
    assert stderr == [f"wfpsa: cannot write to standard output: {os.strerror(errno.ENOSPC)}", "alive {}"]


@pytest.mark.parametrize("how", ["stop", "restart"])
def test_a_service_that_stops_while_it_watches_ends_the_process_with_1(child: Callable[..., Child], how: str) -> None:
    watching = child()
    watching.do("embedded.add()")
    watching.line()
    watching.do(f"embedded.{how}_service()")
    code, stdout, stderr = watching.end()
    assert (code, stdout) == (ExitCode.FAILURE, [])
    assert "its service stopped or was restarted" in stderr[0]
    assert stderr[1:] == ["1 change, 0 lost until then; wfpsa watch begins anew", "alive {}"]


def test_off_a_terminal_there_are_no_escape_codes(child: Callable[..., Child]) -> None:
    watching = child()
    watching.do("embedded.add()")
    shown = watching.line()
    watching.do("import _thread; _thread.interrupt_main()")
    code, stdout, stderr = watching.end()
    assert code == ExitCode.DONE and stdout == []
    assert "\x1b" not in "".join(shown + stderr)

"""Tests of `wfpsa serve`: what it answers over HTTP, where it listens, and how it ends."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from command import Run, environment
from prometheus_client.parser import text_string_to_metric_families

from wfpsa.cli.common import ExitCode


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running `wfpsa serve`, and where it is."""
    command = [sys.executable, "-m", "wfpsa", "serve", "--engine", "embedded:?contexts=1000&seed=7", *arguments]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"at (http://\S+)/metrics, health at /healthz", line)
            assert found, line + process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def fetched(url: str) -> tuple[int, str]:
    """The status and the text there."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_scrape_over_http_parses_and_has_the_contexts() -> None:
    with served("--listen", "127.0.0.1:0", "--top-peers", "3") as (_, url):
        status, text = fetched(f"{url}/metrics")
        assert status == 200
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert sum(sample.value for sample in families["wfpsa_contexts"].samples) == 1000
        assert [sample.value for sample in families["wfpsa_up"].samples] == [1]
        assert len(families["wfpsa_peer_contexts"].samples) == 3
        status, text = fetched(f"{url}/healthz")
        assert status == 200 and text.startswith("ok: 1000 contexts, ")
        assert fetched(f"{url}/other")[0] == 404


@pytest.mark.posix_signal
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: int) -> None:
    with served("--listen", "127.0.0.1:0") as (process, url):
        assert fetched(f"{url}/healthz")[0] == 200
        process.send_signal(number)
        assert process.wait(30) == ExitCode.DONE
        assert process.stderr is not None
        assert process.stderr.read() == "wfpsa: ended\n"


def test_a_key_before_it_serves_ends_it_as_well(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "wfpsa-serve":
            raise KeyboardInterrupt
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    result = run("serve", "--engine", "embedded:?contexts=10", "--listen", "127.0.0.1:0")
    assert result.code == ExitCode.DONE and result.err.endswith("wfpsa: ended\n")


def test_an_address_that_others_can_reach_is_warned_of() -> None:
    with served("--listen", "0.0.0.0:0") as (process, _):
        assert process.stderr is not None
        assert "whoever can reach 0.0.0.0 can read them" in process.stderr.readline()


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "localhost:80", "127.0.0.1:65536", "127.0.0.1:x", ":80", "[::1]"])
def test_what_is_no_address_and_port_is_a_usage_fault(run: Run, listen: str) -> None:
    result = run("serve", "--engine", "embedded:", "--listen", listen)
    assert result.code == ExitCode.USAGE and "--listen takes an address and a port" in result.err


def test_a_port_that_is_taken_is_named(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--engine", "embedded:", "--listen", f"127.0.0.1:{port}")
    assert result.code == ExitCode.FAILURE and f"cannot listen on 127.0.0.1, port {port}" in result.err


@pytest.mark.posix
def test_it_needs_an_engine_to_be_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WFPSA_ENGINE", raising=False)
    result = run("serve")
    assert result.code == ExitCode.USAGE and "serve needs an engine to be named off Windows" in result.err

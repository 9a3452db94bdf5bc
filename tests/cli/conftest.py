"""The command under test, run in this process or in one of its own."""

import subprocess
import sys
from typing import Any

import pytest
from command import Result, Run, environment

from wfpsa import testing
from wfpsa.cli import main


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs the command in this process, where the embedded engines of the test are."""

    def run(*arguments: object) -> Result:
        capsysbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return run


@pytest.fixture
def expire(run: Run, embedded: testing.EmbeddedEngine) -> Run:
    """Runs `wfpsa expire` on the embedded engine of the test."""
    return lambda *arguments: run("expire", "--engine", embedded.target, *arguments)


@pytest.fixture
def spawn() -> Run:
    """Runs `python -m wfpsa` in a process of its own, or with `code=` that code."""

    def spawn(*arguments: object, code: str | None = None, **options: Any) -> Result:
        start = ["-m", "wfpsa"] if code is None else ["-c", code]
        variables = environment(**options.pop("env", {}))
        done = subprocess.run(
            [sys.executable, *start, *map(str, arguments)], env=variables, capture_output=True, timeout=60, **options
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    return spawn

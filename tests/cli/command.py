"""What a run of the command leaves, and the environment that a process of its own needs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import wfpsa


@dataclass(frozen=True)
class Result:
    """What a run of the command left: its exit code, the bytes of stdout, the text of stderr."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


Run = Callable[..., Result]


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process of its own, which finds the same wfpsa."""
    paths = [str(Path(wfpsa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, **variables, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

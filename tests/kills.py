"""Mass expiries whose process is killed again and again: what is lost by that, and what is told wrongly.

`python tests/kills.py [--plans N] [--seed N]` prints the figures and fails where there is one of either. The engine is
the embedded one, of this process, and serves calls as the OS's service does; the client, which applies a plan and keeps
its journal, is a process of its own, killed before a call is served, before its answer, or some time after it.
"""

import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import wfpsa
from wfpsa import Guard, Outcome, _native, testing
from wfpsa.plan import ExpiryPlan

HELLO, CALL, DONE, DEAD = range(4)
ASKED = struct.Struct("<BIQ")
"""From the client: what, in which run, and its process id or the row that it calls."""
ANSWERED = struct.Struct("<IBBI")
"""To the client: to which run, its sessions (0: an answer), an outcome and a code."""
CONTEXTS = 120
PEER = "10.9.0.1"


def _read(handle: int, size: int) -> bytes:
    """So many bytes; fewer at the end."""
    data = b""
    while len(data) < size and (part := os.read(handle, size - len(data))):
        data += part
    return data


# ---- the client, which is killed ----


class RemoteSession:
    """A session of the engine in the other process, one call at a time over the pipes."""

    def __init__(self, run: int, lock: threading.Lock) -> None:
        self._run = run
        self._lock = lock

    def expire_slice(
        self, items: _native.ExpiryItems, first: int, stop: int, seen: _native.SaBatch | None, cautious: bool = False
    ) -> tuple[int, bool]:
        """As that of a real session."""
        assert seen is not None, "every expiry here is verified"
        for row in range(first, stop):
            outcome, code, attempts = int(Outcome.SKIPPED), 0, items.attempts[row]
            if items.guard[row] == Guard.NONE:
                with self._lock:
                    os.write(1, ASKED.pack(CALL, self._run, row))
                    run = -1
                    while run != self._run:  # an answer to one that was killed may still be in the pipe
                        run, _, outcome, code = ANSWERED.unpack(_read(0, ANSWERED.size))
                attempts += 1
            items.restore(row, bytes([outcome]), code.to_bytes(4, sys.byteorder), bytes([attempts]))
        return stop, False

    def close(self) -> None:
        """Ends nothing."""


class RemoteEngine:
    """What an application needs of an engine, over the pipes."""

    def __init__(self, target: str, run: int) -> None:
        self.target = target
        self._run = run
        self._lock = threading.Lock()

    def _own_session(self) -> RemoteSession:
        return RemoteSession(self._run, self._lock)

    _another_session = _own_session


def _apply(plan: str, journal: str, run: int, sessions: int) -> None:
    os.write(1, ASKED.pack(HELLO, run, os.getpid()))
    begun = ExpiryPlan.resume(journal) if os.path.exists(journal) else ExpiryPlan.load(plan)
    begun.apply(RemoteEngine(begun.engine, run), sessions=sessions, journal=journal)  # type: ignore[arg-type]
    os.write(1, ASKED.pack(DONE, run, 0))


def client(plan: str, journal: str) -> None:
    """Applies the plan, or goes on with its journal, each time that the other side says so; in a fork, if it can."""
    while len(said := _read(0, ANSWERED.size)) == ANSWERED.size:
        run, sessions, _, _ = ANSWERED.unpack(said)
        if not sessions:
            continue
        if not hasattr(os, "fork"):
            _apply(plan, journal, run, sessions)
        elif (child := os.fork()) == 0:
            _apply(plan, journal, run, sessions)
            os._exit(0)
        else:
            os.waitpid(child, 0)
        os.write(1, ASKED.pack(DEAD, run, 0))


# ---- the other side ----


@dataclass
class Figures:
    """What was done, and what should not have been."""

    plans: int = 0
    runs: int = 0
    kills: int = 0
    ids: int = 0
    expired: int = 0
    cut_off: int = 0
    lost: int = 0
    """Ids without an outcome, or of which nobody can tell that their expiry was not noted."""
    wrong: int = 0
    """Ids reported as expired that were not, or expired though they were spared or another's."""

    def __str__(self) -> str:
        return (
            f"{self.plans} plans of {self.ids} ids in {self.runs} runs, of which {self.kills} were killed: "
            f"{self.expired} reported as expired, {self.cut_off} as cut off; {self.lost} lost, {self.wrong} wrong"
        )


class Client:
    """The process of the client; started anew where it was killed itself."""

    def __init__(self, plan: Path, journal: Path) -> None:
        self._arguments = ["--client", str(plan), str(journal)]
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait(30)
        self._process = None

    def begin(self, run: int, sessions: int) -> None:
        """Has it apply the plan or go on with it."""
        if self._process is not None and self._process.poll() is not None:
            self._end()  # killed when it had told its end already
        if self._process is None:
            paths = [str(Path(wfpsa.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                [sys.executable, __file__, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        self._send(ANSWERED.pack(run, sessions, 0, 0))

    def _send(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(data)

    def asked(self) -> tuple[int, int]:
        """What it asks next; DEAD where it is."""
        assert self._process is not None and self._process.stdout is not None
        data = _read(self._process.stdout.fileno(), ASKED.size)
        if len(data) < ASKED.size:
            self._end()
            return DEAD, 0
        kind, _, value = ASKED.unpack(data)
        if kind == HELLO:
            self._pid = value
        return kind, value

    def answer(self, run: int, outcome: int, code: int) -> None:
        """Tells it what became of its call."""
        self._send(ANSWERED.pack(run, 0, outcome, code))

    def kill(self) -> None:
        """Kills it, or its fork that is at work."""
        if hasattr(os, "fork"):
            with suppress(ProcessLookupError):  # it has just come to its end
                os.kill(self._pid, 9)
        else:
            assert self._process is not None
            self._process.kill()
            self._process.wait(30)


class Trial:
    """One plan, applied over as many runs as it takes."""

    def __init__(
        self, folder: Path, engine: wfpsa.Engine, control: testing.EmbeddedEngine, chance: random.Random
    ) -> None:
        self._chance = chance
        self._control = control
        self._engine = engine
        for at in range(CONTEXTS):
            control.add(PEER, f"10.9.1.{at + 1}")
        self._innocent = {control.add(PEER, f"10.9.2.{at + 1}") for at in range(20)}
        batch = engine.snapshot()
        chosen = batch.where(remote="10.9.1.0/24")
        self._spared = set(chance.sample(chosen["context_id"].tolist(), 5))
        self.plan = engine.plan_expiry(chosen, exclude=self._spared)
        self._ids = self.plan.contexts["context_id"].tolist()
        self._items = _native.ExpiryItems(self.plan.contexts)
        self._really: set[int] = set()
        self._deleted: set[int] = set()
        self._path, self._journal = folder / "plan.json", folder / "journal"
        self.plan.save(self._path, overwrite=True)
        self._journal.unlink(missing_ok=True)

    def run(self, client: Client, figures: Figures) -> None:
        """Until a run comes to its end."""
        figures.plans += 1
        figures.ids += len(self._ids)
        killed = True
        while killed:
            figures.runs += 1
            killed = self._one(client, figures.runs)
            figures.kills += killed
        self._check(figures)

    def _one(self, client: Client, run: int) -> bool:
        """One run; whether it was killed."""
        chance = self._chance
        client.begin(run, chance.choice((1, 1, 2, 4)))
        left, way, dying, done = chance.randrange(1, 60), chance.choice(("before", "after", "later")), False, False
        while True:
            kind, row = client.asked()
            if kind == DEAD:
                return not done
            done = done or kind == DONE
            if kind != CALL:
                continue
            if dying:
                if chance.random() < 0.5:
                    self._serve(row)  # it had been asked already
                continue
            left -= 1
            if chance.random() < 0.01:
                self._delete()
            if left == 0 and way == "before":
                client.kill()
                dying = True
                continue
            outcome, code = self._serve(row)
            if left == 0 and way == "after":
                client.kill()
                dying = True
                continue
            client.answer(run, outcome, code)
            if left == 0:
                time.sleep(chance.random() * 0.003)
                client.kill()
                dying = True

    def _delete(self) -> None:
        """Somebody else deletes a context of the plan."""
        number = self._chance.choice(self._ids)
        if number not in self._really and number not in self._deleted:
            self._engine.delete(number)
            self._deleted.add(number)

    def _serve(self, row: int) -> tuple[int, int]:
        session = self._engine._own_session()
        session.expire_slice(self._items, row, row + 1, self.plan.contexts)
        outcome = self._items.outcome[row]
        if outcome == Outcome.EXPIRED:
            assert self._ids[row] not in self._really, "expired twice"
            self._really.add(self._ids[row])
        return int(outcome), self._items.code[row]

    def _check(self, figures: Figures) -> None:
        plan = ExpiryPlan.resume(self._journal)
        report = plan.apply(self._engine)
        outbound = {context.context_id for context in self._engine.snapshot() if context.has_outbound}
        assert outbound == (set(self._ids) | self._innocent) - self._really - self._deleted
        figures.cut_off += len(report.cut_off)
        for number, outcome in zip(report.context_id, report.outcome, strict=True):
            really = number in self._really
            figures.expired += outcome is Outcome.EXPIRED
            if outcome is Outcome.EXPIRED:
                figures.wrong += not really
            elif outcome is Outcome.SKIPPED:
                figures.wrong += number not in self._spared or really or number in report.cut_off
            elif outcome in (Outcome.CHANGED, Outcome.ALREADY_GONE):
                told = number in report.cut_off if really else number in self._deleted
                figures.lost += not told
            else:
                figures.lost += 1


def trials(plans: int, seed: int) -> Figures:
    """So many plans, each killed at random points until it is through."""
    figures = Figures()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Client(folder / "plan.json", folder / "journal") as client:
            for _ in range(plans):
                with testing.EmbeddedEngine() as control, control.open() as engine:
                    control.stop_clock()
                    Trial(folder, engine, control, chance).run(client, figures)
    return figures


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.client:
        client(*arguments.client)
        return
    figures = trials(arguments.plans, arguments.seed)
    print(figures)
    if figures.lost or figures.wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()

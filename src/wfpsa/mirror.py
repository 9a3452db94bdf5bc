"""Mirrors: a live copy of an engine's contexts that costs what changes, not what there is."""

import copy
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

from wfpsa import _native
from wfpsa.errors import EngineClosed, GenerationExpired, NotFound, SessionAborted, WfpError

__all__ = ["Drift", "Mirror", "MirrorChanges"]

READ_AT_ONCE = 512
"""Ids read again between two looks at what else there is to do."""
SLICE_MS = 100
"""How long the mirror's thread waits for events before it looks at the clock."""
PROBED_AFTER = 1.0
"""Seconds without a call after which the mirror makes one, to see whether the session lives."""
BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between the attempts to reach an engine that does not answer."""


_NO_COLUMNS = _native.column_mask(("context_id",), 1)


class Drift(NamedTuple):
    """What a reconciliation found that no event had told."""

    listed: int
    """Contexts that the engine listed."""
    added: int
    removed: int
    changed: int


class MirrorChanges(NamedTuple):
    """What became of contexts since some generation."""

    generation: int
    """Of the mirror now: what to ask with the next time."""
    added: _native.SaBatch
    """Contexts that were not there, as they are now."""
    removed: _native.SaBatch
    """Contexts that are gone, as they were last."""
    changed: _native.SaBatch
    """Contexts that were there and some column of which differs, or that went and came back; as they are now."""


class _Keeper:
    """What keeps a mirror up to date, in a thread of its own; the mirror refers to it, and not the other way round."""

    def __init__(
        self,
        connect: Callable[[], _native.Session],
        clock: Callable[[], float],
        wanted: bytes | None,
        reconcile_every: float | None,
        capacity: int,
        history: int,
    ) -> None:
        self.rows = _native.Mirror(wanted, history)
        self.backend = ""
        self.error: WfpError | MemoryError | None = None
        self.gaps = self.lost = self.resyncs = 0
        self.news = threading.Condition()
        self.process = os.getpid()
        self._connect = connect
        self._clock = clock
        self._reconcile_every = reconcile_every
        self._capacity = capacity
        self._session: _native.Session | None = None
        self._subscription: _native.Subscription | None = None
        self._requests: deque[tuple[bool, Future[Drift | None]]] = deque()
        self._missing = False  # events were lost that no reconciliation has made up for
        self._stopping = False
        self._consistent = time.monotonic()
        self._reconciled = self._heard = 0.0
        self._said = 0  # the generation that those who wait know of
        self._thread: threading.Thread | None = None  # one that is never begun would keep this alive in a circle

    # ---- from other threads ----

    def start(self) -> None:
        """Reaches the engine, in the caller's thread, and then goes on in its own."""
        try:
            self._begin()
        except BaseException:
            self._end_session()
            raise
        self._thread = threading.Thread(target=self._run, name="wfpsa-mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and the session; again: does nothing."""
        if os.getpid() != self.process:
            return
        with self.news:
            self._stopping = True
            self.news.notify_all()
        subscription = self._subscription
        if subscription is not None:
            with suppress(WfpError):  # ends the thread's wait
                subscription.close()
        session = self._session
        if session is not None:
            with suppress(WfpError):  # ends what it calls after the call that goes on
                session.close()
        thread = self._thread
        if thread is not None and thread.ident is not None and thread is not threading.current_thread():
            thread.join()
        self._end_session()
        with self.news:
            self._refuse_requests()

    def ask(self, reconcile: bool) -> Future[Drift | None]:
        """Asks the thread to reconcile, or only to apply all that the engine has told so far."""
        future: Future[Drift | None] = Future()
        with self.news:
            if self._stopping:
                raise EngineClosed(message="the mirror is closed")
            self._requests.append((reconcile, future))
            self.news.notify_all()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()
        return future

    @property
    def age(self) -> float:
        """Seconds since the last moment at which all that was told had been applied."""
        return time.monotonic() - self._consistent

    def now(self) -> int:
        """The engine's clock in milliseconds."""
        return int(self._clock() * 1000)

    # ---- in the thread ----

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                if self._session is None:
                    self._begin()
                    self.resyncs += 1
                self._step()
                failures = 0
                self.error = None
            except (WfpError, MemoryError) as error:
                if self._stopping:  # whoever waits is told of that
                    break
                self.error = error.with_traceback(None)
                self._tell()  # of what was applied before it
                self._fail_requests(error)
                self._end_session()
                with self.news:  # who has asked meanwhile has notified nobody
                    pause = BACK_OFF[min(failures, len(BACK_OFF) - 1)]
                    self.news.wait_for(lambda: self._stopping or bool(self._requests), pause)
                failures += 1

    def _begin(self) -> None:
        """Opens a session, subscribes and lists, in this order: so nothing falls between."""
        self._session = self._connect()
        self.backend = self._session.backend
        self._subscription = self._session.subscribe(None, None, self._capacity)
        self._reconcile(anew=True)

    def _end_session(self) -> None:
        session, subscription = self._session, self._subscription
        self._session = self._subscription = None
        for opened in (subscription, session):
            if opened is not None:
                with suppress(WfpError):  # a dead one says so once more
                    opened.close()

    def _step(self) -> None:
        """Waits for a moment where there is nothing to do, and does what there is."""
        session, subscription = self._session, self._subscription
        assert session is not None and subscription is not None
        if not self._requests and not self.rows.look()["marked"]:
            subscription.wait(self._wait_ms())
        if self._stopping:
            return
        requests = list(self._requests)
        self._pull(subscription)
        if self.rows.read(session, self.now(), READ_AT_ONCE):
            self._heard = time.monotonic()
        elif requests or time.monotonic() - self._heard > PROBED_AFTER:
            self._probe(session)
        asked = any(reconcile for reconcile, _ in requests)
        every = self._reconcile_every
        if asked or self._missing or (every is not None and self._clock() - self._reconciled >= every):
            drift = self._reconcile()
            if self._stopping:
                return
            self._answer(requests, True, drift)  # at once: where much changes, something is always marked
        if not self.rows.look()["marked"]:
            self._consistent = time.monotonic()
            self._answer(requests, False, None)
        self._tell()

    def _probe(self, session: _native.Session) -> None:
        """Raises what any call raises where the session is dead: no event tells that."""
        with suppress(NotFound):
            session.get(0, 1, _NO_COLUMNS)
        self._heard = time.monotonic()

    def _wait_ms(self) -> int:
        due = self.rows.due()
        return SLICE_MS if due is None else max(0, min(SLICE_MS, due - self.now()))

    def _pull(self, subscription: _native.Subscription) -> None:
        lost = self.rows.pull(subscription)
        if lost is None:
            raise SessionAborted(None, None, "the subscription has ended")
        if lost:
            self.gaps += 1
            self.lost += lost
            self._missing = True

    def _reconcile(self, anew: bool = False) -> Drift:
        """Compares all contexts; events that come meanwhile are marked, and read after it. `anew`: with a new session,
        whose contexts are shown when all are there."""
        session, subscription = self._session, self._subscription
        assert session is not None and subscription is not None
        self._missing = False
        self.rows.begin(anew)
        enumeration = session.enumerate(None, None, 1, 0, None, True)
        while self.rows.page(enumeration, self.now()):
            self._pull(subscription)
            if self._stopping:
                break
        enumeration.close()
        drift = Drift(*self.rows.end()) if not self._stopping else Drift(0, 0, 0, 0)
        self._reconciled = self._clock()
        self._heard = time.monotonic()
        if not self.rows.look()["marked"]:
            self._consistent = time.monotonic()
        return drift

    def _answer(self, requests: list[tuple[bool, Future[Drift | None]]], reconcile: bool, drift: Drift | None) -> None:
        for request in requests:
            if request[0] is reconcile:
                self._requests.remove(request)
                request[1].set_result(drift)

    def _fail_requests(self, error: WfpError | MemoryError) -> None:
        while self._requests:
            # a copy: the caller's traceback would keep the mirror alive as long as this error is kept
            self._requests.popleft()[1].set_exception(copy.copy(error))

    def _refuse_requests(self) -> None:
        self._fail_requests(EngineClosed(message="the mirror was closed"))

    def _tell(self) -> None:
        """Wakes those who wait for another generation."""
        generation = self.rows.look()["generation"]
        if generation != self._said:
            with self.news:
                self._said = generation
                self.news.notify_all()


class Mirror:
    """A live copy of an engine's contexts: changes are applied as the engine tells them. A context manager.

    A change event tells only that a context was added or deleted, so each one makes the context be read again by its
    id. An update tells nothing, nor does the end of an expired context: what has only one of its SAs is read again with
    back-off until it has both or is gone, and every `reconcile_every` seconds all contexts are listed and compared, as
    they are after events were lost. So what differs from the engine at any moment is what changed a moment ago, was
    updated, is half-built or in its last minute.

    It has a session and a thread of its own, and goes on until it is closed, also when its engine was. Where the
    session is lost, or the service restarted, it begins anew by itself, and shows its last state meanwhile: `age` and
    `error` tell. Its methods may be called from any thread.
    """

    def __init__(self, keeper: _Keeper) -> None:
        self._keeper = keeper
        self._ending = weakref.finalize(self, keeper.stop)

    def _checked(self) -> _Keeper:
        if os.getpid() != self._keeper.process:
            raise EngineClosed(message="the mirror was made by another process: make one after the fork")
        return self._keeper

    def snapshot(self) -> _native.SaBatch:
        """All contexts as the mirror has them, at one moment, in no particular order: an immutable batch.

        It costs one copy of the columns and no call of the engine. After close() it is the last state. Raises
        MemoryError.
        """
        keeper = self._checked()
        return keeper.rows.snapshot(keeper.backend)[0]

    def changes(self, since: int) -> MirrorChanges:
        """What became of contexts since that generation: those that came, went and differ, each once.

        Ask with the `generation` of the answer before, or with `Mirror.generation` read before `snapshot()`. Raises
        GenerationExpired where more changes than the mirror remembers have come since, or for a generation that it has
        not reached; take a snapshot then. TypeError, ValueError; MemoryError.
        """
        if isinstance(since, bool) or not isinstance(since, int):
            raise TypeError(f"since must be an int, not {type(since).__name__}")
        if not 0 <= since < 1 << 64:
            raise ValueError(f"since must be a generation, 0 or more, not {since}")
        keeper = self._checked()
        found = keeper.rows.changes(since, keeper.backend)
        if found is None:
            state = keeper.rows.look()
            raise GenerationExpired(
                f"changes are known since the generations {state['oldest']} to {state['generation']}, not {since}"
            )
        came, went, differ, generation = found
        return MirrorChanges(generation, came, went, differ)

    def reconcile(self, timeout: float | None = None) -> Drift:
        """Lists all contexts, takes over what differs, and says how many that were.

        Raises TimeoutError after `timeout` seconds, which stops nothing; WfpError where the engine fails; EngineClosed.
        """
        drift = self._checked().ask(True).result(timeout)
        assert drift is not None
        return drift

    def catch_up(self, timeout: float | None = None) -> int:
        """Waits until all is applied that the engine has told so far; returns the generation.

        Raises as `reconcile`.
        """
        self._checked().ask(False).result(timeout)
        return self.generation

    def wait(self, since: int, timeout: float | None = None) -> int:
        """Waits until the generation is above that one, `timeout` seconds at most, and returns it in either case."""
        keeper = self._checked()
        with keeper.news:
            keeper.news.wait_for(lambda: self.generation > since or not self._ending.alive, timeout)
        return self.generation

    def _look(self, name: str) -> int:
        return self._checked().rows.look()[name]

    def __len__(self) -> int:
        """How many contexts it has."""
        return self._look("contexts")

    @property
    def generation(self) -> int:
        """Counts the steps in which anything changed, from 0."""
        return self._look("generation")

    @property
    def lag(self) -> int:
        """How many contexts it knows to have changed and has not read again yet."""
        return self._look("marked")

    @property
    def reads(self) -> int:
        """How many contexts it has read by id."""
        return self._look("reads")

    @property
    def totals(self) -> dict[str, int]:
        """How many contexts it has seen added, removed and changed, those of its first listing among them."""
        state = self._checked().rows.look()
        return {"added": state["came"], "removed": state["went"], "changed": state["differed"]}

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self._look("bytes")

    @property
    def age(self) -> float:
        """Seconds since the last moment at which all that was told was applied: a tenth while all is well."""
        return self._checked().age

    @property
    def gaps(self) -> int:
        """How often events were lost, after which it reconciled."""
        return self._checked().gaps

    @property
    def lost(self) -> int:
        """How many events were lost, as far as that is known."""
        return self._checked().lost

    @property
    def resyncs(self) -> int:
        """How often it began anew with another session."""
        return self._checked().resyncs

    @property
    def error(self) -> WfpError | MemoryError | None:
        """Why it is not up to date: the last error, until it has recovered; None while all is well."""
        return self._checked().error

    def first_seen(self, context_id: int) -> datetime:
        """When the mirror first had that context, in UTC; KeyError where it does not have it."""
        keeper = self._checked()
        since = keeper.rows.first_seen(context_id)
        if since is None:
            raise KeyError(context_id)
        return datetime.now(UTC) - timedelta(milliseconds=max(0, keeper.now() - since))

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return not self._ending.alive

    def close(self) -> None:
        """Ends its thread and its session; again: does nothing."""
        self._ending()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"<Mirror of {len(self)} contexts, generation {self.generation}{'' if self._ending.alive else ', closed'}>"
        )


def make_mirror(
    connect: Callable[[], _native.Session],
    clock: Callable[[], float],
    fields: Iterable[str] | None,
    reconcile_every: float | None,
    capacity: int,
    history: int,
) -> Mirror:
    """What Engine.mirror does."""
    if reconcile_every is not None:
        if isinstance(reconcile_every, bool) or not isinstance(reconcile_every, int | float):
            raise TypeError(
                f"reconcile_every must be a number of seconds or None, not {type(reconcile_every).__name__}"
            )
        if not reconcile_every > 0:
            raise ValueError(f"reconcile_every must be above 0 seconds, or None for never, not {reconcile_every}")
    for name, value in (("capacity", capacity), ("history", history)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {type(value).__name__}")
        if not 1 <= value < 1 << 31:
            raise ValueError(f"{name} must be 1 to {2**31 - 1}, not {value}")
    wanted = None if fields is None else _mask(fields)
    keeper = _Keeper(connect, clock, wanted, reconcile_every, capacity, history)
    mirror = Mirror(keeper)
    try:
        keeper.start()
    except BaseException:
        mirror.close()
        raise
    return mirror


def _mask(fields: Iterable[str]) -> bytes:
    names: tuple[Any, ...] = (fields,) if isinstance(fields, str) else tuple(fields)
    mask = _native.column_mask(names, 1)
    if "context_id" not in names:
        raise ValueError("fields must name context_id among others: a mirror finds contexts by it")
    return mask

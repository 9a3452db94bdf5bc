"""What is measured: rows of cases, each the same work done by wfpsa or by other means, on the embedded engine."""

import ctypes
import importlib
import itertools
import os
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Self, TypeVar

import wfpsa
from wfpsa import testing
from wfpsa.audit import VARIABLE
from wfpsa.bench.baselines import ctypes_naive

_T = TypeVar("_T")

BASELINE_CONTEXTS = 10_000
"""Slow baselines are run on so many contexts at most, and quoted per context."""
PAGE_SIZE = 1024
"""Contexts a page where the size of a page matters."""
LATENCIES = {"per_call_us": 200, "per_entry_us": 1}
"""Of the engine in the pipelining row."""
SESSION_IDS = 6_400
"""Ids that all sessions together expire in the rows of sessions."""


def _whatever(result: Any) -> bool:
    return True


class Work(NamedTuple):
    """A function to be timed."""

    function: Callable[..., Any]
    arguments: Callable[[], tuple[Any, ...]] = tuple
    """What it is called with, made anew before each call and outside the time."""
    is_right: Callable[[Any], bool] = _whatever
    """Whether the result is that of the whole work; outside the time, too."""

    def run(self, timer: Callable[[], int]) -> int:
        """Calls it once and returns what it took; RuntimeError where the result is not right."""
        arguments = self.arguments()
        start = timer()
        result = self.function(*arguments)
        elapsed = timer() - start
        if not self.is_right(result):
            raise RuntimeError("a benchmark did not do its work, so its time says nothing")
        return elapsed


@contextmanager
def unaudited() -> Iterator[None]:
    """Keeps what is expired here, which is nobody's, out of the audit file that the environment names."""
    named = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if named is not None:
            os.environ[VARIABLE] = named


class Stage:
    """What the cases of a row share: seeded engines, open sessions and pages in memory, until the row ends."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._ends.enter_context(unaudited())
        self._made: dict[tuple[object, ...], Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what was begun and lets go of what was made."""
        self._made.clear()
        self._ends.close()

    def once(self, key: tuple[object, ...], make: Callable[[], _T]) -> _T:
        """What `make` made the first time that somebody asked for that key."""
        if key not in self._made:
            self._made[key] = make()
        made: _T = self._made[key]
        return made

    def control(self, contexts: int, **latencies: float) -> testing.EmbeddedEngine:
        """An embedded engine with so many contexts that no case changes."""

        def make() -> testing.EmbeddedEngine:
            control = self._ends.enter_context(seeded(contexts))
            control.latency(**latencies)
            return control

        return self.once(("control", contexts, *sorted(latencies.items())), make)

    def engine(self, contexts: int, **latencies: float) -> wfpsa.Engine:
        """A session of that engine."""
        return self.once(
            ("engine", contexts, *sorted(latencies.items())),
            lambda: self._ends.enter_context(self.control(contexts, **latencies).open()),
        )

    def noop(self) -> wfpsa.Engine:
        """A session of the engine that holds nothing and says yes at once."""
        return self.once(("noop",), lambda: self._ends.enter_context(wfpsa.open_engine("noop:")))

    def batch(self, contexts: int, fields: tuple[str, ...] | None = None) -> wfpsa.SaBatch:
        """A snapshot."""
        return self.once(("batch", contexts, fields), lambda: self.engine(contexts).snapshot(fields=fields))

    def page(self, contexts: int, version: int) -> tuple[int, int]:
        """(address, count) of one page of all contexts."""

        def make() -> tuple[int, int]:
            pages = ctypes_naive.pages(
                testing.functions(), self.control(contexts).server_name, contexts, f"IPsecSaContextEnum{version}"
            )
            self._ends.callback(pages.close)
            return next(pages)

        return self.once(("page", contexts, version), make)


class Case(NamedTuple):
    """One way to do a row's work."""

    row: str
    name: str
    setup: Callable[[Stage, int], Work]
    slow: bool = False
    """Whether it is run on BASELINE_CONTEXTS at most."""
    module: str = ""
    """What must be importable for it."""
    per: Callable[[int], int] = int
    """How many contexts the time is divided by, of the number that the row has; for ms it is not divided."""
    sized: bool = True
    """Whether its work grows with the number that the row has."""
    unit: str = "ns"
    """Of the figure: ns a context, ms, or B a context, which the function returns and is called once for."""


def in_unit(case: Case, contexts: int, elapsed_ns: float) -> float:
    """A time in the unit of the case."""
    return elapsed_ns / 1e6 if case.unit == "ms" else elapsed_ns / case.per(contexts)


def seeded(contexts: int) -> testing.EmbeddedEngine:
    """An engine of which nothing has expired yet."""
    control = testing.EmbeddedEngine()
    control.stop_clock()
    control.seed(contexts, 7)
    return control


def missing(module: str) -> str:
    """Why a module cannot be imported; "" where it can."""
    if not module:
        return ""
    try:
        importlib.import_module(module)
    except Exception as error:  # win32more fails with what Windows lacks elsewhere
        return f"{module.rpartition('.')[2] or module}: {type(error).__name__}: {error}"
    return ""


# --- Decoding -------------------------------------------------------------------------------------


def _as_many(decoded: Any, count: int) -> bool:
    return len(decoded) == count


def _again(
    version: int, decode: Callable[[int, int], Any], right: Callable[[Any, int], bool] = _as_many
) -> Callable[[Stage, int], Work]:
    """Decodes one page as often as there are pages: as near in the caches as a page that just came."""

    def setup(stage: Stage, contexts: int) -> Work:
        address, count = stage.page(min(PAGE_SIZE, contexts), version)

        def times() -> Any:
            for _ in range(_pages_of(contexts)):
                decoded = decode(address, count)
            return decoded

        return Work(times, is_right=lambda decoded: right(decoded, count))

    return setup


def _pages_of(contexts: int) -> int:
    return -(-contexts // PAGE_SIZE)


def _in_pages(contexts: int) -> int:
    return _pages_of(contexts) * min(PAGE_SIZE, contexts)


_FIELDS = {"core": wfpsa.CORE_FIELDS, "all": None, "ids": ("context_id",)}


def _decode(fields: str, version: int) -> Callable[[Stage, int], Work]:
    names = _FIELDS[fields]
    return _again(version, lambda address, count: testing.decode_page(address, count, version, fields=names))


def _decode_by(module: str, fields: str) -> Callable[[Stage, int], Work]:
    """By a baseline, which knows Enum1's structures only."""

    def setup(stage: Stage, contexts: int) -> Work:
        decode = importlib.import_module(module).decode
        return _again(1, lambda address, count: decode(address, count, fields))(stage, contexts)

    return setup


def _memcpy(version: int) -> Callable[[Stage, int], Work]:
    """The page's bytes copied to where a page was copied before."""

    def setup(stage: Stage, contexts: int) -> Work:
        address, _ = stage.page(min(PAGE_SIZE, contexts), version)
        size = testing.page_bytes(address)
        copy = ctypes.create_string_buffer(size)
        move = _again(version, lambda address, _: ctypes.memmove(copy, address, size), lambda copied, _: bool(copied))
        return move(stage, contexts)

    return setup


_BASELINES = "wfpsa.bench.baselines."
PEERS = (
    ("ctypes_fast", _BASELINES + "ctypes_fast"),
    ("ctypes_naive", _BASELINES + "ctypes_naive"),
    ("cffi", _BASELINES + "cffi_walk"),
    ("win32more", _BASELINES + "win32more_walk"),
)
"""Who else decodes and expires, and by which module."""

_DECODING = [
    case
    for fields, version in itertools.product(("core", "all"), (1, 0))
    for case in (
        Case(f"decode {fields}, Enum{version}", "wfpsa", _decode(fields, version), per=_in_pages),
        Case(f"decode {fields}, Enum{version}", "wfpsa, ids alone", _decode("ids", version), per=_in_pages),
        Case(f"decode {fields}, Enum{version}", "memcpy", _memcpy(version), per=_in_pages),
        *(
            Case(
                f"decode {fields}, Enum{version}",
                name if version == 1 else f"{name} (Enum1)",
                _decode_by(module, fields),
                slow=True,
                module=module,
                per=_in_pages,
            )
            for name, module in PEERS
            if version == 1 or name.startswith("ctypes")
        ),
    )
]


# --- Listing --------------------------------------------------------------------------------------


def _snapshot(**options: Any) -> Callable[[Stage, int], Work]:
    latencies = options.pop("latencies", {})

    def setup(stage: Stage, contexts: int) -> Work:
        engine = stage.engine(contexts, **latencies)
        return Work(lambda: engine.snapshot(**options), is_right=lambda batch: len(batch) == contexts)

    return setup


def _drain(**latencies: float) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        engine = stage.engine(contexts, **latencies)
        return Work(lambda: testing.drain(engine, page_size=PAGE_SIZE), is_right=lambda count: count == contexts)

    return setup


def _decode_all(stage: Stage, contexts: int) -> Work:
    """Into batches that are all kept, so that as much fresh memory is written as by a snapshot."""
    address, count = stage.page(min(PAGE_SIZE, contexts), 1)
    return Work(lambda: [testing.decode_page(address, count) for _ in range(_pages_of(contexts))])


def _pages(stage: Stage, contexts: int) -> Work:
    engine = stage.engine(contexts)
    return Work(lambda: sum(len(page) for page in engine.pages()), is_right=lambda count: count == contexts)


def _list_by(module: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        baseline = importlib.import_module(module)
        server = stage.control(contexts).server_name
        return Work(
            lambda: baseline.enumerate_contexts(testing.functions(), server, page_size=PAGE_SIZE),
            is_right=lambda rows: len(rows) == contexts,
        )

    return setup


_LISTING = [
    Case("list, as usual", "wfpsa", _snapshot()),
    Case("list, as usual", "wfpsa core", _snapshot(fields=wfpsa.CORE_FIELDS)),
    Case("list, as usual", "wfpsa pages", _pages),
    Case("list, as usual", "drain", _drain()),
    *(Case("list, as usual", name, _list_by(module), slow=True, module=module) for name, module in PEERS[:2]),
    Case("list, one thread", "wfpsa", _snapshot(prefetch=False, page_size=PAGE_SIZE)),
    Case("list, one thread", "drain", _drain()),
    Case("list, one thread", "decode", _decode_all, per=_in_pages),
    Case("list, pipelined", "wfpsa", _snapshot(latencies=LATENCIES, page_size=PAGE_SIZE)),
    Case("list, pipelined", "one thread", _snapshot(latencies=LATENCIES, page_size=PAGE_SIZE, prefetch=False)),
    Case("list, pipelined", "drain", _drain(**LATENCIES)),
]


# --- Objects --------------------------------------------------------------------------------------


def _objects(stage: Stage, contexts: int) -> Work:
    batch = stage.batch(contexts)
    return Work(lambda: list(batch))


def _read_ids(objects: list[wfpsa.SaContext]) -> None:
    for each in objects:
        each.context_id  # noqa: B018 - the access is what is measured


def _read_types(objects: list[wfpsa.SaContext]) -> None:
    for each in objects:
        each.traffic_type  # noqa: B018


def _read_addresses(objects: list[wfpsa.SaContext]) -> None:
    for each in objects:
        each.remote_address  # noqa: B018


def _attribute(read: Callable[[list[wfpsa.SaContext]], None]) -> Callable[[Stage, int], Work]:
    """Read of contexts that are there already, with what a loop over them costs."""

    def setup(stage: Stage, contexts: int) -> Work:
        objects = stage.once(("objects", contexts), lambda: list(stage.batch(contexts)))
        return Work(lambda: read(objects))

    return setup


_OBJECTS = [
    Case("objects", "list(batch)", _objects),
    Case("objects", "u64 attribute", _attribute(_read_ids)),
    Case("objects", "enum attribute", _attribute(_read_types)),
    Case("objects", "address attribute", _attribute(_read_addresses)),
]


# --- Expiring -------------------------------------------------------------------------------------


def _all_expired(report: wfpsa.ExpiryReport) -> bool:
    return report.counts[wfpsa.Outcome.EXPIRED] == len(report) > 0


def _all_zero(codes: list[int]) -> bool:
    return len(codes) > 0 and not any(codes)


def _expire_noop(stage: Stage, contexts: int) -> Work:
    engine, ids = stage.noop(), array("Q", range(1, contexts + 1))
    return Work(lambda: engine.expire(ids), is_right=_all_expired)


def _expire_noop_by(module: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        baseline = importlib.import_module(module)
        ids = list(range(1, contexts + 1))
        return Work(lambda: baseline.expire(testing.functions("noop"), None, ids), is_right=_all_zero)

    return setup


def _expire(stage: Stage, contexts: int) -> Work:
    def arguments() -> tuple[Any, ...]:
        with seeded(contexts) as control:
            engine = control.open()
        return engine, engine.snapshot(fields=["context_id"])

    return Work(lambda engine, ids: engine.expire(ids), arguments, _all_expired)


def _expire_by(module: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        baseline = importlib.import_module(module)

        def arguments() -> tuple[Any, ...]:
            control = seeded(contexts)
            with control.open() as engine:
                ids = engine.snapshot(fields=["context_id"])["context_id"].tolist()
            return control, ids

        return Work(
            lambda control, ids: baseline.expire(testing.functions(), control.server_name, ids), arguments, _all_zero
        )

    return setup


def _expire_sessions(sessions: int, latency: str) -> Callable[[Stage, int], Work]:
    """A plan of SESSION_IDS ids, unverified, at 100 us a call slept outside or inside the transaction lock."""

    def setup(stage: Stage, contexts: int) -> Work:
        def arguments() -> tuple[Any, ...]:
            with seeded(SESSION_IDS) as control:
                control.switch(latency=latency)
                engine = control.open()
                plan = engine.plan_expiry(engine.snapshot(fields=wfpsa.CORE_FIELDS))
                control.latency(per_call_us=100)
            return plan, engine

        return Work(lambda plan, engine: plan.apply(engine, sessions=sessions, verify=False), arguments, _all_expired)

    return setup


_EXPIRING = [
    Case("expire, no-op engine", "wfpsa", _expire_noop),
    *(
        Case("expire, no-op engine", name, _expire_noop_by(module), slow=True, module=module)
        for name, module in PEERS[:3]
    ),
    Case("expire, embedded engine", "wfpsa", _expire),
    Case("expire, embedded engine", "drain", _drain()),
    *(
        Case("expire, embedded engine", name, _expire_by(module), slow=True, module=module)
        for name, module in PEERS[:2]
    ),
    *(
        Case(
            f"expire, 100 us {latency} the lock",
            f"{sessions} session{'s' if sessions > 1 else ''}",
            _expire_sessions(sessions, latency),
            per=lambda _: SESSION_IDS,
            sized=False,
        )
        for latency, numbers in (("outside", (1, 4, 16, 64)), ("inside", (1, 16)))
        for sessions in numbers
    ),
]


# --- Questions to batches -------------------------------------------------------------------------

SUBNET = "10.2.0.0/16"
PREFIX = bytes(10) + b"\xff\xff\x0a\x02"
"""Of SUBNET, as an address column has it."""
PRESENT = 0x07
"""Both SAs and an address."""


def replaced(batch: wfpsa.SaBatch, column: str, cells: bytes, presence_too: int = 0) -> wfpsa.SaBatch:
    """The batch with those cells in a column, and those bits set in the presence of all its contexts."""
    reduced: Any = batch.__reduce__()
    rebuild, (version, length, own, presence, *rest) = reduced
    there = bytes(each | presence_too for each in presence) if presence_too else presence
    made: wfpsa.SaBatch = rebuild(version, length, own | {column: cells}, there, *rest)
    return made


def shaped(batch: wfpsa.SaBatch, share: int) -> wfpsa.SaBatch:
    """The batch with that share of its remote addresses in SUBNET, at random rows, and the rest elsewhere."""
    import numpy as np

    prefix = np.frombuffer(PREFIX, np.uint8)
    addresses = np.array(batch["remote_address"])
    addresses[(addresses[:, :14] == prefix).all(1), 13] = 3
    chosen = np.random.default_rng(share).permutation(len(batch))[: len(batch) * share // 100]
    addresses[chosen, :14] = prefix
    return replaced(batch, "remote_address", addresses.tobytes(), PRESENT)


def _shaped(stage: Stage, contexts: int, share: int) -> wfpsa.SaBatch:
    return stage.once(("shaped", contexts, share), lambda: shaped(stage.batch(contexts), share))


def _where(share: int) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        batch = _shaped(stage, contexts, share)
        return Work(lambda: batch.where(remote=SUBNET), is_right=lambda found: len(found) == contexts * share // 100)

    return setup


def _where_numpy(share: int, way: str) -> Callable[[Stage, int], Work]:
    """A mask over bytes or over two words an address; `rows`: the row numbers, which a selection has too."""

    def setup(stage: Stage, contexts: int) -> Work:
        import numpy as np

        addresses = np.asarray(_shaped(stage, contexts, share)["remote_address"])
        chosen = contexts * share // 100
        if way == "bytes":
            prefix = np.frombuffer(PREFIX, np.uint8)
            return Work(lambda: (addresses[:, :14] == prefix).all(1), is_right=lambda mask: mask.sum() == chosen)
        words = addresses.view(np.uint64)
        address = np.frombuffer(PREFIX + bytes(2), np.uint64)[1]
        bits = np.frombuffer(b"\xff" * 6 + bytes(2), np.uint64)[0]

        def mask() -> Any:
            return (words[:, 0] == 0) & ((words[:, 1] & bits) == address)

        if way == "u64 mask":
            return Work(mask, is_right=lambda mask: mask.sum() == chosen)
        return Work(lambda: np.flatnonzero(mask()), is_right=lambda rows: len(rows) == chosen)

    return setup


def _touch(name: str) -> Callable[[Stage, int], Work]:
    """A column of a selection of 12 %, the first time that it is asked for; in ns a context of the whole batch."""

    def setup(stage: Stage, contexts: int) -> Work:
        batch = _shaped(stage, contexts, 12)
        return Work(lambda found: found[name], lambda: (batch.where(remote=SUBNET),))

    return setup


def churned(stage: Stage, contexts: int) -> tuple[wfpsa.SaBatch, wfpsa.SaBatch]:
    """A batch, and what it is after 0.5 % went, 0.5 % came and 0.5 % changed; in the order of an engine."""
    import numpy as np

    def make() -> tuple[wfpsa.SaBatch, wfpsa.SaBatch]:
        generator = np.random.default_rng(7)
        churn = contexts // 200
        snapshot = stage.batch(contexts + churn, wfpsa.CORE_FIELDS)
        stays = np.ones(contexts + churn, bool)
        stays[generator.choice(contexts, churn, replace=False)] = False
        after = snapshot.take(np.flatnonzero(stays))
        lifetimes = np.array(after["lifetime_seconds_out"])
        lifetimes[generator.choice(contexts, churn, replace=False)] += 1
        changed = replaced(after, "lifetime_seconds_out", lifetimes.tobytes())
        return snapshot.take(np.arange(contexts)), changed

    return stage.once(("churned", contexts), make)


def _pair(stage: Stage, contexts: int, order: str) -> tuple[wfpsa.SaBatch, wfpsa.SaBatch]:
    import numpy as np

    before, after = churned(stage, contexts)
    if order == "shuffled":
        after = stage.once(("shuffled", contexts), lambda: after.take(np.random.default_rng(8).permutation(len(after))))
    return before, after


def _diff(order: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        before, after = _pair(stage, contexts, order)
        churn = contexts // 200
        return Work(
            lambda: before.diff(after),
            is_right=lambda diff: len(diff.added) == len(diff.removed) == churn >= len(diff.changed) > 0,
        )

    return setup


def diff_with_numpy(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many rows were added, removed and changed: the rows of both matched by sorting the ids."""
    import numpy as np

    ids, sought = before["context_id"], after["context_id"]
    order = np.argsort(ids)
    places = np.minimum(np.searchsorted(ids, sought, sorter=order), len(ids) - 1)
    rows = order[places]
    both = ids[rows] == sought
    old, new = rows[both], np.flatnonzero(both)
    left = np.ones(len(ids), bool)
    left[old] = False
    changed = np.zeros(len(old), bool)
    for name in wfpsa.CORE_FIELDS[1:]:
        one, other = before[name][old], after[name][new]
        changed |= (one != other).any(1) if one.ndim == 2 else one != other
    return int((~both).sum()), int(left.sum()), int(changed.sum())


def arrays_of(batch: wfpsa.SaBatch) -> dict[str, Any]:
    """The core set as NumPy arrays, addresses as two words each."""
    import numpy as np

    return {
        name: np.asarray(batch[name]).view("u8") if "address" in name else np.asarray(batch[name])
        for name in wfpsa.CORE_FIELDS
    }


def _diff_numpy(order: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        before, after = (arrays_of(batch) for batch in _pair(stage, contexts, order))
        churn = contexts // 200
        return Work(
            lambda: diff_with_numpy(before, after),
            is_right=lambda found: found[0] == found[1] == churn >= found[2] > 0,
        )

    return setup


_ASKING = [
    *(
        case
        for share in (1, 12, 90)
        for case in (
            Case(f"where, {share} % selected", "wfpsa", _where(share), module="numpy"),
            *(
                Case(f"where, {share} % selected", f"numpy {way}", _where_numpy(share, way), module="numpy")
                for way in ("bytes", "u64 mask", "u64 rows")
            ),
        )
    ),
    *(
        Case("where, first touch of a column", name, _touch(name), module="numpy")
        for name in ("context_id", "remote_address", "has_outbound")
    ),
    *(
        case
        for order in ("same", "shuffled")
        for case in (
            Case(f"diff, {order} order", "wfpsa", _diff(order), module="numpy"),
            Case(f"diff, {order} order", "numpy", _diff_numpy(order), module="numpy"),
        )
    ),
]


# --- Memory ---------------------------------------------------------------------------------------


def _bytes(fields: tuple[str, ...] | None) -> Callable[[Stage, int], Work]:
    """A context's share of a batch's arrays, its string table apart."""

    def setup(stage: Stage, contexts: int) -> Work:
        batch = stage.batch(contexts, fields)
        cells = sum(memoryview(batch[name]).nbytes for name in batch.columns)
        return Work(lambda: (cells + contexts) / contexts)  # and a byte that says what is there

    return setup


_MEMORY = [
    Case("memory of a context", "core", _bytes(wfpsa.CORE_FIELDS), unit="B"),
    Case("memory of a context", "all", _bytes(None), unit="B"),
]


# --- Importing ------------------------------------------------------------------------------------


def _python(statement: str) -> Callable[[Stage, int], Work]:
    def setup(stage: Stage, contexts: int) -> Work:
        command = [sys.executable, "-c", statement]
        cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return Work(lambda: subprocess.run(command, env=cached, check=True))

    return setup


_IMPORTING = [
    Case("import", "import wfpsa", _python("import wfpsa"), sized=False, unit="ms"),
    Case("import", "bare Python", _python("pass"), sized=False, unit="ms"),
]


CASES = (*_DECODING, *_LISTING, *_OBJECTS, *_EXPIRING, *_ASKING, *_MEMORY, *_IMPORTING)
ROWS = tuple(dict.fromkeys(case.row for case in CASES))

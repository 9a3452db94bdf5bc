"""A mirror of an engine that changes in any order, through whatever fails, compared with fresh snapshots.

WFPSA_MIRROR_EXAMPLES says how many runs of how many steps: `2000` or `2000x100`.
"""

import gc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mirrors import WAIT, eventually, half_built, hurry, insist, mirrors_at_work, moment, replayed, rows_of, same
from support import runs_of_steps, values

import wfpsa
from wfpsa import CORE_FIELDS, GenerationExpired, testing

FAILING = (
    "FwpmEngineOpen0",
    "IPsecSaContextSubscribe0",
    "IPsecSaContextCreateEnumHandle0",
    "IPsecSaContextEnum1",
    "IPsecSaContextGetById1",
)
SWITCHED = "add_event delete_event contexts_after_restart ids_after_restart duplicates lifetimes enumeration"
any_index = st.integers(0, 10_000)


class MirrorMachine(RuleBasedStateMachine):
    """An engine that changes in any order, and what a mirror of it shows."""

    @initialize(
        data=st.data(),
        fields=st.sampled_from([None, CORE_FIELDS, ("context_id",)]),
        history=st.sampled_from([1, 5, 65536]),
        capacity=st.sampled_from([1, 3, 65536]),
    )
    def begin(self, data: st.DataObject, fields: tuple[str, ...] | None, history: int, capacity: int) -> None:
        self.patch = pytest.MonkeyPatch()
        hurry(self.patch.setattr)
        self.fields, self.history = fields, history
        self.control = testing.EmbeddedEngine()
        self.control.stop_clock()
        self.switches = {
            name: data.draw(st.sampled_from(testing.SWITCHES[name][0]), label=name) for name in SWITCHED.split()
        }
        self.control.switch(**self.switches)
        self.control.seed(data.draw(st.integers(0, 12), label="contexts"), 1)
        self.engine = self.control.open(reconnect=True)
        self.mirrored = self.engine.mirror(fields=fields, history=history, capacity=capacity, reconcile_every=None)
        self.updated: set[int] = set()
        self.untold = False
        """Whether there is something that no event will tell, or did."""
        self.held = self.stopped = self.limited = False
        self.half: dict[int, tuple[Callable[[], None], Callable[[], None]]] = {}
        self.moments = [moment(self.mirrored)]
        self.snapshots = [(batch := self.mirrored.snapshot(), values(batch))]

    def teardown(self) -> None:
        if not hasattr(self, "mirrored"):
            return
        try:
            if self.stopped:
                self.start_service()
            self.reconcile()
            assert all(values(batch) == before for batch, before in self.snapshots)
        finally:
            testing.fail_allocation(0)
            self.mirrored.close()
            self.engine.close()
            self.control.close()
            self.snapshots.clear()
            self.half.clear()
            del self.mirrored, self.engine  # which hold what C has of them
            self.patch.undo()
            gc.collect()
            assert mirrors_at_work() == []
            alive = {name: count for name, count in testing.live_counters().items() if count}
            assert alive == {}

    def pick(self, index: int) -> int | None:
        there = sorted(self.engine.snapshot()["context_id"].tolist())
        return there[index % len(there)] if there else None

    # ---- the engine changes ----

    @rule(count=st.integers(0, 8), seed=st.integers(0, 100), odd=st.booleans())
    def seed(self, count: int, seed: int, odd: bool) -> None:
        self.control.seed(count, seed, odd=odd)

    @rule(last=st.integers(1, 5), wanted=st.sampled_from([None, None, 5, 2**32 + 5, 2**64 - 1]), both=st.booleans())
    def add(self, last: int, wanted: int | None, both: bool) -> None:
        with suppress(wfpsa.WfpError):  # where that id is taken
            self.control.add("10.0.0.1", f"10.0.1.{last}", context_id=wanted, outbound=both)

    @precondition(lambda self: not self.stopped)
    @rule(index=any_index)
    def delete(self, index: int) -> None:
        number = self.pick(index)
        if number is not None:
            self.engine.delete(number)

    @precondition(lambda self: not self.stopped)
    @rule(first=any_index, second=any_index)
    def expire(self, first: int, second: int) -> None:
        chosen = {number for number in (self.pick(first), self.pick(second)) if number is not None}
        self.engine.expire(sorted(chosen))

    @precondition(lambda self: not self.stopped)
    @rule(index=any_index, value=st.integers(0, 9))
    def update(self, index: int, value: int) -> None:
        number = self.pick(index)
        if number is not None:
            with suppress(wfpsa.WfpError):
                self.engine.update(number, "inbound", mm_sa_id=value)
                self.updated.add(number)

    @precondition(lambda self: not self.stopped)
    @rule(last=st.integers(1, 5))
    def create(self, last: int) -> None:
        number, *steps = half_built(self.engine, last)
        self.half[number] = (steps[0], steps[1])

    @precondition(lambda self: self.half and not self.stopped)
    @rule(index=any_index, whole=st.booleans())
    def complete(self, index: int, whole: bool) -> None:
        number = sorted(self.half)[index % len(self.half)]
        inbound, outbound = self.half[number]
        with suppress(wfpsa.WfpError):
            inbound()
        if whole:
            del self.half[number]
            with suppress(wfpsa.WfpError):
                outbound()

    @rule(seconds=st.sampled_from([0.2, 0.5, 5, 31, 61, 300]))
    def advance(self, seconds: float) -> None:
        self.control.advance(seconds)

    # ---- what goes wrong ----

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.held = held
        self.control.notifications(held=held)

    @rule(capacity=st.sampled_from([1, 3]))
    def limit(self, capacity: int) -> None:
        """Of subscriptions made from now on; what the engine itself loses nobody tells."""
        self.control.notifications(capacity=capacity, held=self.held)
        self.limited = True

    @rule(
        function=st.sampled_from(FAILING),
        nth=st.integers(1, 3),
        code=st.sampled_from([0x80320010, 0x80320012, 5, 8, 1722, 1726, 1702, 0xFFFFFFFF]),
        reconciles=st.booleans(),
    )
    def fail(self, function: str, nth: int, code: int, reconciles: bool) -> None:
        self.control.fail(function, nth, code)
        with suppress(wfpsa.WfpError):
            if reconciles:
                self.mirrored.reconcile(WAIT)
            else:
                self.mirrored.catch_up(WAIT)
        self.control.fail(function, 0)

    @rule(nth=st.integers(1, 40), reconciles=st.booleans(), count=st.integers(0, 5))
    def run_out_of_memory(self, nth: int, reconciles: bool, count: int) -> None:
        self.control.seed(count, nth)
        testing.fail_allocation(nth)
        with suppress(wfpsa.WfpError, MemoryError):
            if reconciles:
                self.mirrored.reconcile(WAIT)
            else:
                self.mirrored.catch_up(WAIT)
        testing.fail_allocation(0)
        self.untold = True  # the engine's queue may have had no memory

    @precondition(lambda self: not self.stopped)
    @rule(code=st.sampled_from([1722, 1726]), lasts=st.booleans())
    def stop_service(self, code: int, lasts: bool) -> None:
        self.control.stop_service(code)
        self.stopped = True
        if not lasts:
            self.start_service()

    @precondition(lambda self: self.stopped)
    @rule()
    def start_service(self) -> None:
        self.control.start_service()
        self.stopped = False
        self.half.clear()
        self.updated.clear()
        self.engine.reopen()
        insist(lambda: self.mirrored.catch_up(WAIT))  # with the new session

    # ---- what the mirror shows ----

    @precondition(lambda self: not self.stopped)
    @rule()
    def reconcile(self) -> None:
        drift = insist(lambda: self.mirrored.reconcile(WAIT))
        found, expected = self.mirrored.snapshot(), self.engine.snapshot(fields=self.fields)
        assert same(found, expected), (drift, found.diff(expected))
        assert drift.listed == len(self.mirrored) == len(expected)
        self.updated.clear()
        self.untold = False

    @precondition(lambda self: not (self.stopped or self.held or self.untold or self.limited))
    @rule()
    def catch_up(self) -> None:
        eventually(self.is_close)

    def is_close(self) -> bool:
        """The ids are the engine's, and rows that differ are half-built, in their last minute, or updated."""
        insist(lambda: self.mirrored.catch_up(WAIT))
        seen = self.mirrored.snapshot()  # once: its thread goes on
        found, expected = rows_of(seen), rows_of(self.engine.snapshot(fields=self.fields))
        whole = {context.context_id: context for context in self.engine.snapshot()}
        missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
        built = {number for number, context in whole.items() if context.inbound and context.outbound}
        if self.switches["add_event"] == "create":
            if missing:
                return False
        elif any(whole[number].outbound for number in missing):
            return False
        if more and self.switches["delete_event"] == "removal":
            return False
        shown = {context.context_id: context for context in seen}
        if self.fields is None and any(shown[number].inbound and shown[number].outbound for number in more):
            return False  # their last minute is over, and they will be read again
        differing = {number for number in expected.keys() & found.keys() if expected[number] != found[number]}
        unread = differing - self.updated
        if self.fields is None:
            unread = {n for n in unread if n in built and shown[n].inbound and shown[n].outbound}
        elif self.fields == ("context_id",):
            assert not differing
        else:
            unread &= built & {number for number, row in shown.items() if row.has_inbound and row.has_outbound}
        return not unread

    @rule(keep=st.booleans())
    def look(self, keep: bool) -> None:
        batch = self.mirrored.snapshot()
        if keep and len(self.snapshots) < 4:
            self.snapshots.append((batch, values(batch)))
            self.moments.append(moment(self.mirrored))

    @rule(index=any_index)
    def replay(self, index: int) -> None:
        since, before = self.moments[index % len(self.moments)]
        while True:
            now, rows = moment(self.mirrored)
            try:
                changes = self.mirrored.changes(since)
            except GenerationExpired:
                assert self.history < 65536
                return
            if changes.generation == now:
                break
        assert replayed(changes, before) == rows

    @invariant()
    def its_thread_lives(self) -> None:
        if hasattr(self, "mirrored"):
            assert len(mirrors_at_work()) == 1
            assert self.mirrored.generation >= self.moments[-1][0]


TestMirrorOfAnEngineThatChangesInAnyOrder = MirrorMachine.TestCase
TestMirrorOfAnEngineThatChangesInAnyOrder.settings = runs_of_steps("WFPSA_MIRROR_EXAMPLES", 60, 30)

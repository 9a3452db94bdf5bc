"""Scale: many sessions at once, each with the right answers, whatever the time they take.

What they take is printed by benchmarks/bench_engine.py.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

import wfpsa
from wfpsa import Outcome, testing

SESSIONS = 64
CONTEXTS = 6_400

_T = TypeVar("_T")


@pytest.fixture
def ids(embedded: testing.EmbeddedEngine) -> list[int]:
    """Of the contexts in the engine, in the order of a listing."""
    embedded.seed(CONTEXTS, 7, odd=True)
    with embedded.open() as engine:
        return engine.snapshot()["context_id"].tolist()


@pytest.fixture
def sessions(embedded: testing.EmbeddedEngine) -> Iterator[list[wfpsa.Engine]]:
    """Sessions of the engine, all open; closed afterwards, and then nothing is left of them."""
    opened = [embedded.open() for _ in range(SESSIONS)]
    assert testing.live_counters()["engines"] == SESSIONS
    yield opened
    for engine in opened:
        engine.close()
    assert {name: testing.live_counters()[name] for name in ("engines", "enum_handles", "pages")} == {
        "engines": 0,
        "enum_handles": 0,
        "pages": 0,
    }


def at_once(function: Callable[[int], _T]) -> list[_T]:
    """What a function returned for each number of a session, each in a thread of its own and all let go together."""
    barrier = threading.Barrier(SESSIONS)

    def one(number: int) -> _T:
        barrier.wait(60)
        return function(number)

    with ThreadPoolExecutor(SESSIONS) as pool:
        return list(pool.map(one, range(SESSIONS)))


@pytest.mark.parametrize("version", [0, 1])
def test_sessions_that_list_at_once_each_get_every_context_in_order(
    version: int, sessions: list[wfpsa.Engine], ids: list[int]
) -> None:
    def listed(number: int) -> list[int]:
        return sessions[number].snapshot(version=version, page_size=50 + 30 * number)["context_id"].tolist()

    assert all(answer == ids for answer in at_once(listed))


def test_sessions_that_read_pages_at_once_hold_their_places_apart(sessions: list[wfpsa.Engine], ids: list[int]) -> None:
    def paged(number: int) -> list[list[int]]:
        size = 100 + number
        return [page["context_id"].tolist() for page in sessions[number].pages(page_size=size, version=number % 2)]

    for number, pages in enumerate(at_once(paged)):
        size = 100 + number
        assert pages == [ids[at : at + size] for at in range(0, CONTEXTS, size)]


def test_sessions_that_get_at_once_get_what_they_asked_for(sessions: list[wfpsa.Engine], ids: list[int]) -> None:
    whole = {context.context_id: context for context in sessions[0].snapshot()}

    def got(number: int) -> bool:
        mine = random.Random(number).sample(ids, 50)
        return all(sessions[number].get(context_id) == whole[context_id] for context_id in mine)

    assert all(at_once(got))


def test_sessions_that_expire_disjoint_slices_at_once_expire_every_context_exactly_once(
    sessions: list[wfpsa.Engine], embedded: testing.EmbeddedEngine, ids: list[int]
) -> None:
    reports = at_once(lambda number: sessions[number].expire(ids[number::SESSIONS]))
    for number, report in enumerate(reports):
        assert report.context_id.tolist() == ids[number::SESSIONS]
        assert report.counts[Outcome.EXPIRED] == len(report) == CONTEXTS // SESSIONS
    assert not any(sessions[0].snapshot()["has_outbound"].tolist())
    embedded.advance(60)
    assert len(embedded) == 0
    again = at_once(lambda number: sessions[number].expire(ids[number::SESSIONS]))
    assert sum(report.counts[Outcome.ALREADY_GONE] for report in again) == CONTEXTS


def test_sessions_that_expire_the_same_contexts_at_once_leave_each_gone_once(
    sessions: list[wfpsa.Engine], embedded: testing.EmbeddedEngine, ids: list[int]
) -> None:
    lasting = sessions[0].snapshot()["has_inbound"].tolist()
    at_a_stroke = [number for number, inbound in zip(ids, lasting, strict=True) if not inbound]
    assert at_a_stroke  # with nothing to linger they are gone at once: exactly one call can succeed
    reports = at_once(lambda number: sessions[number].expire(at_a_stroke))
    for outcomes in zip(*(report.outcome for report in reports), strict=True):
        assert sorted(outcomes) == [Outcome.EXPIRED] + [Outcome.ALREADY_GONE] * (SESSIONS - 1)
    assert len(embedded) == CONTEXTS - len(at_a_stroke)


def test_sessions_that_delete_at_once_leave_exactly_what_nobody_deleted(
    sessions: list[wfpsa.Engine], ids: list[int]
) -> None:
    def delete(number: int) -> None:
        for context_id in ids[number::SESSIONS][:50]:
            sessions[number].delete(context_id)

    at_once(delete)
    deleted = {context_id for number in range(SESSIONS) for context_id in ids[number::SESSIONS][:50]}
    assert sessions[0].snapshot()["context_id"].tolist() == [number for number in ids if number not in deleted]


def test_half_of_the_sessions_list_whole_listings_while_the_other_half_deletes(
    sessions: list[wfpsa.Engine], ids: list[int]
) -> None:
    """Whatever a listing lacks at the time it began is what was deleted by then: of each slice, a beginning."""
    half = SESSIONS // 2
    slices = [ids[number::half] for number in range(half)]

    def work(number: int) -> list[int]:
        if number < half:
            for context_id in slices[number][:100]:
                sessions[number].delete(context_id)
            return []
        return sessions[number].snapshot(page_size=97)["context_id"].tolist()

    for listed in at_once(work)[half:]:
        there = set(listed)
        assert len(there) == len(listed) and there <= set(ids)
        for mine in slices:
            states = [context_id in there for context_id in mine]
            assert states == sorted(states) and all(states[100:])


def test_sessions_opened_and_closed_at_once_come_and_go_apart(embedded: testing.EmbeddedEngine, ids: list[int]) -> None:
    def visit(number: int) -> int:
        read = 0
        for _ in range(5):
            with embedded.open() as engine:
                pages = engine.pages(page_size=100)
                read += sum(len(next(pages)) for _ in range(number % 4))  # the session ends under the listing
        return read

    assert at_once(visit) == [5 * 100 * (number % 4) for number in range(SESSIONS)]
    assert testing.live_counters()["engines"] == testing.live_counters()["enum_handles"] == 0


def test_every_context_is_found_by_its_id_through_growth_and_churn(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    there: set[int] = set()
    gone: set[int] = set()
    for turn in range(6):
        embedded.seed(1_000 << turn % 3, turn)
        there = set(engine.snapshot()["context_id"].tolist())
        assert not there & gone  # no id comes twice
        chosen = random.Random(turn).sample(sorted(there), len(there) * 2 // 3)
        for context_id in chosen:
            engine.delete(context_id)
        there.difference_update(chosen)
        gone.update(chosen)
    assert len(embedded) == len(there) > 1_000
    for context_id in there:
        assert engine.get(context_id).context_id == context_id
    assert engine.expire(sorted(gone)).counts[Outcome.ALREADY_GONE] == len(gone)

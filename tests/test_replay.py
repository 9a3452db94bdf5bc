"""Replaying: an embedded engine filled from a batch shows the batch, whatever is in it and whichever columns it has."""

import re
from pathlib import Path

import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COLUMNS, SLICES, contexts_at, raw_pages, seeded, values, walk_allocations

import wfpsa
from wfpsa import testing
from wfpsa.enums import AuthConfig, AuthType, ChangeKind, CipherConfig, CipherType, PfsGroup, TrafficType, TransformType

VERSIONS = pytest.mark.parametrize("version", [0, 1])


def replayed(batch: wfpsa.SaBatch) -> wfpsa.SaBatch:
    """A snapshot of a new engine that this batch was replayed into."""
    with testing.EmbeddedEngine() as control:
        control.stop_clock()
        control.replay(batch)
        assert len(control) == len(batch)
        with control.open() as engine:
            return engine.snapshot(version=batch.version)


def assert_shows(snapshot: wfpsa.SaBatch, batch: wfpsa.SaBatch) -> None:
    """Every column of the batch has the same values in the snapshot."""
    for name in batch.columns:
        assert snapshot[name].tolist() == batch[name].tolist(), name


def distinct(batch: wfpsa.SaBatch) -> wfpsa.SaBatch:
    """The contexts of which none before has the same id."""
    ids = batch["context_id"].tolist()
    return batch.take([row for row, number in enumerate(ids) if ids.index(number) == row])


# --- The round trip -------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("odd", [False, True])
def test_a_replayed_engine_shows_the_recording(version: int, odd: bool) -> None:
    batch = seeded(3000, 5, odd=odd, version=version)
    assert values(replayed(batch)) == values(batch)


def test_parts_of_a_batch_are_replayed_in_their_order() -> None:
    batch = seeded(500, 5, odd=True)
    for part in (batch[100:200], batch[::-3], batch[7:8], batch[:0], batch.take([9, 2, 5])):
        assert_shows(replayed(part), part)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]), part=SLICES)
def test_any_page_is_shown_again(data: st.DataObject, version: int, part: slice) -> None:
    page = pages.build(data.draw(pages.strategy(version)), version)
    batch = distinct(testing.decode_page(page.address, page.count, version)[part])
    snapshot = replayed(batch)
    assert values(snapshot) == values(batch)
    assert list(snapshot) == list(batch)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), version=st.sampled_from([0, 1]))
def test_any_columns_of_any_page_are_shown_again_through_a_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, version: int
) -> None:
    pytest.importorskip("pyarrow")
    fields = data.draw(st.lists(st.sampled_from(COLUMNS[version]), max_size=12))
    page = pages.build(data.draw(pages.strategy(version)), version)
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        control.replay(distinct(testing.decode_page(page.address, page.count, version)))
        batch = engine.snapshot(fields=["context_id", *fields], version=version)
    path = tmp_path_factory.mktemp("replay") / "recording"
    batch.save(path)
    loaded = wfpsa.SaBatch.load(path)
    snapshot = replayed(loaded)
    assert_shows(snapshot, batch)
    assert values(replayed(snapshot)) == values(snapshot)


@VERSIONS
def test_each_column_alone_is_shown_again(version: int) -> None:
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.stop_clock()
        control.seed(400, 8, odd=True)
        for name in COLUMNS[version]:
            batch = engine.snapshot(fields={"context_id", name}, version=version)
            assert_shows(replayed(batch), batch)


# --- What columns do not say ----------------------------------------------------------------------


def test_a_column_that_is_missing_gets_what_is_usual(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.add("10.0.0.1", "10.0.0.2")
    context = replayed(engine.snapshot(fields=["context_id"]))[0]
    assert context.context_id == engine.snapshot()["context_id"][0]
    assert (context.ip_version, context.traffic_type) == (4, TrafficType.TRANSPORT)
    assert str(context.local_address) == str(context.remote_address) == "0.0.0.0"
    assert (context.local_port, context.remote_port, context.ip_protocol) == (0, 0, 0)
    for side in (context.inbound, context.outbound):
        assert (side.spi, side.sa_count, side.transform) == (0, 1, TransformType.ESP_AUTH_AND_CIPHER)
        assert (side.auth_type, side.auth_config) == (AuthType.SHA_256, AuthConfig.HMAC_SHA_256_128)
        assert (side.cipher_type, side.cipher_config) == (CipherType.AES_128, CipherConfig.CBC_AES_128)
        assert (side.lifetime_seconds, side.pfs_group) == (0, PfsGroup.NONE)
        for absent in ("key_module", "main_mode_target", "transport_filter_id", "udp_local_port", "lookup_context"):
            assert getattr(side, absent) is None


def test_the_ip_version_that_is_missing_is_that_of_the_addresses(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.add("10.0.0.1", "10.0.0.2")
    embedded.add("2001:db8::1", "::ffff:10.0.0.2")
    batch = engine.snapshot(fields=["context_id", "local_address", "remote_address"])
    assert replayed(batch)["ip_version"].tolist() == [4, 6]
    assert_shows(replayed(batch), batch)


def test_keys_are_as_long_as_their_algorithm_asks_for(embedded: testing.EmbeddedEngine) -> None:
    embedded.replay(seeded(500, 3))
    sizes = set()
    for address, count in raw_pages(embedded, 1, 600):
        for context in contexts_at(address, count, 1):
            if details := context.pointed("outboundSa"):
                sa = details.embedded("saBundle").pointed("saList", 0)
                if sa.number("saTransformType") == TransformType.ESP_AUTH_AND_CIPHER:
                    both = sa.pointed("espAuthAndCipherInformation")
                    auth = both.embedded("saAuthInformation").embedded("authKey").number("size")
                    cipher = both.embedded("saCipherInformation").embedded("cipherKey").number("size")
                    sizes.add((auth, cipher))
    assert sizes == {(20, 16), (32, 32), (20, 20), (36, 36), (20, 24), (28, 28)}


# --- Afterwards it is an engine like others -------------------------------------------------------


def test_replayed_contexts_expire_end_and_are_told_like_others(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    batch = seeded(200, 5)
    with engine.subscribe() as subscription:
        embedded.replay(batch)
        told = [subscription.get(5) for _ in batch]
        assert subscription.get(0) is None
    assert [(change.kind, change.context_id) for change in told] == [(ChangeKind.ADDED, c.context_id) for c in batch]
    statistics = engine.statistics()
    sas = batch["has_inbound"].tolist().count(True) + batch["has_outbound"].tolist().count(True)
    assert statistics.active_sas == sas
    engine.expire(batch[:50]).raise_for_failures()
    embedded.advance(61)
    assert len(embedded) <= 150
    embedded.advance(max(batch["lifetime_seconds_out"].tolist(), key=lambda seconds: seconds or 0))
    assert len(embedded) < 20  # those without SAs stay, and those of another direction's lifetime


def test_new_contexts_get_ids_of_their_own(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.replay(seeded(300, 5, odd=True))
    embedded.seed(300, odd=True)
    embedded.add()
    ids = engine.snapshot()["context_id"].tolist()
    assert len(ids) == len(set(ids)) == 601


def test_a_filter_of_the_engine_finds_replayed_contexts() -> None:
    batch = seeded(2000, 5)
    with testing.EmbeddedEngine() as control, control.open() as engine:
        control.replay(batch)
        found = engine.snapshot(remote="10.2.0.0/16")
        assert found.pushed_down and len(found) > 100
        assert all(str(address).startswith("10.2.") for address in (c.remote_address for c in found))


# --- Whole or not at all --------------------------------------------------------------------------


def test_an_id_that_is_there_already_is_named_and_nothing_is_added(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    batch = seeded(100, 5)
    embedded.replay(batch[90:91])
    before, statistics = values(engine.snapshot()), engine.statistics()
    taken = batch["context_id"][90]
    with pytest.raises(ValueError, match=f"context {taken} is in the engine already, or twice in the batch: nothing"):
        embedded.replay(batch)
    assert values(engine.snapshot()) == before and engine.statistics() == statistics
    twice = batch.take([1, 2, 1])
    with pytest.raises(ValueError, match=f"context {twice['context_id'][0]} is in the engine already, or twice"):
        embedded.replay(twice)
    assert values(engine.snapshot()) == before
    embedded.replay(batch[:90])
    embedded.replay(batch[91:])
    assert sorted(engine.snapshot()["context_id"]) == sorted(batch["context_id"])


def test_a_replay_that_fails_is_told_to_nobody(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    batch = seeded(20, 5)
    with engine.subscribe() as subscription:
        with pytest.raises(ValueError):
            embedded.replay(batch.take([0, 1, 2, 2]))
        added = embedded.add()
        assert subscription.get(5).context_id == added and subscription.get(0) is None


def test_a_replay_without_memory_adds_nothing() -> None:
    batch = seeded(40, 5, odd=True)

    def attempt() -> dict[str, list[object]]:
        with testing.EmbeddedEngine() as control:
            control.stop_clock()
            try:
                control.replay(batch)
            except MemoryError:
                assert len(control) == 0
                raise
            with control.open() as engine:
                return values(engine.snapshot())

    shown, failures = walk_allocations(attempt)
    assert shown == values(batch) and failures > 40


def test_a_batch_without_ids_cannot_be_replayed(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(3)
    batch = engine.snapshot(fields=["spi_in"])
    with pytest.raises(ValueError, match=r"no column 'context_id': it was left out by fields=; it cannot be replayed"):
        embedded.replay(batch)
    with pytest.raises(TypeError):
        embedded.replay(None)
    with pytest.raises(TypeError):
        embedded.replay(3.5)


def test_a_replay_while_others_enumerate_is_not_seen_by_them(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine
) -> None:
    embedded.seed(100)
    seen = engine.pages(page_size=10)
    first = next(seen)
    other = seeded(400, 5)[100:]
    embedded.replay(other)
    assert len(first) + sum(map(len, seen)) == 100
    assert len(engine.snapshot()) == 400


# --- Targets --------------------------------------------------------------------------------------


def test_a_target_names_the_recording(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    batch = seeded(100, 5, odd=True)
    path = tmp_path / "a recording.arrow"
    batch.save(path)
    with wfpsa.open_engine(f"embedded:?replay={path}&clock=manual") as engine:
        assert values(engine.snapshot()) == values(batch)
    named = f"embedded:replayed?clock=manual&replay={path}"
    joining = "embedded:replayed?replay=nothing"  # options shape a new engine only
    with wfpsa.open_engine(named) as engine, wfpsa.open_engine(joining) as joined:
        assert values(joined.snapshot()) == values(engine.snapshot()) == values(batch)
    with wfpsa.open_engine(f"embedded:?contexts=50&clock=manual&replay={path}") as engine:
        assert len(engine.snapshot()) == 150
    strange = tmp_path / "50%&more=1"
    batch.save(strange)
    encoded = str(strange).replace("%", "%25").replace("&", "%26")
    with wfpsa.open_engine(f"embedded:?replay={encoded}&clock=manual") as engine:
        assert len(engine.snapshot()) == 100
    with testing.EmbeddedEngine() as control:
        control.replay(path)
        assert len(control) == 100


def test_a_target_whose_recording_is_not_one_opens_no_engine(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError):
        wfpsa.open_engine(f"embedded:?replay={tmp_path / 'nothing'}")
    path = tmp_path / "text"
    path.write_text("no recording")
    for target in ("embedded:?replay=", "embedded:fallen?replay="):
        with pytest.raises(ValueError, match=re.escape(f"{str(path)!r} is not a saved batch: it is no Arrow file")):
            wfpsa.open_engine(f"{target}{path}")
        with pytest.raises(ValueError, match=r"option 'replay' in target .* must be the path of a saved batch"):
            wfpsa.open_engine(target)
    with wfpsa.open_engine("embedded:fallen") as engine:
        assert len(engine.snapshot()) == 0

"""Projection: a batch read with fields= has those columns and no others, with the values it would have had."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import COLUMNS, values

import wfpsa
from wfpsa import testing


@pytest.mark.parametrize("version", [0, 1])
def test_each_column_alone_has_the_values_it_has_among_all(
    embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, version: int
) -> None:
    embedded.seed(300, 3, odd=True)
    whole = values(engine.snapshot(version=version))
    for name in COLUMNS[version]:
        batch = engine.snapshot(version=version, fields=[name])
        assert batch.columns == (name,)
        assert batch[name].tolist() == whole[name], name
        assert batch[name].strings is None or set(batch[name].strings) <= {None, *whole[name]}


@given(st.data(), st.sampled_from([0, 1]), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_any_choice_of_columns_agrees_with_the_whole(data: st.DataObject, version: int, page_size: int) -> None:
    chosen = data.draw(st.lists(st.sampled_from(COLUMNS[version]), min_size=1, unique=True))
    with wfpsa.open_engine("embedded:?contexts=50&seed=11&odd=1") as engine:
        whole = engine.snapshot(version=version)
        batch = engine.snapshot(version=version, fields=iter(chosen), page_size=page_size)
        pages = list(engine.pages(version=version, fields=chosen, page_size=page_size))
    expected = values(whole)
    assert set(batch.columns) == set(chosen)
    assert values(batch) == {name: expected[name] for name in batch.columns}
    assert {name: [v for page in pages for v in page[name]] for name in batch.columns} == values(batch)
    assert list(batch) == list(whole)  # equality is that of the common columns
    assert values(pickle.loads(pickle.dumps(batch[::2]))) == {name: expected[name][::2] for name in batch.columns}


def test_get_reads_the_fields_too(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    number = embedded.add(remote="10.9.8.7")
    context = engine.get(number, fields=("remote_address",))
    assert str(context.remote_address) == "10.9.8.7"
    with pytest.raises(AttributeError, match="no column 'context_id': it was left out by fields="):
        context.context_id  # noqa: B018 - the access is the test


def test_a_column_left_out_is_named_with_its_reason(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.add()
    batch = engine.snapshot(fields=["remote_address"])
    with pytest.raises(KeyError, match="no column 'spi_in': it was left out by fields="):
        batch["spi_in"]
    with pytest.raises(AttributeError, match="no column 'spi_out': it was left out by fields="):
        batch[0].outbound.spi  # noqa: B018 - the access is the test
    with pytest.raises(TypeError, match="without its context_id"):
        hash(batch[0])
    with pytest.raises(TypeError, match="without its spi"):
        hash(batch[0].outbound)
    with pytest.raises(TypeError, match="context ids"):
        engine.expire(batch["remote_address"])
    with pytest.raises(KeyError, match="context_id"):
        engine.expire(batch)
    assert repr(batch[0]) == "<SaContext ? 10.0.0.2 inbound+outbound>"
    assert repr(batch[0].inbound) == "<SaDetails inbound spi=? ?>"


def test_directions_are_there_whatever_was_read(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(200, odd=True)
    for whole, context in zip(engine.snapshot(), engine.snapshot(fields=["context_id"]), strict=True):
        assert (whole.inbound is None, whole.outbound is None) == (context.inbound is None, context.outbound is None)


def test_the_core_set_is_small(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(1000)
    batch = engine.snapshot(fields=wfpsa.CORE_FIELDS)
    assert set(batch.columns) == set(wfpsa.CORE_FIELDS)
    assert batch.nbytes / len(batch) <= 96


def test_names_are_kept_for_the_columns_that_have_them(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(400, 5)
    whole = engine.snapshot()
    for name in ("main_mode_target_in", "extended_mode_target_out"):
        batch = engine.snapshot(fields=[name])
        assert {*filter(None, batch[name].strings or ())} == {*filter(None, whole[name].tolist())}

"""Secrecy: the marked bytes of every key are in the engine's pages and in nothing that this package hands out."""

import io
import json
import pickle
from pathlib import Path

import numpy as np
import oracle
import pages
import pytest
from support import key_blobs, raw_pages, seeded, values

import wfpsa
from wfpsa import testing

VERSIONS = pytest.mark.parametrize("version", [0, 1])
MARKS = (testing.KEY_MARK, pages.KEY_MARK)


def pieces(length: int) -> set[bytes]:
    """Every run of that many bytes in a repeated mark."""
    return {(mark * 3)[at : at + length] for mark in MARKS for at in range(len(mark))}


def assert_secret(output: bytes | str, least: int = 6) -> None:
    """Not even `least` bytes in a row are in the output, nor their usual textual forms."""
    if isinstance(output, str):
        lowered = output.lower()
        for piece in pieces(8):
            assert piece.hex() not in lowered
            assert repr(piece)[2:-1].lower() not in lowered
        output = output.encode("utf-8", "surrogatepass")
    for piece in pieces(least):
        assert piece not in output


def population(version: int) -> wfpsa.SaBatch:
    """A large odd one."""
    return seeded(5000, 11, odd=True, version=version)


@VERSIONS
def test_the_pages_do_hold_marked_keys_until_they_are_decoded(version: int) -> None:
    with testing.EmbeddedEngine() as control:
        control.seed(500, 11, odd=True)
        for address, count in raw_pages(control, version, 501):
            before = key_blobs(address, count, version)
            assert len(before) > 800
            assert all((testing.KEY_MARK * 8).startswith(blob) for blob in before)
            testing.decode_page(address, count, version)
            after = key_blobs(address, count, version)
            assert list(map(len, after)) == list(map(len, before))
            assert not any(map(any, after))


@VERSIONS
def test_keys_of_one_context_read_by_id_are_wiped_too(version: int) -> None:
    bundle = pages.Bundle(num_sas=2, sas=(pages.Sa(), pages.Sa(transform=1)), key_module=pages.KeyModule())
    details = pages.Details(bundle=bundle)
    page = pages.build([pages.Context(inbound=details, outbound=details)], version)
    assert len(page.key_blobs()) == 8 and all(map(all, page.key_blobs()))
    testing.decode_page(page.address, 1, version)
    assert not any(map(any, page.key_blobs()))


def test_there_is_no_column_or_attribute_for_keys_tokens_or_credentials() -> None:
    words = ("authkey", "cipherkey", "key_data", "blob", "token", "credential", "logon", "secret")
    for names in (oracle.COLUMNS1, dir(wfpsa.SaContext), dir(wfpsa.SaDetails), dir(wfpsa.SaBatch)):
        assert [name for name in names if any(word in name.lower() for word in words)] == []


@VERSIONS
def test_no_column_holds_key_bytes(version: int) -> None:
    batch = population(version)
    for name in batch.columns:
        assert_secret(bytes(batch[name]), least=4)
        assert_secret(np.ascontiguousarray(np.asarray(batch[name])).tobytes(), least=4)
        assert_secret(repr(batch[name]))
        assert_secret("\n".join(map(str, batch[name].strings or ())))
    rows = [np.asarray(batch[name]).view(np.uint8).reshape(len(batch), -1) for name in batch.columns]
    assert_secret(np.hstack(rows).tobytes())  # nor do the cells of a row, one after another


@VERSIONS
def test_no_context_shows_key_bytes(version: int) -> None:
    batch = population(version)
    shown = [repr(batch), *map(repr, batch)]
    for context in batch[:1000]:
        for thing in filter(None, (context, context.inbound, context.outbound)):
            names = [name for name in dir(thing) if not name.startswith("_") and hasattr(thing, name)]
            shown.append(repr(thing))
            shown += [repr(getattr(thing, name)) for name in names]
    assert_secret("\n".join(shown))


@VERSIONS
def test_no_pickle_holds_key_bytes(version: int) -> None:
    batch = population(version)
    for thing in (batch, batch[::7], batch[0], batch[1].inbound, batch.take([5, 9])):
        assert_secret(pickle.dumps(thing))
        assert_secret(pickle.dumps(thing, 0).decode("latin-1"))


@VERSIONS
def test_no_json_and_no_text_holds_key_bytes(version: int) -> None:
    assert_secret(json.dumps(values(population(version)), default=lambda value: value.hex()))


@VERSIONS
def test_no_arrow_stream_or_file_holds_key_bytes(version: int) -> None:
    pa = pytest.importorskip("pyarrow")
    batch = population(version)
    for source in (batch, batch[::3], batch.arrow(addresses="text", enums="name")):
        table = pa.table(source)
        file = io.BytesIO()
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        assert_secret(file.getvalue())
        assert_secret(str(table.slice(0, 200).to_pylist()))


@VERSIONS
def test_no_saved_file_holds_key_bytes_nor_do_replayed_keys_surface(
    tmp_path: Path, embedded: testing.EmbeddedEngine, engine: wfpsa.Engine, version: int
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "recording"
    population(version).save(path)
    assert_secret(path.read_bytes())
    embedded.replay(path)
    engine.snapshot(version=version).save(path, overwrite=True)
    assert_secret(path.read_bytes())
    for address, count in raw_pages(embedded, version, 501):  # what stands for keys there is the mark again
        assert all((testing.KEY_MARK * 8).startswith(blob) for blob in key_blobs(address, count, version))


def test_no_report_or_error_holds_key_bytes(embedded: testing.EmbeddedEngine, engine: wfpsa.Engine) -> None:
    embedded.seed(100, odd=True)
    batch = engine.snapshot()
    embedded.fail("IPsecSaContextExpire0", 5)
    report = engine.expire(batch)
    assert_secret(pickle.dumps(report))
    with pytest.raises(wfpsa.ExpiryFailed) as caught:
        report.raise_for_failures()
    assert_secret(pickle.dumps(caught.value))
    assert_secret(repr(caught.value) + repr(report) + str(vars(caught.value)))
    embedded.fail("IPsecSaContextEnum1")
    with pytest.raises(wfpsa.EngineTimeout) as timeout:
        engine.snapshot()
    assert_secret(repr(timeout.value) + str(vars(timeout.value)))

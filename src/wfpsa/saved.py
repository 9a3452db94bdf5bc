"""Saved batches: Arrow IPC files that any Arrow reader opens, and from which a batch comes back as it was."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from wfpsa import _native

TYPE_CHECKING = False  # importing typing takes a third of the whole
if TYPE_CHECKING:
    from typing import IO, Any

__all__ = ["SCHEMA_VERSION", "load", "placed", "save"]

SCHEMA_VERSION = 1
"""Of the files written; files of a later one are refused."""

PRESENCE = "presence"
"""The column beside the batch's own, an uint8: which parts of each context there are, so that absence survives where
the columns that show it were left out. Its bits are those of `enum wfpsa_presence` in wfpsa/columns.h."""

_INBOUND, _OUTBOUND, _ADDRESS = 0x01, 0x02, 0x04
_FIRST = {"in": 0x10, "out": 0x20}
_SECOND = {"in": 0x40, "out": 0x80}
_BITS = "0x01 inbound SA, 0x02 outbound SA, 0x04 address, 0x10 and 0x20 first SA in and out, 0x40 and 0x80 second SA"
_PUSHED_DOWN = {"true": True, "false": False, "none": None}


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.compute  # type: ignore[import-untyped]
        import pyarrow.ipc  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "saving and loading batches needs pyarrow: python -m pip install 'wfpsa[arrow]'", name=error.name
        ) from error
    return pyarrow


# ---- writing ----


def save(batch: _native.SaBatch, path: str | os.PathLike[str], overwrite: bool) -> None:
    """What SaBatch.save does."""
    if not isinstance(overwrite, bool):
        raise TypeError(f"overwrite must be True or False, not {overwrite!r}")
    from datetime import UTC, datetime  # not for who only imports the package: it takes its time

    pa = _pyarrow()
    whole, presence = _native.batch_and_presence(batch)
    record_batch = pa.record_batch(whole)
    parts = pa.Array.from_buffers(pa.uint8(), len(whole), [None, pa.py_buffer(presence)])
    bits = pa.field(PRESENCE, pa.uint8(), nullable=False, metadata={"source": "", "note": _BITS})
    facts = {
        "schema_version": str(SCHEMA_VERSION),
        "backend": whole.backend,
        "structure_version": str(whole.version),
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "pushed_down": str(whole.pushed_down).lower(),
    }
    schema = pa.schema([*record_batch.schema, bits], {f"wfpsa.{name}": fact for name, fact in facts.items()})
    with placed(os.path.realpath(path), overwrite) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([*record_batch.columns, parts], schema=schema))


@contextmanager
def placed(target: str, overwrite: bool) -> Iterator[IO[bytes]]:
    """A file written beside the target, and put in its place at the end of the block; on an error nothing changes."""
    _refuse_existing(target, overwrite)
    folder, name = os.path.split(target)
    beside = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite and os.path.exists(target):
            os.chmod(beside, stat.S_IMODE(os.stat(target).st_mode))
        _put_in_place(beside, target, overwrite)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(beside)
    _sync_folder(folder)


def _refuse_existing(target: str, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(errno.EEXIST, "the file exists; overwrite=True replaces it", target)
    if os.path.lexists(target) and not os.path.isfile(target):
        raise FileExistsError(errno.EEXIST, "not a regular file, and so not replaced", target)


def _put_in_place(beside: str, target: str, overwrite: bool) -> None:
    """Renames; without `overwrite` never onto another file, even one that has come meanwhile."""
    if overwrite:
        os.replace(beside, target)
    elif os.name == "nt":
        os.rename(beside, target)  # there it refuses
    else:
        try:
            os.link(beside, target)
        except FileExistsError:
            _refuse_existing(target, overwrite)
            raise
        except OSError:  # a file system without links
            _refuse_existing(target, overwrite)
            os.rename(beside, target)


def _sync_folder(folder: str) -> None:
    """Makes a new name survive a crash of the machine, where folders can be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- reading ----


def load(path: str | os.PathLike[str]) -> _native.SaBatch:
    """What SaBatch.load does."""
    pa = _pyarrow()
    with open(path, "rb") as file:
        _check_ends(path, file)
        try:
            with pa.ipc.open_file(file) as reader:
                return _Saved(pa, reader).batch()
        except (ValueError, pa.ArrowException) as error:
            raise ValueError(f"{os.fspath(path)!r} is not a saved batch: {_first_line(error)}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise ValueError(f"{os.fspath(path)!r} is damaged: {_first_line(error)}") from error


_MAGIC = b"ARROW1"


def _check_ends(path: str | os.PathLike[str], file: IO[bytes]) -> None:
    """An Arrow file begins and ends with the same bytes."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError(f"{os.fspath(path)!r} is not a saved batch: it is no Arrow file")
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - len(_MAGIC), len(_MAGIC)))
    if file.read() != _MAGIC:
        raise ValueError(f"{os.fspath(path)!r} is damaged: its end is missing")
    file.seek(0)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _fact(metadata: Mapping[bytes, bytes], name: str) -> str:
    key = f"wfpsa.{name}"
    if key.encode() not in metadata:
        raise ValueError(f"its schema has no metadata {key!r}")
    return metadata[key.encode()].decode()


class _Saved:
    """An open file: what its schema says is checked first, then every value."""

    def __init__(self, pa: Any, reader: Any) -> None:
        self._pa = pa
        self._infos = {info["name"]: info for info in _native.column_info()}
        self._check_facts(reader.schema.metadata or {})
        self._check_schema(reader.schema)
        table = reader.read_all()
        table.validate(full=True)
        self._rows = table.num_rows
        self._arrays = {name: self._array(table[name]) for name in table.column_names}

    def _check_facts(self, metadata: Mapping[bytes, bytes]) -> None:
        version = _fact(metadata, "schema_version")
        if not (version.isascii() and version.isdigit() and int(version) >= 1):
            raise ValueError(f"its schema version is {version!r}")
        if int(version) > SCHEMA_VERSION:
            raise ValueError(
                f"its schema version is {version}, written by a newer wfpsa; this one reads {SCHEMA_VERSION}"
            )
        self._backend = _fact(metadata, "backend")
        structures = _fact(metadata, "structure_version")
        if structures not in ("0", "1"):
            raise ValueError(f"its structure version is {structures!r}, not 0 or 1")
        self._version = int(structures)
        _check_time(_fact(metadata, "created"))
        pushed_down = _fact(metadata, "pushed_down")
        if pushed_down not in _PUSHED_DOWN:
            raise ValueError(f"its pushed_down is {pushed_down!r}")
        self._pushed_down = _PUSHED_DOWN[pushed_down]

    def _check_schema(self, schema: Any) -> None:
        names = schema.names
        if len(set(names)) != len(names):
            raise ValueError("a column is there twice")
        if PRESENCE not in names:
            raise ValueError(f"it has no column {PRESENCE!r}")
        if names == [PRESENCE]:
            raise ValueError(f"it has no column but {PRESENCE!r}")
        for field in schema:
            wanted = self._type(field.name)
            given = field.type
            if wanted == "dictionary":
                fits = self._pa.types.is_dictionary(given) and given.value_type in self._text_types()
            else:
                fits = given == wanted
            if not fits:
                raise ValueError(f"column {field.name!r} is of type {given}, not {wanted}")

    def _text_types(self) -> tuple[Any, ...]:
        return self._pa.string(), self._pa.large_string()

    def _type(self, name: str) -> Any:
        """The Arrow type of a column; "dictionary" for one of names."""
        if name == PRESENCE:
            return self._pa.uint8()
        info = self._infos.get(name)
        if info is None or info["version"] > self._version:
            raise ValueError(f"there is no column {name!r} in version {self._version} of the structures")
        if info["kind"] == "text":
            return "dictionary"
        if info["kind"] == "bool":
            return self._pa.bool_()
        whole = {1: self._pa.uint8(), 2: self._pa.uint16(), 4: self._pa.uint32(), 8: self._pa.uint64()}
        return whole.get(info["width"]) or self._pa.binary(16)

    def _array(self, column: Any) -> Any:
        """A column in one piece."""
        if column.num_chunks == 1:
            return column.chunk(0)
        if self._pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        joined = column.combine_chunks()
        return joined.chunk(0) if isinstance(joined, self._pa.ChunkedArray) else joined

    def batch(self) -> _native.SaBatch:
        """The batch, once nothing in it contradicts the rest."""
        self._check_presence()
        names, codes = self._names()
        cells = {name: codes[name] if name in codes else self._cells(name) for name in self._arrays}
        presence = cells.pop(PRESENCE)
        batch = _native.unpickled_batch(
            self._version, self._rows, cells, presence, names, self._backend, self._pushed_down
        )
        found = self._pa.record_batch(batch)
        for name in cells:
            if name not in codes and not found[name].equals(self._arrays[name]):
                raise ValueError(f"column {name!r} has values where {PRESENCE!r} has none, or none where it has some")
        return batch

    def _cells(self, name: str) -> memoryview:
        """The raw cells of a column, those of absent values as in a batch."""
        array = self._arrays[name]
        kind = self._infos[name]["kind"] if name in self._infos else "u8"
        width = self._infos[name]["width"] if name in self._infos else 1
        if kind == "bool":
            array = array.cast(self._pa.uint8())
        if array.null_count:
            absent: object = bytes(16) if width == 16 else 255 if kind == "enum" else 0
            array = self._filled(array, absent)
        return _raw(array, width)

    def _filled(self, array: Any, value: object) -> Any:
        """The array with that value for its nulls. Not by fill_null, which under Wine fills where nothing is absent."""
        return self._pa.compute.if_else(array.is_valid(), array, self._pa.scalar(value, array.type))

    def _names(self) -> tuple[list[str], dict[str, memoryview]]:
        """The names in use, each once, and by column the cells: codes into them, from 1."""
        pa = self._pa
        arrays = {
            name: array for name, array in self._arrays.items() if self._infos.get(name, {}).get("kind") == "text"
        }
        texts = {name: array.dictionary.cast(pa.string()) for name, array in arrays.items()}
        used = [text.take(arrays[name].indices.unique().drop_null()) for name, text in texts.items()]
        names = pa.chunked_array(used, pa.string()).unique().drop_null()
        codes = {}
        for name, array in arrays.items():
            code = pa.compute.index_in(texts[name], value_set=names).cast(pa.uint32())
            code = pa.compute.add(code, pa.scalar(1, pa.uint32()))
            codes[name] = _raw(self._filled(code.take(array.indices), 0), 4)
        listed: list[str] = names.to_pylist()
        if any("\0" in name for name in listed):
            raise ValueError("a name has a NUL in it")
        return listed, codes

    # ---- what must agree ----

    def _check_presence(self) -> None:
        pc = self._pa.compute
        presence = self._arrays[PRESENCE]
        possible = self._pa.array(list(filter(_is_possible, range(256))), self._pa.uint8())
        self._agree(PRESENCE, pc.is_in(presence, value_set=possible))
        for name, bit in (("has_inbound", _INBOUND), ("has_outbound", _OUTBOUND)):
            if name in self._arrays:
                self._agree(name, pc.equal(self._arrays[name], self._bit(bit)))
        if "ip_version" in self._arrays:
            versions = self._arrays["ip_version"]
            known = pc.is_in(versions, value_set=self._pa.array([4, 6], self._pa.uint8()))
            other = self._filled(pc.equal(versions, 254), True)
            self._agree("ip_version", pc.and_(pc.equal(known, self._bit(_ADDRESS)), pc.or_(known, other)))
        for side in ("in", "out"):
            if f"sa_count_{side}" in self._arrays:
                count = self._filled(self._arrays[f"sa_count_{side}"], 0)
                first, second = self._bit(_FIRST[side]), self._bit(_SECOND[side])
                two = pc.and_(first, pc.greater_equal(count, 2))
                one_or_none = pc.or_(pc.invert(first), pc.greater_equal(count, 1))
                self._agree(f"sa_count_{side}", pc.and_(one_or_none, pc.equal(second, two)))

    def _bit(self, bit: int) -> Any:
        pc = self._pa.compute
        return pc.not_equal(pc.bit_wise_and(self._arrays[PRESENCE], self._pa.scalar(bit, self._pa.uint8())), 0)

    def _agree(self, name: str, rows: Any) -> None:
        if not self._pa.compute.all(rows, skip_nulls=False, min_count=0).as_py():
            raise ValueError(f"column {name!r} has values that no batch has")


def _check_time(text: str) -> None:
    from datetime import datetime

    datetime.fromisoformat(text)


def _is_possible(presence: int) -> bool:
    """Whether such a context can be: no list of SAs without an SA, no second one without a first, no unknown bit."""
    needs = [(_FIRST["in"], _INBOUND), (_FIRST["out"], _OUTBOUND), (_ADDRESS, _INBOUND | _OUTBOUND), (0x08, 0)]
    needs += [(_SECOND[side], _FIRST[side]) for side in ("in", "out")]
    return all(presence & needed for bit, needed in needs if presence & bit)


def _raw(array: Any, width: int) -> memoryview:
    """The bytes of an array's values."""
    buffer = array.buffers()[1]
    if buffer is None:
        return memoryview(b"")
    return memoryview(buffer)[array.offset * width : (array.offset + len(array)) * width]


_native.register_saving(save, load)

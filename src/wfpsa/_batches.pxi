# A batch: a sequence of contexts over columns in C, its copies, its pickles and its Arrow faces.

cdef SaBatch new_batch(libwfpsa.wfpsa_columns *columns, uint64_t start, int64_t step, Py_ssize_t length, str backend,
                       object pushed):
    """A view of those rows; takes over one reference to the columns."""
    cdef SaBatch batch
    try:
        batch = SaBatch.__new__(SaBatch)
    except BaseException:
        libwfpsa.wfpsa_columns_release(columns)
        raise
    batch.data = columns
    batch.start = start
    batch.step = step
    batch.length = length
    batch.source = backend
    batch.pushed = pushed
    return batch


cdef SaBatch taken(SaBatch batch, uint64_t start, int64_t step, const uint64_t *rows, uint64_t count):
    """A batch of its own with those rows of the batch's columns."""
    cdef libwfpsa.wfpsa_columns *columns
    with nogil:
        columns = libwfpsa.wfpsa_take(batch.data, start, step, rows, count)
    if columns == NULL:
        raise MemoryError(f"no memory for {count} contexts")
    return new_batch(columns, 0, 1, count, batch.source, batch.pushed)


cdef uint32_t column_of(SaBatch batch, object name) except? 0xFFFFFFFF:
    """The index of a column that the batch has; KeyError where it has none of that name."""
    cdef uint32_t column = find_column(str.__str__(name))
    if not libwfpsa.wfpsa_columns_has(batch.data, column):
        raise KeyError(why_lacking(batch.data, column))
    return column


@cython.final
@cython.no_gc
cdef class SaBatch:
    """An immutable sequence of SA contexts, held as columns in C.

    `batch[i]` is a SaContext, `batch[i:j]` a batch that shares the same columns and keeps them alive, and
    `batch["spi_in"]` a Column. Any Arrow consumer takes a batch as it is (`pyarrow.table(batch)`).
    """

    def __dealloc__(self):
        libwfpsa.wfpsa_columns_release(self.data)

    @property
    def columns(self):
        """The names of the columns that this batch has, a tuple."""
        cdef uint32_t column
        return tuple([column_names[column] for column in range(libwfpsa.WFPSA_COLUMN_COUNT)
                      if libwfpsa.wfpsa_columns_has(self.data, column)])

    @property
    def backend(self):
        """The engine that answered: "windows" or "embedded" ("memory" for a page decoded where it lay)."""
        return self.source

    @property
    def version(self):
        """1 where it was read through IPsecSaContextEnum1 and its kin, 0 for IPsecSaContextEnum0."""
        return self.data.version

    @property
    def pushed_down(self):
        """Whether the engine applied local= and remote= (True) or this package did (False); None without them."""
        return self.pushed

    @property
    def nbytes(self):
        """The bytes of this batch's cells, and of the text of its names.

        Of a selection: of the columns that it has gathered so far and 4 a context besides, not of what it keeps alive.
        """
        return libwfpsa.wfpsa_columns_bytes(self.data, self.length)

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        cdef Py_ssize_t at, start, stop, step, length
        if isinstance(key, str):
            return batch_column(self, column_of(self, key))
        if isinstance(key, slice):
            PySlice_Unpack(key, &start, &stop, &step)
            length = PySlice_AdjustIndices(self.length, &start, &stop, step)
            libwfpsa.wfpsa_columns_retain(self.data)
            if length == 0:
                return new_batch(self.data, self.start, 1, 0, self.source, self.pushed)
            return new_batch(self.data, self.start + <uint64_t>(start * self.step),
                             self.step * step if length > 1 else 1, length, self.source, self.pushed)
        at = PyNumber_AsSsize_t(key, IndexError)
        if at < 0:
            at += self.length
        if at < 0 or at >= self.length:
            raise IndexError(f"index {key} is out of range for a batch of {self.length}")
        return new_context(self, self.start + <uint64_t>(at * self.step))

    def __iter__(self):
        cdef SaBatchIterator iterator = SaBatchIterator.__new__(SaBatchIterator)
        iterator.batch = self
        iterator.next = 0
        return iterator

    def index(self, value, start=0, stop=None):
        """The first index of an equal context; ValueError where there is none."""
        cdef Py_ssize_t at
        for at in range(*slice(start, stop).indices(self.length)):
            if self[at] == value:
                return at
        raise ValueError(f"{value!r} is not in this batch")

    def count(self, value):
        """How many contexts are equal to this one."""
        return sum(1 for found in self if found == value)

    def where(self, *, local=None, remote=None, **conditions):
        """A selection: the contexts that meet every condition, in the batch's order.

        `local` and `remote` are subnets, one or a list of several: what the row shows as its address must lie in one.
        An absent address lies in none, an IPv4 address in IPv4 subnets only. As in `snapshot()`, None is no condition.

        Any other condition names a column. `spi_out=5` asks for that value, `spi_out=None` for its absence,
        `spi_out={5, 6, None}` for any of them, `lifetime_seconds_out=(0, 3600)` for a range, both ends included, None
        for an open end. Values are those that contexts show: ints, bools, enum members, addresses (or their text),
        `uuid.UUID`s and str; only columns of integers that are no enums have ranges. Nothing that is absent meets a
        condition but None.

        The selection keeps this batch alive as long as it lives, and gathers a column the first time it is asked for;
        `take()` copies instead, also for boolean masks and indices of NumPy. Without conditions: all the batch's rows.

        Raises TypeError for an unknown condition or a wrong type, ValueError for an empty set, a reversed range, a
        value out of range, or `local` and `remote` of different address families; KeyError for a column that this batch
        lacks; MemoryError.
        """
        cdef libwfpsa.wfpsa_columns *selection
        wanted = checked_conditions(self, local, remote, conditions)
        if not wanted:
            libwfpsa.wfpsa_columns_retain(self.data)
            return new_batch(self.data, self.start, self.step, self.length, self.source, self.pushed)
        selection = selected(self, wanted)
        return new_batch(selection, 0, 1, selection.length, self.source, self.pushed)

    def explain(self, *, local=None, remote=None, **conditions):
        """What `where()` would look for, as text: a line for each condition, and who can apply it.

        "engine (enum template)" is what `Engine.snapshot(local=, remote=)` leaves to the engine: one subnet for each
        side, of which either SA of a context may be in; `where()` itself looks at the addresses that the row shows.
        "here" runs in this package only. The arguments and errors are those of `where()`.
        """
        cdef _Condition condition
        lines = []
        for condition in checked_conditions(self, local, remote, conditions):
            lines.append(f"{words_of(condition)}: {'engine (enum template)' if condition.pushed else 'here'}")
        return "\n".join(lines) or "no conditions: all contexts"

    def take(self, rows):
        """A batch of its own with the given rows, in that order; a row may come more than once.

        `rows` is an iterable of indices, or a one-dimensional buffer of integers, or a buffer of booleans as long as
        the batch. IndexError names an index that is out of range.
        """
        cdef uint64_t *wanted = NULL
        cdef uint64_t count = 0
        cdef Py_ssize_t at
        indices = chosen_rows(rows, self.length)
        wanted = <uint64_t *>PyMem_Malloc(max(len(indices), 1) * sizeof(uint64_t))
        if wanted == NULL:
            raise MemoryError
        try:
            for index in indices:
                at = PyNumber_AsSsize_t(index, IndexError)
                if at < 0:
                    at += self.length
                if at < 0 or at >= self.length:
                    raise IndexError(f"row {index} is out of range for a batch of {self.length}")
                wanted[count] = at
                count += 1
            return taken(self, self.start, self.step, wanted, count)
        finally:
            PyMem_Free(wanted)

    def diff(self, other):
        """What became of this batch's contexts in another, later one: a BatchDiff.

        Contexts are told apart by their id and compared in the columns that both batches have; absent differs from
        present, and names compare as text. Of an id that a batch has more than once, as only `take` makes it, the first
        row counts. TypeError where `other` is not a batch, ValueError where one of the two lacks context_id.
        """
        return diff_of(self, other)

    def count_by(self, column, other=None, *, prefix=None, limit=None):
        """How often each value of a column occurs: a list of (value, count), the most frequent first.

        Values are those of `batch[column]`, None where absent; with `other` they are tuples of the values of both
        columns. `prefix=(16, 48)` counts addresses by network, of 16 bits for IPv4 and 48 for IPv6: they are then shown
        as `ipaddress` networks. `limit` is how many are wanted at most, None: all. Equally frequent values come in
        their order: None last, IPv4 networks before IPv6.
        KeyError where there is no such column; ValueError where a prefix is out of range or no column has addresses.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise TypeError(f"limit must be an int or None, not {type(limit).__name__}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, not {limit}")
        return counts_of(self, column, other, prefix, limit)

    def __repr__(self):
        return f"<SaBatch of {self.length} contexts, {len(self.columns)} columns, from {self.source}>"

    def __reduce__(self):
        cdef uint32_t column
        cdef SaBatch whole
        cdef const libwfpsa.wfpsa_strings *strings
        whole, presence = batch_and_presence(self)
        strings = &whole.data.strings
        cells = {}
        for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
            if whole.data.columns[column] != NULL:
                cells[column_names[column]] = PyBytes_FromStringAndSize(
                    <const char *>whole.data.columns[column], whole.length * libwfpsa.info_at(column).width)
        names = [text_of(strings, code) for code in range(1, strings.count + 1)]
        return unpickled_batch, (self.data.version, whole.length, cells, presence, names, self.source, self.pushed)

    def save(self, path, *, overwrite=False):
        """Writes this batch as an Arrow IPC file, which any Arrow reader opens and `SaBatch.load` makes a batch of.

        Needs pyarrow (the extra `arrow`). The file has the batch's columns in their default Arrow form and one more,
        `presence`; its schema's metadata tell the engine, the time and the versions under keys that begin with
        "wfpsa.". It appears whole or not at all. Raises FileExistsError where there is a file, without `overwrite`.
        """
        saving[0](self, path, overwrite)

    @staticmethod
    def load(path):
        """The batch that was saved there, as it was.

        Raises ValueError for a file that is damaged, that another program or a newer version of this package wrote, or
        that contradicts itself.
        """
        return saving[1](path)

    def arrow(self, *, addresses="binary", enums="integer"):
        """This batch as Arrow data of the shape asked for, to be handed to any Arrow consumer.

        `addresses="text"` gives addresses and GUIDs as text instead of 16 bytes (peer_private_address: instead of an
        integer), `enums="name"` enumerations as dictionaries of names instead of integers.
        """
        cdef ArrowView view = ArrowView.__new__(ArrowView)
        view.batch = self
        view.options = 0
        if addresses not in ("binary", "text"):
            raise ValueError(f"addresses must be 'binary' or 'text', not {addresses!r}")
        if enums not in ("integer", "name"):
            raise ValueError(f"enums must be 'integer' or 'name', not {enums!r}")
        if addresses == "text":
            view.options |= libwfpsa.WFPSA_ARROW_TEXT_ADDRESSES
        if enums == "name":
            view.options |= libwfpsa.WFPSA_ARROW_NAMED_ENUMS
        return view

    def __wfpsa_view__(self):
        """A PyCapsule with a struct wfpsa_view of this batch, for C and Cython extensions: see wfpsa/view.h."""
        cdef uint32_t column
        cdef int status = libwfpsa.WFPSA_OK
        cdef const void *presence = NULL
        cdef const void **cells = <const void **>PyMem_Calloc(libwfpsa.WFPSA_COLUMN_COUNT, sizeof(void *))
        cdef libwfpsa.wfpsa_view *view = <libwfpsa.wfpsa_view *>PyMem_Calloc(1, sizeof(libwfpsa.wfpsa_view))
        if cells != NULL and view != NULL:
            with nogil:
                status = libwfpsa.wfpsa_columns_cells(self.data, libwfpsa.WFPSA_PRESENCE, &presence)
                for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
                    if status == libwfpsa.WFPSA_OK:
                        status = libwfpsa.wfpsa_columns_cells(self.data, column, &cells[column])
        if cells == NULL or view == NULL or status != libwfpsa.WFPSA_OK:
            PyMem_Free(cells)
            PyMem_Free(view)
            raise MemoryError("no memory for the view of a batch")
        view.version = libwfpsa.WFPSA_VIEW_VERSION
        view.columns_count = libwfpsa.WFPSA_COLUMN_COUNT
        view.length = self.length
        view.start = self.start
        view.step = self.step
        view.cells = cells
        view.presence = <const uint8_t *>presence
        view.names = self.data.strings.count
        view.offsets = self.data.strings.offsets
        view.text = self.data.strings.text
        try:
            capsule = PyCapsule_New(view, libwfpsa.WFPSA_VIEW_CAPSULE, free_view)
        except BaseException:
            PyMem_Free(cells)
            PyMem_Free(view)
            raise
        PyCapsule_SetContext(capsule, self.data)
        libwfpsa.wfpsa_columns_retain(self.data)
        return capsule

    def __arrow_c_schema__(self):
        return arrow_schema(self, 0)

    def __arrow_c_array__(self, requested_schema=None):
        return arrow_schema(self, 0), arrow_array(self, 0)

    def __arrow_c_stream__(self, requested_schema=None):
        return arrow_stream(self, 0)


cdef void free_view(object capsule) noexcept:
    cdef libwfpsa.wfpsa_view *view = <libwfpsa.wfpsa_view *>PyCapsule_GetPointer(capsule, libwfpsa.WFPSA_VIEW_CAPSULE)
    libwfpsa.wfpsa_columns_release(<libwfpsa.wfpsa_columns *>PyCapsule_GetContext(capsule))
    PyMem_Free(<void *>view.cells)
    PyMem_Free(view)


cdef object chosen_rows(object rows, Py_ssize_t length):
    """The rows of take() as a list of ints."""
    cdef const char *marks
    cdef Py_ssize_t at
    if isinstance(rows, (str, bytes, bytearray)):
        raise TypeError(f"rows must be indices or a mask, not {type(rows).__name__}")
    if PyObject_CheckBuffer(rows):
        view = memoryview(rows)
        if view.ndim != 1:
            raise ValueError(f"rows must be one-dimensional, not {view.ndim}-dimensional")
        code = native_code(view.format)
        if code not in tuple("?bBhHiIlLqQnN"):
            raise TypeError(f"rows must be native integers or booleans, not of format {view.format!r}")
        if view.format != code:  # what memoryview itself does not read, such as the "<l" of ctypes
            if not view.c_contiguous:
                raise TypeError(f"rows of format {view.format!r} must be contiguous")
            kinds = "?" if code == "?" else "bhiq" if code.islower() else "BHIQ"
            view = view.cast("B").cast(next(kind for kind in kinds if struct_size(kind) == view.itemsize))
        if code != "?":
            return view.tolist()
        if len(view) != length:
            raise ValueError(f"a mask must have one boolean for each of the {length} contexts, not {len(view)}")
        kept = view.tobytes()
        marks = PyBytes_AS_STRING(kept)
        return [at for at in range(length) if marks[at]]
    indices = list(rows)  # a copy: what is read may change it
    if any(isinstance(index, bool) for index in indices):
        raise TypeError("rows must be indices; a mask of booleans must be a buffer, such as a NumPy array")
    return indices


cdef int struct_size(str code):
    """The bytes of a native value of a struct code."""
    return {"?": 1, "b": 1, "h": 2, "i": 4, "q": 8}[code.lower()]


cdef str native_code(str shown):
    """The struct code of a buffer's format without its mark of byte order; "" where that is not this machine's."""
    import sys
    if shown[:1] in ("@", "="):
        return shown[1:]
    if shown[:1] in ("<", ">", "!"):
        return shown[1:] if (shown[0] == "<") == (sys.byteorder == "little") else ""
    return shown


cdef tuple saving = (None, None)


def register_saving(save, load):
    """Sets what SaBatch.save and SaBatch.load do: save(batch, path, overwrite) and load(path)."""
    global saving
    saving = save, load


def batch_and_presence(SaBatch batch not None):
    """The batch, or a copy of it where it is part of another; and a byte for each context: what of it there is."""
    cdef SaBatch whole = batch
    if batch.step != 1 or <uint64_t>batch.length != batch.data.length or batch.data.selection != NULL:
        whole = taken(batch, batch.start, batch.step, NULL, batch.length)
    return whole, PyBytes_FromStringAndSize(<const char *>whole.data.presence, whole.length)


def with_columns(SaBatch batch not None, names):
    """A batch of its own with the rows of this one, and of its columns only these, none of them text."""
    cdef const void *cells = NULL
    cdef Py_ssize_t at
    cdef int status
    with nogil:
        status = libwfpsa.wfpsa_columns_cells(batch.data, libwfpsa.WFPSA_PRESENCE, &cells)
    if status != libwfpsa.WFPSA_OK:
        raise MemoryError(f"no memory for {batch.length} contexts")
    presence = PyBytes_FromStringAndSize(NULL, batch.length)
    for at in range(batch.length):
        PyBytes_AS_STRING(presence)[at] = (<const char *>cells)[batch.start + <uint64_t>(at * batch.step)]
    return unpickled_batch(batch.data.version, batch.length, {name: bytes(batch[name]) for name in names}, presence, (),
                           batch.source, batch.pushed)


def unpickled_batch(version, length, cells, presence, names, backend, pushed):
    """The batch of a pickle; ValueError where the pieces do not fit together."""
    cdef uint8_t wanted[libwfpsa.WFPSA_COLUMN_COUNT]
    cdef uint32_t column
    cdef uint64_t rows = length, row
    cdef libwfpsa.wfpsa_columns *columns
    cdef uint32_t *codes
    if (version not in (0, 1) or not cells or pushed not in (None, True, False)
            or not isinstance(backend, str) or not all(isinstance(name, str) for name in names)):
        raise ValueError("the pickled batch is not one of this version of wfpsa")
    for name, column in column_index.items():
        wanted[column] = name in cells
        if wanted[column] and memoryview(cells[name]).nbytes != rows * libwfpsa.info_at(column).width:
            raise ValueError(f"column {name!r} of the pickled batch does not have {rows} cells")
    unknown = [name for name in cells if name not in column_index]
    if unknown or memoryview(presence).nbytes != rows:
        raise ValueError(f"the pickled batch is not one of this version of wfpsa: {unknown or 'presence'}")
    columns = libwfpsa.wfpsa_columns_new_rows(version, wanted, rows)
    if columns == NULL:
        raise MemoryError(f"no memory for {rows} contexts")
    batch = new_batch(columns, 0, 1, rows, backend, pushed)
    set_names(columns, [name.encode() for name in names])
    for name, column in column_index.items():
        if wanted[column]:
            copy_bytes(columns.columns[column], cells[name], rows * libwfpsa.info_at(column).width)
            if libwfpsa.info_at(column).kind == libwfpsa.WFPSA_TEXT:
                codes = <uint32_t *>columns.columns[column]
                for row in range(rows):
                    if codes[row] > columns.strings.count:
                        raise ValueError(f"column {name!r} of the pickled batch refers to a name that is not there")
    copy_bytes(columns.presence, presence, rows)
    return batch


cdef int copy_bytes(void *to, object source, uint64_t size) except -1:
    """The bytes of a contiguous buffer, which must be as many."""
    cdef Py_buffer view
    PyObject_GetBuffer(source, &view, PyBUF_SIMPLE)
    try:
        if <uint64_t>view.len != size:
            raise ValueError(f"{view.len} bytes where there should be {size}")
        memcpy(to, view.buf, size)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int set_names(libwfpsa.wfpsa_columns *columns, list names) except -1:
    cdef Py_ssize_t count = len(names), at
    cdef int32_t *offsets = <int32_t *>PyMem_Calloc(count + 2, sizeof(int32_t))
    cdef int status
    if offsets == NULL:
        raise MemoryError
    try:
        text = b"".join(names)
        if len(text) > 0x7FFFFFFF:
            raise ValueError("more than 2 GiB of names")
        for at in range(count):
            offsets[at + 2] = offsets[at + 1] + <int32_t>len(<bytes>names[at])
        status = libwfpsa.wfpsa_columns_set_strings(columns, <uint32_t>count, offsets, PyBytes_AS_STRING(text))
    finally:
        PyMem_Free(offsets)
    if status != libwfpsa.WFPSA_OK:
        raise MemoryError
    return 0


@cython.final
@cython.no_gc
cdef class SaBatchIterator:
    """The contexts of a batch, one by one."""

    def __iter__(self):
        return self

    def __next__(self):
        cdef Py_ssize_t at = self.next
        if at >= self.batch.length:
            raise StopIteration
        self.next = at + 1
        return new_context(self.batch, self.batch.start + <uint64_t>(at * self.batch.step))

    def __length_hint__(self):
        return self.batch.length - self.next


@cython.final
@cython.no_gc
cdef class ArrowView:
    """A batch as Arrow data of a chosen shape; see SaBatch.arrow."""

    def __arrow_c_schema__(self):
        return arrow_schema(self.batch, self.options)

    def __arrow_c_array__(self, requested_schema=None):
        return arrow_schema(self.batch, self.options), arrow_array(self.batch, self.options)

    def __arrow_c_stream__(self, requested_schema=None):
        return arrow_stream(self.batch, self.options)


cdef void free_schema(object capsule) noexcept:
    cdef libwfpsa.ArrowSchema *schema = <libwfpsa.ArrowSchema *>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    PyMem_Free(schema)


cdef void free_array(object capsule) noexcept:
    cdef libwfpsa.ArrowArray *array = <libwfpsa.ArrowArray *>PyCapsule_GetPointer(capsule, "arrow_array")
    if array.release != NULL:
        array.release(array)
    PyMem_Free(array)


cdef void free_stream(object capsule) noexcept:
    cdef libwfpsa.ArrowArrayStream *stream = <libwfpsa.ArrowArrayStream *>PyCapsule_GetPointer(capsule,
                                                                                               "arrow_array_stream")
    if stream.release != NULL:
        stream.release(stream)
    PyMem_Free(stream)


cdef object arrow_schema(SaBatch batch, unsigned int options):
    cdef libwfpsa.ArrowSchema *schema = <libwfpsa.ArrowSchema *>PyMem_Calloc(1, sizeof(libwfpsa.ArrowSchema))
    if schema == NULL:
        raise MemoryError
    capsule = PyCapsule_New(schema, "arrow_schema", free_schema)
    if libwfpsa.wfpsa_arrow_schema(batch.data, options, schema) != libwfpsa.WFPSA_OK:
        raise MemoryError
    return capsule


cdef object arrow_array(SaBatch batch, unsigned int options):
    cdef libwfpsa.ArrowArray *array
    if batch.step != 1:
        batch = taken(batch, batch.start, batch.step, NULL, batch.length)
    array = <libwfpsa.ArrowArray *>PyMem_Calloc(1, sizeof(libwfpsa.ArrowArray))
    if array == NULL:
        raise MemoryError
    capsule = PyCapsule_New(array, "arrow_array", free_array)
    if libwfpsa.wfpsa_arrow_array(batch.data, batch.start, batch.length, options,
                                  <const char *const *const *>enum_names, array) != libwfpsa.WFPSA_OK:
        raise MemoryError
    return capsule


cdef object arrow_stream(SaBatch batch, unsigned int options):
    cdef libwfpsa.ArrowArrayStream *stream
    if batch.step != 1:
        batch = taken(batch, batch.start, batch.step, NULL, batch.length)
    stream = <libwfpsa.ArrowArrayStream *>PyMem_Calloc(1, sizeof(libwfpsa.ArrowArrayStream))
    if stream == NULL:
        raise MemoryError
    capsule = PyCapsule_New(stream, "arrow_array_stream", free_stream)
    if libwfpsa.wfpsa_arrow_stream(batch.data, batch.start, batch.length, options,
                                   <const char *const *const *>enum_names, stream) != libwfpsa.WFPSA_OK:
        raise MemoryError
    return capsule


forbid_instances(SaBatch)
forbid_instances(SaBatchIterator)
forbid_instances(ArrowView)

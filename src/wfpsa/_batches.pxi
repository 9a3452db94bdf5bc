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
    if batch.data.columns[column] == NULL:
        raise KeyError(f"this batch has no column {name!r}: it was read with version={batch.data.version}")
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
                      if self.data.columns[column] != NULL])

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
        """The bytes of this batch's cells, and of the text of its names."""
        cdef uint64_t every = libwfpsa.wfpsa_columns_bytes(self.data)
        cdef uint64_t row = 1
        cdef uint32_t column
        for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
            if self.data.columns[column] != NULL:
                row += libwfpsa.info_at(column).width
        return every - row * (self.data.length - <uint64_t>self.length)

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

    def count_by(self, column, other=None, *, prefix=None):
        """How often each value of a column occurs: a list of (value, count), the most frequent first.

        Values are those of `batch[column]`, None where absent; with `other` they are tuples of the values of both
        columns. `prefix=(16, 48)` counts addresses by network, of 16 bits for IPv4 and 48 for IPv6: they are then shown
        as `ipaddress` networks. Equally frequent values come in their order: None last, IPv4 networks before IPv6.
        KeyError where there is no such column; ValueError where a prefix is out of range or no column has addresses.
        """
        return counts_of(self, column, other, prefix)

    def __repr__(self):
        return f"<SaBatch of {self.length} contexts, {len(self.columns)} columns, from {self.source}>"

    def __reduce__(self):
        cdef uint32_t column
        cdef SaBatch whole = self
        cdef const libwfpsa.wfpsa_strings *strings
        if self.step != 1 or <uint64_t>self.length != self.data.length:
            whole = taken(self, self.start, self.step, NULL, self.length)
        strings = &whole.data.strings
        cells = {}
        for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
            if whole.data.columns[column] != NULL:
                cells[column_names[column]] = PyBytes_FromStringAndSize(
                    <const char *>whole.data.columns[column], whole.length * libwfpsa.info_at(column).width)
        presence = PyBytes_FromStringAndSize(<const char *>whole.data.presence, whole.length)
        names = [text_of(strings, code) for code in range(1, strings.count + 1)]
        return unpickled_batch, (self.data.version, whole.length, cells, presence, names, self.source, self.pushed)

    def arrow(self, *, addresses="binary", enums="integer"):
        """This batch as an Arrow stream of the shape asked for, to be handed to any Arrow consumer.

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

    def __arrow_c_schema__(self):
        return arrow_schema(self, 0)

    def __arrow_c_stream__(self, requested_schema=None):
        return arrow_stream(self, 0)


cdef object chosen_rows(object rows, Py_ssize_t length):
    """The rows of take() as a list of ints."""
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
        return [at for at, wanted in enumerate(view.tolist()) if wanted]
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


def unpickled_batch(version, length, cells, presence, names, backend, pushed):
    """The batch of a pickle; ValueError where the pieces do not fit together."""
    cdef uint8_t wanted[libwfpsa.WFPSA_COLUMN_COUNT]
    cdef uint32_t column
    cdef uint64_t rows = length, row
    cdef libwfpsa.wfpsa_columns *columns
    cdef uint32_t *codes
    if (version not in (0, 1) or "context_id" not in cells or pushed not in (None, True, False)
            or not isinstance(backend, str) or not all(isinstance(name, str) for name in names)):
        raise ValueError("the pickled batch is not one of this version of wfpsa")
    for name, column in column_index.items():
        wanted[column] = name in cells
        if wanted[column] and len(<bytes>cells[name]) != rows * libwfpsa.info_at(column).width:
            raise ValueError(f"column {name!r} of the pickled batch does not have {rows} cells")
    unknown = [name for name in cells if name not in column_index]
    if unknown or len(<bytes>presence) != rows:
        raise ValueError(f"the pickled batch is not one of this version of wfpsa: {unknown or 'presence'}")
    columns = libwfpsa.wfpsa_columns_new_rows(version, wanted, rows)
    if columns == NULL:
        raise MemoryError(f"no memory for {rows} contexts")
    batch = new_batch(columns, 0, 1, rows, backend, pushed)
    set_names(columns, [name.encode() for name in names])
    for name, column in column_index.items():
        if wanted[column]:
            memcpy(columns.columns[column], PyBytes_AS_STRING(cells[name]), len(<bytes>cells[name]))
            if libwfpsa.info_at(column).kind == libwfpsa.WFPSA_TEXT:
                codes = <uint32_t *>columns.columns[column]
                for row in range(rows):
                    if codes[row] > columns.strings.count:
                        raise ValueError(f"column {name!r} of the pickled batch refers to a name that is not there")
    memcpy(columns.presence, PyBytes_AS_STRING(presence), rows)
    return batch


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
    """A batch as an Arrow stream of a chosen shape; see SaBatch.arrow."""

    def __arrow_c_schema__(self):
        return arrow_schema(self.batch, self.options)

    def __arrow_c_stream__(self, requested_schema=None):
        return arrow_stream(self.batch, self.options)


cdef void free_schema(object capsule) noexcept:
    cdef libwfpsa.ArrowSchema *schema = <libwfpsa.ArrowSchema *>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release != NULL:
        schema.release(schema)
    PyMem_Free(schema)


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

# One column: a sequence of values, and a read-only buffer of the raw cells.

cdef char *FORMATS[10]
FORMATS[:] = [b"?", b"B", b"H", b"I", b"Q", b"B", b"I", b"B", b"B", b"I"]


cdef Column new_column(object owner, const uint8_t *cells, int kind, uint32_t width, str name, list members,
                       uint64_t start, int64_t step, Py_ssize_t length):
    cdef Column column = Column.__new__(Column)
    column.owner = owner
    column.data = NULL
    column.cells = cells
    column.kind = kind
    column.width = width
    column.label = name
    column.members = members
    column.start = start
    column.step = step
    column.length = length
    column.shape[0] = length
    column.shape[1] = 16
    column.strides[0] = step * width
    column.strides[1] = 1
    return column


cdef Column batch_column(SaBatch batch, uint32_t index):
    cdef const libwfpsa.wfpsa_column_info *info = libwfpsa.info_at(index)
    cdef const void *cells = batch.data.columns[index]
    cdef int status
    cdef Column column
    if batch.data.selection != NULL:
        with nogil:
            status = libwfpsa.wfpsa_columns_cells(batch.data, index, &cells)
        if status != libwfpsa.WFPSA_OK:
            raise MemoryError(f"no memory for column {column_names[index]!r} of {batch.data.length} contexts")
    column = new_column(batch, <const uint8_t *>cells, info.kind, info.width, column_names[index],
                        column_members[index], batch.start, batch.step, batch.length)
    column.data = batch.data
    column.column = index
    return column


@cython.final
@cython.no_gc
cdef class Column:
    """One column: a sequence of values, None where absent, and a read-only buffer of the raw cells.

    Indexing gives an int, bool, enum member (a plain int where the value has no name), 16 bytes or str. The buffer
    protocol gives the cells themselves without a copy, in native byte order: shape (n,), or (n, 16) for addresses and
    GUIDs; absent cells are 0 there, and 255 in enum columns; identities are codes into `strings`.
    """

    @property
    def name(self):
        """What the column is called in its batch or report."""
        return self.label

    @property
    def format(self):
        """The struct format of a raw cell, as in the buffer: "?", "B", "H", "I" or "Q"."""
        return FORMATS[self.kind].decode()

    @property
    def strings(self):
        """For columns of text: a tuple with the text of each code, None at 0. None for other columns."""
        cdef uint32_t code
        if self.kind != libwfpsa.WFPSA_TEXT:
            return None
        return tuple([text_of(&self.data.strings, code) for code in range(self.data.strings.count + 1)])

    def __class_getitem__(cls, item):
        from types import GenericAlias
        return GenericAlias(cls, item)

    def __len__(self):
        return self.length

    cdef object value(self, Py_ssize_t index):
        cdef uint64_t row = self.start + <uint64_t>(index * self.step)
        cdef const libwfpsa.wfpsa_column_info *info = libwfpsa.info_at(self.column)
        if self.data != NULL and libwfpsa.wfpsa_is_absent(self.data, info, self.column, row):
            return None
        return cell_value(self.kind, self.cells + row * self.width, self.members, self.data)

    def __getitem__(self, index):
        cdef Py_ssize_t at, start, stop, step, length
        cdef Column part
        if isinstance(index, slice):
            PySlice_Unpack(index, &start, &stop, &step)
            length = PySlice_AdjustIndices(self.length, &start, &stop, step)
            part = new_column(self.owner, self.cells, self.kind, self.width, self.label, self.members,
                              self.start + <uint64_t>(start * self.step if length else 0),
                              self.step * step if length > 1 else 1, length)
            part.data = self.data
            part.column = self.column
            return part
        at = PyNumber_AsSsize_t(index, IndexError)
        if at < 0:
            at += self.length
        if at < 0 or at >= self.length:
            raise IndexError(f"index {index} is out of range for a column of {self.length}")
        return self.value(at)

    def __iter__(self):
        cdef Py_ssize_t at
        for at in range(self.length):
            yield self.value(at)

    def tolist(self):
        """All values as a list, as indexing gives them; a text that occurs more than once is one object."""
        cdef Py_ssize_t at
        cdef uint64_t row
        cdef list values
        if self.kind == libwfpsa.WFPSA_TEXT:
            strings = self.strings
            values = []
            for at in range(self.length):
                row = self.start + <uint64_t>(at * self.step)
                values.append(strings[(<const uint32_t *>self.cells)[row]])
            return values
        return [self.value(at) for at in range(self.length)]

    def index(self, value, start=0, stop=None):
        """The first index of the value; ValueError where it does not occur."""
        cdef Py_ssize_t at
        for at in range(*slice(start, stop).indices(self.length)):
            if self.value(at) == value:
                return at
        raise ValueError(f"{value!r} is not in column {self.label!r}")

    def count(self, value):
        """How often the value occurs."""
        return sum(1 for found in self if found == value)

    def __repr__(self):
        shown = ", ".join([repr(self.value(at)) for at in range(min(self.length, 3))])
        more = ", ..." if self.length > 3 else ""
        return f"<Column {self.label} of {self.length}: [{shown}{more}]>"

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef bint wide = self.width == 16
        cdef bint contiguous = self.step == 1 or self.length <= 1
        if flags & PyBUF_WRITABLE:
            raise BufferError(f"column {self.label!r} is read-only")
        if not contiguous and (flags & PyBUF_STRIDES != PyBUF_STRIDES or flags & PyBUF_ANY_CONTIGUOUS & ~PyBUF_STRIDES
                               or flags & PyBUF_C_CONTIGUOUS & ~PyBUF_STRIDES
                               or flags & PyBUF_F_CONTIGUOUS & ~PyBUF_STRIDES):
            raise BufferError(f"column {self.label!r} is a slice with a step, and not contiguous")
        if wide and self.length > 1 and flags & PyBUF_F_CONTIGUOUS & ~PyBUF_STRIDES:
            raise BufferError(f"column {self.label!r} is in C order")
        buffer.buf = <void *>(self.cells + self.start * self.width)
        buffer.obj = self
        buffer.len = self.length * self.width
        buffer.itemsize = 1 if wide else self.width
        buffer.readonly = 1
        buffer.format = FORMATS[self.kind] if flags & PyBUF_FORMAT else NULL
        buffer.ndim = 2 if wide else 1
        buffer.shape = self.shape if flags & PyBUF_ND else NULL
        buffer.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL


forbid_instances(Column)

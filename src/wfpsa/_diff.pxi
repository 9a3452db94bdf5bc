# What differs between two batches.

cdef libwfpsa.wfpsa_rows view_of(SaBatch batch) noexcept:
    cdef libwfpsa.wfpsa_rows view
    view.columns = batch.data
    view.start = batch.start
    view.step = batch.step
    view.length = batch.length
    return view


cdef BatchDiff diff_of(SaBatch batch, object other):
    cdef SaBatch later
    cdef libwfpsa.wfpsa_rows before, after
    cdef libwfpsa.wfpsa_diff diff
    cdef BatchDiff result
    cdef uint32_t column
    cdef int status
    if not isinstance(other, SaBatch):
        raise TypeError(f"a batch can be compared with another SaBatch, not with {type(other).__name__}")
    later = other
    if not (libwfpsa.wfpsa_columns_has(batch.data, libwfpsa.WFPSA_COLUMN_context_id)
            and libwfpsa.wfpsa_columns_has(later.data, libwfpsa.WFPSA_COLUMN_context_id)):
        raise ValueError("both batches must have the column 'context_id': contexts are told apart by it")
    before = view_of(batch)
    after = view_of(later)
    with nogil:
        status = libwfpsa.wfpsa_diff_make(&before, &after, &diff)
    if status != libwfpsa.WFPSA_OK:
        raise MemoryError(f"no memory to compare {batch.length} contexts with {later.length}")
    try:
        result = BatchDiff.__new__(BatchDiff)
        result.batch_added = taken(later, later.start, later.step, diff.added, diff.added_count)
        result.batch_removed = taken(batch, batch.start, batch.step, diff.removed, diff.removed_count)
        result.batch_changed = taken(later, later.start, later.step, diff.changed, diff.changed_count)
        result.batch_before = taken(batch, batch.start, batch.step, diff.changed_before, diff.changed_count)
        result.count_same = diff.same_count
        result.totals = {column_names[column]: diff.column_counts[column]
                         for column in range(libwfpsa.WFPSA_COLUMN_COUNT) if diff.column_counts[column]}
        result.masks = PyBytes_FromStringAndSize(
            <const char *>diff.differing, diff.changed_count * libwfpsa.WFPSA_COLUMN_WORDS * sizeof(uint64_t))
    finally:
        libwfpsa.wfpsa_diff_free(&diff)
    return result


@cython.final
@cython.no_gc
cdef class BatchDiff:
    """What differs between two batches: `before.diff(after)`. False where nothing does; its text is a summary.

    The four batches are copies: a diff keeps neither of the two that it compares alive.
    """

    @property
    def added(self):
        """The contexts of the later batch whose id the earlier one lacks, in the later one's order."""
        return self.batch_added

    @property
    def removed(self):
        """The contexts of the earlier batch whose id the later one lacks, in the earlier one's order."""
        return self.batch_removed

    @property
    def changed(self):
        """The contexts of both whose common columns differ, as the later batch has them, in its order."""
        return self.batch_changed

    @property
    def changed_before(self):
        """The same contexts in the same order, as the earlier batch has them."""
        return self.batch_before

    @property
    def changed_columns(self):
        """For each context of `changed` a tuple with the names of the columns that differ; a tuple of these."""
        cdef Py_ssize_t at
        cdef Py_ssize_t size = libwfpsa.WFPSA_COLUMN_WORDS * sizeof(uint64_t)
        cdef dict known
        if self.names is None:
            known = {}  # few combinations of columns, most of them often
            names = []
            for at in range(self.batch_changed.length):
                mask = self.masks[at * size:(at + 1) * size]
                if mask not in known:
                    known[mask] = masked_names(mask)
                names.append(known[mask])
            self.names = tuple(names)
        return self.names

    @property
    def changed_counts(self):
        """How many contexts differ in each column that differs anywhere: a dict by name, most frequent first."""
        return dict(sorted(self.totals.items(), key=lambda item: item[1], reverse=True))

    @property
    def same(self):
        """How many contexts both batches have, with equal cells in every common column."""
        return self.count_same

    def __bool__(self):
        return self.batch_added.length + self.batch_removed.length + self.batch_changed.length > 0

    def __str__(self):
        columns = [f"{name} {count}" for name, count in self.changed_counts.items()]
        if len(columns) > 8:
            columns[7:] = [f"and {len(columns) - 7} columns more"]
        shown = f" ({', '.join(columns)})" if columns else ""
        return (f"{self.batch_added.length} added, {self.batch_removed.length} removed, "
                f"{self.batch_changed.length} changed{shown}, {self.count_same} the same")

    def __repr__(self):
        return f"<BatchDiff: {self}>"


cdef tuple masked_names(bytes mask):
    """The names of the columns whose bits are set."""
    cdef const uint64_t *words = <const uint64_t *>PyBytes_AS_STRING(mask)
    cdef uint32_t column
    return tuple([column_names[column] for column in range(libwfpsa.WFPSA_COLUMN_COUNT)
                  if words[column // 64] >> (column % 64) & 1])


forbid_instances(BatchDiff)

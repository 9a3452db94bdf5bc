# How often the values of a column, or of two, occur, and the contexts that have the highest ids of each.

cdef list counts_of(SaBatch batch, object column, object other, object prefix, object limit):
    cdef uint32_t columns[2]
    cdef Py_ssize_t column_count = 0
    cdef libwfpsa.wfpsa_rows view = view_of(batch)
    cdef libwfpsa.wfpsa_prefix cut
    cdef const libwfpsa.wfpsa_prefix *given = NULL
    cdef libwfpsa.wfpsa_group *groups = NULL
    cdef uint64_t group_count = 0, shown, at
    cdef int status
    names = [column] if other is None else [column, other]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a column is named by a str, not by {type(name).__name__}")
        columns[column_count] = column_of(batch, name)
        column_count += 1
    if prefix is not None:
        if libwfpsa.WFPSA_ADDRESS not in [libwfpsa.info_at(columns[at]).kind for at in range(column_count)]:
            raise ValueError(f"prefix= is for columns of addresses, and {' and '.join(map(repr, names))} has none")
        cut.v4, cut.v6 = prefix_lengths(prefix)
        given = &cut
    with nogil:
        status = libwfpsa.wfpsa_count(&view, columns, <unsigned>column_count, given, &groups, &group_count)
    if status != libwfpsa.WFPSA_OK:
        raise MemoryError(f"no memory to count {batch.length} contexts")
    try:
        shown = group_count if limit is None else <uint64_t>min(limit, group_count)
        first = batch_column(batch, columns[0])
        if column_count == 1:
            return [(group_value(first, groups[at].row, given), groups[at].count) for at in range(shown)]
        second = batch_column(batch, columns[1])
        return [((group_value(first, groups[at].row, given), group_value(second, groups[at].row, given)),
                 groups[at].count) for at in range(shown)]
    finally:
        libwfpsa.wfpsa_groups_free(groups)


cdef tuple prefix_lengths(object prefix):
    """The two lengths of prefix=, checked."""
    from operator import index
    try:
        v4, v6 = map(index, prefix)
    except (TypeError, ValueError):
        raise TypeError(f"prefix must be the two lengths for IPv4 and IPv6, such as (16, 48), not {prefix!r}") from None
    if not (0 <= v4 <= 32 and 0 <= v6 <= 128):
        raise ValueError(f"prefix must be (0 to 32, 0 to 128), not {prefix!r}")
    return v4, v6


cdef object group_value(Column column, uint64_t row, const libwfpsa.wfpsa_prefix *prefix):
    """The value of a group, by the first row that has it."""
    value = column.value(<Py_ssize_t>row)
    if value is None or prefix == NULL or column.kind != libwfpsa.WFPSA_ADDRESS:
        return value
    address = address_object(column.cells + (column.start + <uint64_t>(<int64_t>row * column.step)) * 16)
    if address.version == 4:  # from an int: ipaddress would make an address a text, and read that
        return ipaddress_module.IPv4Network((int(address), prefix.v4), strict=False)
    return ipaddress_module.IPv6Network((int(address), prefix.v6), strict=False)


def highest_of_each(SaBatch batch not None, name, list ids not None, uint64_t keep, spared):
    """The `keep` highest ids of each value of a column, as a frozenset; of the batch's `ids`, those not spared."""
    cdef libwfpsa.wfpsa_rows view = view_of(batch)
    cdef uint32_t column = column_of(batch, name)
    cdef uint32_t *numbers = <uint32_t *>PyMem_Calloc(batch.length + 1, sizeof(uint32_t))
    cdef uint64_t *left = NULL
    cdef uint64_t value_count = 0, value
    cdef Py_ssize_t row
    cdef int status
    try:
        assert len(ids) == batch.length
        if numbers == NULL:
            raise MemoryError(f"no memory to number {batch.length} contexts")
        with nogil:
            status = libwfpsa.wfpsa_number(&view, column, numbers, &value_count)
        if status == libwfpsa.WFPSA_OK:
            left = <uint64_t *>PyMem_Malloc((value_count + 1) * sizeof(uint64_t))
        if left == NULL:
            raise MemoryError(f"no memory to number {batch.length} contexts")
        for value in range(value_count):
            left[value] = keep
        rows = range(batch.length)
        if ids != sorted(ids):  # a listing has them in their order
            rows = sorted(rows, key=ids.__getitem__)
        found = []
        for row in reversed(rows):
            if left[numbers[row]] and ids[row] not in spared:
                left[numbers[row]] -= 1
                found.append(ids[row])
        return frozenset(found)
    finally:
        PyMem_Free(numbers)
        PyMem_Free(left)

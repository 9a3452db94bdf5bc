# How often the values of a column, or of two, occur.

cdef list counts_of(SaBatch batch, object column, object other, object prefix):
    cdef uint32_t columns[2]
    cdef Py_ssize_t column_count = 0
    cdef libwfpsa.wfpsa_rows view = view_of(batch)
    cdef libwfpsa.wfpsa_prefix cut
    cdef const libwfpsa.wfpsa_prefix *given = NULL
    cdef libwfpsa.wfpsa_group *groups = NULL
    cdef uint64_t group_count = 0, at
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
        first = batch_column(batch, columns[0])
        if column_count == 1:
            return [(group_value(first, groups[at].row, given), groups[at].count) for at in range(group_count)]
        second = batch_column(batch, columns[1])
        return [((group_value(first, groups[at].row, given), group_value(second, groups[at].row, given)),
                 groups[at].count) for at in range(group_count)]
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

# The conditions of where() and explain(): checked, made ready for the C half, and put into words.

@cython.final
@cython.no_gc
cdef class _Condition:
    """One condition: what the C half is to look for, what holds the values, and how it reads."""


cdef dict BOUNDS = {libwfpsa.WFPSA_U8: 2**8 - 1, libwfpsa.WFPSA_U16: 2**16 - 1, libwfpsa.WFPSA_U32: 2**32 - 1,
                    libwfpsa.WFPSA_U64: 2**64 - 1}
cdef str SUBNETS = "a subnet or address such as '10.2.0.0/16' or '2001:db8::1'"


cdef object ipaddress():
    global ipaddress_module
    if ipaddress_module is None:
        import ipaddress
        ipaddress_module = ipaddress
    return ipaddress_module


cdef object network_of(object value, str argument, str accepted):
    """The subnet that text or an object of `ipaddress` stands for."""
    module = ipaddress()
    if not isinstance(value, (str, module.IPv4Network, module.IPv6Network, module.IPv4Address, module.IPv6Address)):
        raise TypeError(f"{argument} must be {accepted}, not {type(value).__name__}")
    try:
        network = module.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{argument} must be {accepted}, not {value!r}: {error}") from None
    if getattr(network.network_address, "scope_id", None):
        raise ValueError(f"{argument} must not have a scope, as {value!r} has")
    return network


cdef tuple network_parts(object network):
    packed = network.network_address.packed
    return network.version, b"\0" * 10 + b"\xff\xff" + packed if network.version == 4 else packed, network.prefixlen


def subnet_parts(value, str argument):
    """(4 or 6, 16 bytes as in an address column, prefix length) of a subnet or host; None for None.

    Raises TypeError or ValueError that names the argument.
    """
    return None if value is None else network_parts(network_of(value, argument, SUBNETS))


cdef str accepted_values(uint32_t column):
    """What one value of a condition on a column may be."""
    cdef int kind = libwfpsa.info_at(column).kind
    if kind in BOUNDS:
        return f"an int from 0 to {BOUNDS[kind]}"
    if kind == libwfpsa.WFPSA_BOOL:
        return "True or False"
    if kind == libwfpsa.WFPSA_ENUM:
        return f"a {(<bytes>libwfpsa.info_at(column).enumeration).decode()} or an int from 0 to 254"
    if kind == libwfpsa.WFPSA_IPV4:
        return "an IPv4 address (an object, text or an int)"
    if kind == libwfpsa.WFPSA_ADDRESS:
        return "an IP address (an object, text or 16 bytes; local= and remote= take subnets)"
    if kind == libwfpsa.WFPSA_GUID:
        return "a uuid.UUID or its 16 bytes"
    return "a str"


cdef str accepted(uint32_t column):
    """What a condition on a column may be."""
    more = "a set of those" + (" or a range (low, high)" if libwfpsa.info_at(column).kind in BOUNDS else "")
    return f"{accepted_values(column)}, None where absent, or {more}"


cdef object refusal(type error, uint32_t column, object value):
    """The exception for a value that no condition on the column takes; to be raised."""
    shown = repr(value) if error is ValueError else type(value).__name__
    return error(f"{column_names[column]} must be {accepted(column)}, not {shown}")


cdef object whole_number(uint32_t column, object value, object most):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise refusal(TypeError, column, value)
    number = value.__index__()
    if not 0 <= number <= most:
        raise refusal(ValueError, column, value)
    return number


cdef object address_of(uint32_t column, object value, tuple classes):
    """An address that may be given as an object or as text."""
    if isinstance(value, str):
        try:
            value = ipaddress().ip_address(value)
        except ValueError:
            raise refusal(ValueError, column, value) from None
        if not isinstance(value, classes):
            raise refusal(ValueError, column, str(value))
    if not isinstance(value, classes) or isinstance(value, (ipaddress().IPv4Interface, ipaddress().IPv6Interface)):
        raise refusal(TypeError, column, value)
    return value


cdef uint64_t number_of(uint32_t column, object value) except? 0:
    """A value of a column of numbers, as its cells have it."""
    cdef int kind = libwfpsa.info_at(column).kind
    if kind == libwfpsa.WFPSA_BOOL:
        if not isinstance(value, bool):
            raise refusal(TypeError, column, value)
        return value
    if kind == libwfpsa.WFPSA_ENUM:
        enumeration = getattr(_enums, (<bytes>libwfpsa.info_at(column).enumeration).decode())
        if hasattr(type(value), "__members__") and not isinstance(value, enumeration):
            raise refusal(TypeError, column, value)
        return whole_number(column, value, 254)
    if kind == libwfpsa.WFPSA_IPV4:
        if isinstance(value, str) or not hasattr(value, "__index__"):
            value = int(address_of(column, value, (ipaddress().IPv4Address,)))
        return whole_number(column, value, 2**32 - 1)
    return whole_number(column, value, BOUNDS[kind])


cdef bytes bytes_of(uint32_t column, object value):
    """A value of a column of text, addresses or GUIDs: UTF-8 or the 16 bytes of its cells."""
    cdef int kind = libwfpsa.info_at(column).kind
    if kind == libwfpsa.WFPSA_TEXT:
        if not isinstance(value, str):
            raise refusal(TypeError, column, value)
        return str.encode(value, "utf-8", "surrogatepass")  # a lone surrogate is in no name
    if isinstance(value, bytes):
        if len(<bytes>value) != 16:
            raise refusal(ValueError, column, value)
        return value
    if kind == libwfpsa.WFPSA_GUID:
        from uuid import UUID
        if not isinstance(value, UUID):
            raise refusal(TypeError, column, value)
        return value.bytes_le
    address = address_of(column, value, (ipaddress().IPv4Address, ipaddress().IPv6Address))
    if address.version == 4:
        return b"\0" * 10 + b"\xff\xff" + address.packed
    if address.scope_id:
        raise ValueError(f"{column_names[column]} must not have a scope, as {str(value)!r} has")
    if address.ipv4_mapped is not None:
        raise ValueError(f"{column_names[column]}: a batch shows {address} as IPv4, so write {address.ipv4_mapped}")
    return address.packed


cdef str shown_value(object value):
    if hasattr(type(value), "__members__"):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (str, bytes)):
        return repr(value)
    return str(value)


cdef str shown_values(object values):
    try:
        ordered = sorted(value for value in values if value is not None)
    except TypeError:
        ordered = sorted((value for value in values if value is not None), key=str)
    ordered += [None] * (None in values)
    shown = ", ".join([shown_value(value) for value in ordered[:5]])
    return f"{{{shown}}}" if len(ordered) <= 5 else f"{{{shown}, ... {len(ordered)} in all}}"


cdef str words_of(_Condition condition):
    """How a condition reads."""
    wanted = condition.wanted
    name = condition.name
    if condition.test == libwfpsa.WFPSA_IN_NETS:
        return f"{name} in {' or '.join([str(network) for network in wanted])}"
    if condition.test == libwfpsa.WFPSA_ONE_OF:
        if condition.several:
            return f"{name} in {shown_values(wanted)}"
        return f"{name} is None" if wanted is None else f"{name} == {shown_value(wanted)}"
    low, high = wanted
    if low is None and high is None:
        return f"{name} is not None"
    if low is None:
        return f"{name} <= {high}"
    return f"{name} >= {low}" if high is None else f"{low} <= {name} <= {high}"


cdef _Condition range_condition(uint32_t column, tuple wanted):
    cdef _Condition condition = _Condition.__new__(_Condition)
    cdef int kind = libwfpsa.info_at(column).kind
    name = column_names[column]
    if kind not in BOUNDS:
        raise TypeError(f"{name} has no order, so it takes no range: it must be {accepted(column)}, not {wanted!r}")
    if len(wanted) != 2:
        raise ValueError(f"{name}: a range is (low, high), both included, None for an open end; not {wanted!r}")
    low, high = [None if end is None else whole_number(column, end, BOUNDS[kind]) for end in wanted]
    if low is not None and high is not None and low > high:
        raise ValueError(f"{name}: a range is (low, high), the lower first; not {wanted!r}")
    condition.test = libwfpsa.WFPSA_WITHIN
    condition.low = 0 if low is None else low
    condition.high = BOUNDS[kind] if high is None else high
    condition.wanted = low, high
    return condition


cdef _Condition values_condition(uint32_t column, object wanted):
    from collections.abc import Set
    cdef _Condition condition = _Condition.__new__(_Condition)
    cdef int kind = libwfpsa.info_at(column).kind
    cdef libwfpsa.wfpsa_text *texts
    cdef uint64_t *numbers
    cdef Py_ssize_t at
    condition.several = isinstance(wanted, Set)
    given = list(wanted) if condition.several else [wanted]
    if not given:
        raise ValueError(f"{column_names[column]} must be {accepted(column)}, not an empty set")
    values = [value for value in given if value is not None]
    condition.test = libwfpsa.WFPSA_ONE_OF
    condition.or_absent = len(values) < len(given)
    condition.count = len(values)
    condition.wanted = wanted
    if kind == libwfpsa.WFPSA_TEXT:
        condition.kept = [bytes_of(column, value) for value in values]
        condition.values = PyBytes_FromStringAndSize(NULL, len(values) * sizeof(libwfpsa.wfpsa_text))
        texts = <libwfpsa.wfpsa_text *>PyBytes_AS_STRING(condition.values)
        for at, text in enumerate(condition.kept):
            texts[at].text = PyBytes_AS_STRING(text)
            texts[at].length = len(<bytes>text)
    elif kind == libwfpsa.WFPSA_GUID or kind == libwfpsa.WFPSA_ADDRESS:
        condition.values = b"".join([bytes_of(column, value) for value in values])
    else:
        condition.values = PyBytes_FromStringAndSize(NULL, len(values) * sizeof(uint64_t))
        numbers = <uint64_t *>PyBytes_AS_STRING(condition.values)
        for at, value in enumerate(values):
            numbers[at] = number_of(column, value)
    return condition


cdef list networks_of(object given, str argument):
    """The subnets of local= or remote=, one or several."""
    also = f"{SUBNETS}, or a list of those"
    if not isinstance(given, (list, tuple, set, frozenset)):
        return [network_of(given, argument, also)]
    networks = [network_of(value, argument, also) for value in given]
    if not networks:
        raise ValueError(f"{argument} must be {also}, not an empty {type(given).__name__}")
    return networks


cdef _Condition subnets_condition(uint32_t column, str argument, list networks):
    cdef _Condition condition = _Condition.__new__(_Condition)
    mapped = ipaddress().ip_network("::ffff:0:0/96")
    for network in networks:
        if network.version == 6 and network.subnet_of(mapped):
            raise ValueError(f"{argument}: a batch shows the addresses of {network} as IPv4, so write an IPv4 subnet")
    parts = [network_parts(network) for network in networks]
    condition.column = column
    condition.test = libwfpsa.WFPSA_IN_NETS
    condition.count = len(parts)
    condition.values = b"".join([bytes((version, length)) + address for version, address, length in parts])
    condition.pushed = len(networks) == 1
    condition.name = argument
    condition.wanted = networks
    return condition


cdef list subnets_conditions(SaBatch batch, object local, object remote):
    given = [(argument, networks_of(value, argument))
             for argument, value in (("local", local), ("remote", remote)) if value is not None]
    families = [{network.version for network in networks} for _, networks in given]
    if len(families) == 2 and not families[0] & families[1]:
        raise ValueError(f"local and remote must be of one address family, not {local!r} and {remote!r}")
    conditions = []
    for argument, networks in given:
        column = had_column(batch, f"{argument}_address")
        conditions.append(subnets_condition(column, argument, networks))
    return conditions


cdef uint32_t had_column(SaBatch batch, str name) except? 0xFFFFFFFF:
    """The index of a column that conditions name."""
    found = column_index.get(name)
    if found is None:
        import difflib
        near = difflib.get_close_matches(name, ["local", "remote", *column_names], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"unknown condition {name!r}{hint} (conditions are local, remote and the names of columns)")
    if not libwfpsa.wfpsa_columns_has(batch.data, found):
        raise KeyError(why_lacking(batch.data, found))
    return found


cdef list checked_conditions(SaBatch batch, object local, object remote, dict named):
    """The conditions of where() and explain(), those on subnets first."""
    cdef _Condition condition
    cdef uint32_t column
    conditions = subnets_conditions(batch, local, remote)
    for name, wanted in named.items():
        column = had_column(batch, name)
        condition = range_condition(column, wanted) if isinstance(wanted, tuple) else values_condition(column, wanted)
        condition.column = column
        condition.name = name
        conditions.append(condition)
    return conditions


cdef libwfpsa.wfpsa_columns *selected(SaBatch batch, list conditions) except NULL:
    """A selection of the batch's rows that meet the conditions."""
    cdef uint32_t count = <uint32_t>len(conditions), at
    cdef _Condition condition
    cdef libwfpsa.wfpsa_columns *selection = NULL
    cdef libwfpsa.wfpsa_condition *tests = <libwfpsa.wfpsa_condition *>PyMem_Calloc(
        count, sizeof(libwfpsa.wfpsa_condition))
    cdef int status
    if tests == NULL:
        raise MemoryError
    for at in range(count):
        condition = conditions[at]
        tests[at].column = condition.column
        tests[at].test = <libwfpsa.wfpsa_test>condition.test
        tests[at].or_absent = condition.or_absent
        tests[at].count = condition.count
        tests[at].low = condition.low
        tests[at].high = condition.high
        if condition.values is not None:
            tests[at].values = PyBytes_AS_STRING(condition.values)
    with nogil:
        status = libwfpsa.wfpsa_select(batch.data, batch.start, batch.step, batch.length, tests, count, &selection)
    PyMem_Free(tests)
    if status != libwfpsa.WFPSA_OK:
        raise MemoryError(f"no memory to select from {batch.length} contexts")
    return selection


forbid_instances(_Condition)

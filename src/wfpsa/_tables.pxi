# What the columns are: names, enumerations, how a cell becomes an object; and the attributes made from them.

cdef extern from "Python.h":
    ctypedef struct PyGetSetDef:
        const char *name
        object (*get)(object, void *)
        void *set
        const char *doc
        void *closure

    ctypedef struct TypeSlots "PyTypeObject":
        PyObject *tp_dict
        void *tp_new
        void *tp_vectorcall

    object PyDescr_NewGetSet(PyTypeObject *type, PyGetSetDef *getset)
    void PyType_Modified(PyTypeObject *type)

# By column: its name, and for enum columns the 256 objects that its values stand for.
cdef list column_names = []
cdef list column_members = []
cdef dict column_index = {}
# For Arrow: by column the 256 names of its values, NULL where there are none.
cdef const char **enum_names[libwfpsa.WFPSA_COLUMN_COUNT]
cdef list kept_alive = []


cdef list members_of(object enumeration):
    """The object for each of the 256 values of an enum column: a member, or the plain number."""
    return [enumeration._value2member_map_.get(value, value) for value in range(256)]


cdef int fill_tables() except -1:
    cdef uint32_t column
    cdef const libwfpsa.wfpsa_column_info *info
    for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
        info = libwfpsa.info_at(column)
        name = (<bytes>info.name).decode()
        column_names.append(name)
        column_index[name] = column
        enumeration = (<bytes>info.enumeration).decode()
        enum_names[column] = NULL
        if not enumeration:
            column_members.append(None)
            continue
        members = members_of(getattr(_enums, enumeration))
        column_members.append(members)
        enum_names[column] = <const char **>PyMem_Calloc(256, sizeof(char *))
        if enum_names[column] == NULL:
            raise MemoryError
        for value in range(256):
            if not type(members[value]) is int:
                text = members[value].name.encode()
                kept_alive.append(text)
                enum_names[column][value] = PyBytes_AS_STRING(text)
    return 0


fill_tables()

cdef tuple KINDS = ("bool", "u8", "u16", "u32", "u64", "enum", "ipv4", "address", "guid", "text")


def column_info():
    """The table of columns as a tuple of dicts: name, attribute, kind, absence, direction, version, width, ..."""
    cdef uint32_t column
    cdef const libwfpsa.wfpsa_column_info *info
    absences = ("never", "no SA", "no address", "no SA in this direction", "no first SA", "no second SA", "zero", "255")
    rows = []
    for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
        info = libwfpsa.info_at(column)
        rows.append({
            "name": (<bytes>info.name).decode(),
            "attribute": (<bytes>info.attribute).decode(),
            "kind": KINDS[info.kind],
            "absence": absences[info.absence],
            "direction": (None, "in", "out")[info.direction],
            "version": info.version,
            "width": info.width,
            "enumeration": (<bytes>info.enumeration).decode() or None,
            "source": (<bytes>info.source).decode(),
            "note": (<bytes>info.note).decode(),
        })
    return tuple(rows)


cdef uint32_t find_column(str name) except? 0xFFFFFFFF:
    """The index of a column; KeyError with the nearest name where there is none."""
    found = column_index.get(name)
    if found is None:
        raise KeyError(unknown(name))
    return found


cdef str unknown(str name):
    """What to say of a name that no column has."""
    import difflib
    near = difflib.get_close_matches(name, column_names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown column {name!r}{hint}"


cdef str why_lacking(const libwfpsa.wfpsa_columns *columns, uint32_t column):
    """What to say of a column that a batch does not have."""
    if libwfpsa.info_at(column).version > columns.version:
        return f"this batch has no column {column_names[column]!r}: it was read with version={columns.version}"
    return f"this batch has no column {column_names[column]!r}: it was left out by fields="


cdef object text_of(const libwfpsa.wfpsa_strings *strings, uint32_t code):
    if code == 0 or code > strings.count:
        return None
    return PyUnicode_DecodeUTF8(strings.text + strings.offsets[code], strings.offsets[code + 1] - strings.offsets[code],
                                NULL)


cdef inline object cell_value(int kind, const uint8_t *cell, list members, const libwfpsa.wfpsa_columns *columns):
    """A cell that is there, as a Column shows it."""
    if kind == libwfpsa.WFPSA_U64:
        return (<const uint64_t *>cell)[0]
    if kind == libwfpsa.WFPSA_U32 or kind == libwfpsa.WFPSA_IPV4:
        return (<const uint32_t *>cell)[0]
    if kind == libwfpsa.WFPSA_ENUM:
        return members[cell[0]]
    if kind == libwfpsa.WFPSA_BOOL:
        return cell[0] != 0
    if kind == libwfpsa.WFPSA_U16:
        return (<const uint16_t *>cell)[0]
    if kind == libwfpsa.WFPSA_U8:
        return cell[0]
    if kind == libwfpsa.WFPSA_TEXT:
        return text_of(&columns.strings, (<const uint32_t *>cell)[0])
    return PyBytes_FromStringAndSize(<const char *>cell, 16)


cdef object ipaddress_module = None
cdef object uuid_class = None


cdef object address_object(const uint8_t *cell):
    global ipaddress_module
    cdef int i
    cdef uint32_t v4
    if ipaddress_module is None:
        import ipaddress
        ipaddress_module = ipaddress
    for i in range(10):
        if cell[i]:
            break
    else:
        if cell[10] == 0xFF and cell[11] == 0xFF:
            # A variable of its own: the type of the expression is C's long to Cython, signed and 32 bits on Windows.
            v4 = <uint32_t>cell[12] << 24 | <uint32_t>cell[13] << 16 | <uint32_t>cell[14] << 8 | cell[15]
            return ipaddress_module.IPv4Address(v4)
    return ipaddress_module.IPv6Address(PyBytes_FromStringAndSize(<const char *>cell, 16))


cdef object attribute_value(const libwfpsa.wfpsa_columns *columns, uint32_t column, uint64_t row):
    """A cell as SaContext and SaDetails show it: addresses and GUIDs as objects, None where absent."""
    global ipaddress_module, uuid_class
    cdef const libwfpsa.wfpsa_column_info *info = libwfpsa.info_at(column)
    cdef const uint8_t *cell
    columns = libwfpsa.wfpsa_columns_home(columns, &row)
    if columns.columns[column] == NULL:
        raise AttributeError(why_lacking(columns, column), name=column_names[column])
    if libwfpsa.wfpsa_is_absent(columns, info, column, row):
        return None
    cell = <const uint8_t *>columns.columns[column] + row * info.width
    if info.kind == libwfpsa.WFPSA_ADDRESS:
        return address_object(cell)
    if info.kind == libwfpsa.WFPSA_GUID:
        if uuid_class is None:
            from uuid import UUID
            uuid_class = UUID
        return uuid_class(bytes_le=PyBytes_FromStringAndSize(<const char *>cell, 16))
    if info.kind == libwfpsa.WFPSA_IPV4:
        if ipaddress_module is None:
            import ipaddress
            ipaddress_module = ipaddress
        return ipaddress_module.IPv4Address((<const uint32_t *>cell)[0])
    return cell_value(info.kind, cell, column_members[column], columns)


CORE_FIELDS = (
    "context_id", "has_inbound", "has_outbound", "ip_version", "traffic_type", "local_address", "remote_address",
    "remote_port", "spi_in", "spi_out", "transform_out", "cipher_config_out", "lifetime_seconds_out", "mm_sa_id_out",
    "filter_id_out",
)


def column_mask(fields, uint32_t version):
    """For each column a byte, 1 where its name is among the fields; ValueError for names that are not of the version.
    """
    cdef bytearray mask = bytearray(libwfpsa.WFPSA_COLUMN_COUNT)
    cdef uint32_t column
    if isinstance(fields, (str, bytes)):
        raise TypeError(f"fields must be an iterable of column names, not one {type(fields).__name__}")
    for name in fields:
        if not isinstance(name, str):
            raise TypeError(f"fields must be names of columns, not {type(name).__name__}")
        if name not in column_index:
            raise ValueError(f"fields: {unknown(name)}")
        column = column_index[name]
        if libwfpsa.info_at(column).version > version:
            raise ValueError(f"fields: version {version} of the structures has no column {name!r}")
        mask[column] = 1
    if not any(mask):
        raise ValueError("fields must name at least one column (None: all)")
    return bytes(mask)


cdef int add_attribute(type cls, uint32_t column, const char *name, object (*get)(object, void *)) except -1:
    """Gives the class an attribute for a column: one getter serves them all, told apart by its closure."""
    cdef const libwfpsa.wfpsa_column_info *info = libwfpsa.info_at(column)
    cdef PyGetSetDef *getset = <PyGetSetDef *>PyMem_Calloc(1, sizeof(PyGetSetDef))
    if getset == NULL:
        raise MemoryError
    absent = "" if info.absence == libwfpsa.WFPSA_NEVER else "; None where absent"
    doc = f"{KINDS[info.kind]}: {(<bytes>info.note).decode()}{absent}. From {(<bytes>info.source).decode()}.".encode()
    kept_alive.append(doc)
    getset.name = name
    getset.get = get
    getset.doc = PyBytes_AS_STRING(doc)
    getset.closure = <void *><uintptr_t>column
    descriptor = PyDescr_NewGetSet(<PyTypeObject *>cls, getset)
    (<dict>(<TypeSlots *>cls).tp_dict)[(<bytes>name).decode()] = descriptor
    PyType_Modified(<PyTypeObject *>cls)
    return 0


cdef int forbid_instances(type cls) except -1:
    """Only this module makes objects of the class: cls() and cls.__new__(cls) raise TypeError."""
    (<TypeSlots *>cls).tp_new = NULL
    (<TypeSlots *>cls).tp_vectorcall = NULL
    (<dict>(<TypeSlots *>cls).tp_dict).pop("__new__", None)
    PyType_Modified(<PyTypeObject *>cls)
    return 0

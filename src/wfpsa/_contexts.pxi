# One context: a row of a batch with attributes, and its two directions.

cdef SaContext new_context(SaBatch batch, uint64_t row):
    cdef SaContext context = SaContext.__new__(SaContext)
    context.batch = batch
    context.row = row
    return context


cdef str span(object context):
    """The two addresses for a repr."""
    cdef libwfpsa.wfpsa_columns *columns = (<SaContext>context).batch.data
    parts = []
    for name in ("local_address", "remote_address"):
        column = find_column(name)
        if libwfpsa.wfpsa_columns_has(columns, column):
            address = attribute_value(columns, column, (<SaContext>context).row)
            parts.append("?" if address is None else str(address))
    return " -> ".join(parts)


cdef uint8_t presence_of(SaBatch batch, uint64_t row) noexcept:
    cdef const libwfpsa.wfpsa_columns *home = libwfpsa.wfpsa_columns_home(batch.data, &row)
    return home.presence[row]


cdef object direction_of(SaContext context, bint outbound):
    cdef SaDetails details
    cdef int bit = libwfpsa.WFPSA_PRESENT_OUTBOUND if outbound else libwfpsa.WFPSA_PRESENT_INBOUND
    if not presence_of(context.batch, context.row) & bit:
        return None
    details = SaDetails.__new__(SaDetails)
    details.batch = context.batch
    details.row = context.row
    details.outbound = outbound
    return details


@cython.final
@cython.no_gc
cdef class SaContext:
    """One IPsec SA context: an attribute for each column of its batch, and `inbound` and `outbound`.

    Absent values are None, addresses are `ipaddress` objects, GUIDs are `uuid.UUID`s, enumerations are members or, for
    values without a name, ints. A context keeps its whole batch alive: `detach()` gives one that does not. Two contexts
    are equal where they agree in all columns that both have; the hash is that of the context id.
    """

    @property
    def inbound(self):
        """The inbound SA as SaDetails, None where there is none."""
        return direction_of(self, False)

    @property
    def outbound(self):
        """The outbound SA as SaDetails, None where there is none."""
        return direction_of(self, True)

    def detach(self):
        """An equal context with a batch of its own, so that this one's batch can go."""
        return new_context(taken(self.batch, self.row, 1, NULL, 1), 0)

    def __eq__(self, other):
        if not isinstance(other, SaContext):
            return NotImplemented
        return libwfpsa.wfpsa_rows_equal(self.batch.data, self.row, (<SaContext>other).batch.data,
                                         (<SaContext>other).row, NULL)

    def __hash__(self):
        if not libwfpsa.wfpsa_columns_has(self.batch.data, libwfpsa.WFPSA_COLUMN_context_id):
            raise TypeError("a context read without its context_id (fields=) has no hash")
        return hash(attribute_value(self.batch.data, libwfpsa.WFPSA_COLUMN_context_id, self.row))

    def __repr__(self):
        cdef uint8_t presence = presence_of(self.batch, self.row)
        sides = [name for name, bit in (("inbound", libwfpsa.WFPSA_PRESENT_INBOUND),
                                        ("outbound", libwfpsa.WFPSA_PRESENT_OUTBOUND)) if presence & bit]
        number = getattr(self, "context_id", "?")
        return f"<SaContext {number} {span(self)} {'+'.join(sides) or 'half-built'}>"

    def __reduce__(self):
        return first_context, (taken(self.batch, self.row, 1, NULL, 1),)


@cython.final
@cython.no_gc
cdef class SaDetails:
    """One direction of a context: the columns of its suffix as attributes without it (`spi` is `spi_in` or `spi_out`).

    Equal to another one of the same direction that agrees in all columns that both have.
    """

    @property
    def direction(self):
        """"inbound" or "outbound"."""
        return "outbound" if self.outbound else "inbound"

    def __eq__(self, other):
        cdef uint8_t wanted[libwfpsa.WFPSA_COLUMN_COUNT]
        if not isinstance(other, SaDetails):
            return NotImplemented
        if self.outbound != (<SaDetails>other).outbound:
            return False
        select_direction(wanted, self.outbound)
        return libwfpsa.wfpsa_rows_equal(self.batch.data, self.row, (<SaDetails>other).batch.data,
                                         (<SaDetails>other).row, wanted)

    def __hash__(self):
        cdef uint32_t column = libwfpsa.WFPSA_COLUMN_spi_out if self.outbound else libwfpsa.WFPSA_COLUMN_spi_in
        if not libwfpsa.wfpsa_columns_has(self.batch.data, column):
            raise TypeError("an SA read without its spi (fields=) has no hash")
        return hash((self.outbound, attribute_value(self.batch.data, column, self.row)))

    def __repr__(self):
        spi, transform = getattr(self, "spi", "?"), getattr(self, "transform", "?")
        number = spi if spi is None or spi == "?" else f"0x{spi:08x}"
        shown = "no SA" if spi is None else f"spi={number} {getattr(transform, 'name', transform)}"
        return f"<SaDetails {self.direction} {shown}>"

    def __reduce__(self):
        return first_details, (taken(self.batch, self.row, 1, NULL, 1), self.direction)


cdef void select_direction(uint8_t *wanted, bint outbound) noexcept:
    cdef uint32_t column
    cdef int direction = libwfpsa.WFPSA_OUTBOUND if outbound else libwfpsa.WFPSA_INBOUND
    for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
        wanted[column] = libwfpsa.info_at(column).direction == direction


def first_context(batch):
    """The first context of a batch: what a pickled context becomes."""
    return batch[0]


def first_details(batch, direction):
    """A direction of the first context of a batch: what pickled details become."""
    return getattr(batch[0], direction)


cdef object context_attribute(object self, void *closure):
    return attribute_value((<SaContext>self).batch.data, <uint32_t><uintptr_t>closure, (<SaContext>self).row)


cdef object details_attribute(object self, void *closure):
    cdef uint32_t column = <uint32_t><uintptr_t>closure
    if (<SaDetails>self).outbound:  # the two directions have the same columns in the same order
        column += libwfpsa.WFPSA_COLUMN_spi_out - libwfpsa.WFPSA_COLUMN_spi_in
    return attribute_value((<SaDetails>self).batch.data, column, (<SaDetails>self).row)


cdef int add_attributes() except -1:
    cdef uint32_t column
    cdef const libwfpsa.wfpsa_column_info *info
    for column in range(libwfpsa.WFPSA_COLUMN_COUNT):
        info = libwfpsa.info_at(column)
        add_attribute(SaContext, column, info.name, context_attribute)
        if info.direction == libwfpsa.WFPSA_INBOUND:
            add_attribute(SaDetails, column, info.attribute, details_attribute)
    return 0


add_attributes()
forbid_instances(SaContext)
forbid_instances(SaDetails)

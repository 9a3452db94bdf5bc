# The embedded engine's controls: stores, and what is alive in the process.

RIGHTS = ("administrator", "network_operator", "read_only", "everyone")
KEY_MARK = PyBytes_FromStringAndSize(libwfpsa.WFPSA_KEY_MARK, libwfpsa.WFPSA_KEY_MARK_BYTES)


@cython.final
cdef class Store:
    """What sessions of the embedded engine see: the store of that name, or without one a new store of its own."""

    def __cinit__(self, str name=None):
        cdef int created = 0
        cdef const uint16_t *text = NULL
        encoded = b""
        if name is not None:
            if not 1 <= len(name) <= libwfpsa.WFPSA_STORE_NAME_MAX:
                raise ValueError(f"a store's name has 1 to {libwfpsa.WFPSA_STORE_NAME_MAX} characters, not {name!r}")
            encoded = name.encode("utf-16-le") + b"\0\0"
            text = <const uint16_t *>PyBytes_AS_STRING(encoded)
        with nogil:
            self.store = libwfpsa.wfpsa_store_open(text, &created)
        if self.store == NULL:
            raise MemoryError("no memory for a store")
        self.created = created

    def __dealloc__(self):
        if self.store != NULL:
            with nogil:
                libwfpsa.wfpsa_store_release(self.store)

    @property
    def name(self):
        """The name under which sessions open it."""
        cdef const uint16_t *text = libwfpsa.wfpsa_store_name(self.store)
        cdef Py_ssize_t length = 0
        while text[length]:
            length += 1
        return PyBytes_FromStringAndSize(<const char *>text, length * 2).decode("utf-16-le")

    def __len__(self):
        cdef uint64_t count
        with nogil:
            count = libwfpsa.wfpsa_store_count(self.store)
        return count

    def seed(self, uint64_t count, uint64_t seed, bint odd):
        """Adds plausible contexts, the same ones for the same numbers; with `odd` some that no sane engine returns."""
        cdef int done
        with nogil:
            done = libwfpsa.wfpsa_store_seed(self.store, count, seed, odd)
        if not done:
            raise MemoryError(f"no memory for {count} contexts")

    def clock(self, bint manual):
        """Stops the clock, or lets it follow real time again."""
        with nogil:
            libwfpsa.wfpsa_store_clock(self.store, manual)

    def advance(self, uint64_t milliseconds):
        """Moves the clock."""
        with nogil:
            libwfpsa.wfpsa_store_advance(self.store, milliseconds)

    def latency(self, uint64_t per_call_ns, uint64_t per_entry_ns):
        """What each call, and each entry of an enumeration, takes longer."""
        with nogil:
            libwfpsa.wfpsa_store_latency(self.store, per_call_ns, per_entry_ns)

    def rights(self, str profile):
        """Who the sessions opened from now on are: one of RIGHTS."""
        cdef int number = RIGHTS.index(profile)
        with nogil:
            libwfpsa.wfpsa_store_rights(self.store, number)

    def fail(self, str function, uint64_t nth, uint32_t code):
        """The nth call from now of the OS function of that name fails with the code; 0 cancels."""
        name = function.encode()
        if not libwfpsa.wfpsa_store_fail(self.store, PyBytes_AS_STRING(name), nth, code):
            raise ValueError(f"function must be one of the engine table's, not {function!r}")


def live_counters():
    """What is alive in the whole process: stores, engines, enum_handles, pages, allocations."""
    cdef libwfpsa.wfpsa_live live
    libwfpsa.wfpsa_embedded_live(&live)
    return {"stores": live.stores, "engines": live.engines, "enum_handles": live.enum_handles, "pages": live.pages,
            "allocations": live.allocations}


def fail_allocation(uint64_t nth):
    """The nth allocation of the C half from now fails, once; 0 cancels."""
    libwfpsa.wfpsa_embedded_fail_allocation(nth)

# The embedded engine's controls: stores, and what is alive in the process.

RIGHTS = ("administrator", "network_operator", "read_only", "everyone")
cdef uint32_t ERROR_NOT_ENOUGH_MEMORY = 8
cdef uint32_t FWP_E_ALREADY_EXISTS = 0x80320009
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

    def seed(self, uint64_t count, uint64_t seed, int population):
        """Adds contexts, the same ones for the same numbers: plausible (0), with odd ones (1), or full ones (2)."""
        cdef int done
        with nogil:
            done = libwfpsa.wfpsa_store_seed(self.store, count, seed, population)
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

    def now(self):
        """What the clock shows, in seconds since some moment."""
        cdef uint64_t milliseconds
        with nogil:
            milliseconds = libwfpsa.wfpsa_store_now(self.store)
        return milliseconds / 1000.0

    def latency(self, uint64_t per_call_ns, uint64_t per_entry_ns):
        """What each call, and each entry of an enumeration, takes longer."""
        with nogil:
            libwfpsa.wfpsa_store_latency(self.store, per_call_ns, per_entry_ns)

    def rights(self, str profile):
        """Who the sessions opened from now on are: one of RIGHTS."""
        cdef int number = RIGHTS.index(profile)
        with nogil:
            libwfpsa.wfpsa_store_rights(self.store, number)

    def add(self, uint64_t context_id, object traffic, object inbound, object outbound):
        """Adds a context of that Traffic and those SaBundles or None; an id of 0 asks for a new one. Returns (OS code,
        id)."""
        return add_context(<uintptr_t>&libwfpsa.wfpsa_store_add, <uintptr_t>self.store, context_id, traffic, inbound,
                           outbound)

    def replay(self, SaBatch batch not None):
        """Adds the contexts of a batch as they were, all or none; ValueError where an id is taken, or there are none.
        """
        replay_into(<uintptr_t>&libwfpsa.wfpsa_store_replay, <uintptr_t>self.store, batch)

    def churn(self, uint64_t per_second, uint64_t seed):
        """From now on so many contexts a second come, and as many go."""
        cdef int done
        with nogil:
            done = libwfpsa.wfpsa_store_churn(self.store, per_second, seed)
        if not done:
            raise MemoryError("no memory for a population")

    def stop(self, uint32_t code):
        """Stops the service; calls of open sessions give that code."""
        with nogil:
            libwfpsa.wfpsa_store_stop(self.store, code)

    def start(self):
        """Starts it again; the sessions from before stay dead."""
        with nogil:
            libwfpsa.wfpsa_store_start(self.store)

    def notifications(self, uint32_t capacity, bint held):
        """What a subscription's queue holds from now on, and whether deliveries wait."""
        with nogil:
            libwfpsa.wfpsa_store_notifications(self.store, capacity, held)

    def switch(self, str name, str choice):
        """Sets a switch; False where there is no such switch or choice."""
        cdef bytes which = name.encode(), what = choice.encode()
        return bool(libwfpsa.wfpsa_store_switch(self.store, PyBytes_AS_STRING(which), PyBytes_AS_STRING(what)))

    def fail(self, str function, uint64_t nth, uint32_t code):
        """The nth call from now of the OS function of that name fails with the code; 0 cancels."""
        name = function.encode()
        if not libwfpsa.wfpsa_store_fail(self.store, PyBytes_AS_STRING(name), nth, code):
            raise ValueError(f"function must be one of the engine table's, not {function!r}")


def add_context(uintptr_t add, uintptr_t store, uint64_t context_id, object traffic, object inbound, object outbound):
    """What Store.add does, on a store of the embedded engine whose wfpsa_store_add has that address."""
    cdef libwfpsa.wfpsa_details details[2]
    cdef libwfpsa.wfpsa_details *inside = NULL
    cdef libwfpsa.wfpsa_details *outside = NULL
    cdef uint32_t code
    kept = []
    if inbound is not None:
        inside = &details[0]
        kept.append(fill_details(inside, traffic, inbound))
    if outbound is not None:
        outside = &details[1]
        kept.append(fill_details(outside, traffic, outbound))
    with nogil:
        code = libwfpsa.wfpsa_keying_store(<libwfpsa.wfpsa_store_adder *>add, <libwfpsa.wfpsa_store *>store,
                                           &context_id, inside, outside)
    del kept
    return code, context_id


def replay_into(uintptr_t replayer, uintptr_t store, SaBatch batch not None):
    """What Store.replay does, on a store of the embedded engine whose wfpsa_store_replay has that address."""
    cdef uint64_t failed = 0
    cdef uint32_t code
    if not libwfpsa.wfpsa_columns_has(batch.data, libwfpsa.WFPSA_COLUMN_context_id):
        raise ValueError(f"{why_lacking(batch.data, libwfpsa.WFPSA_COLUMN_context_id)}; it cannot be replayed")
    with nogil:
        code = libwfpsa.wfpsa_replay(<libwfpsa.wfpsa_store_replayer *>replayer, <libwfpsa.wfpsa_store *>store,
                                     batch.data, batch.start, batch.step, batch.length, &failed)
    if code == ERROR_NOT_ENOUGH_MEMORY:
        raise MemoryError(f"no memory for {batch.length} contexts")
    if code == FWP_E_ALREADY_EXISTS:
        raise ValueError(f"context {batch['context_id'][failed]} is in the engine already, or twice in the batch: "
                         "nothing was added")
    if code:
        raise _errors.failure(code, "wfpsa_replay")


def switches():
    """What the OS does not document: {name: (choices, meaning)}, of the choices the default first."""
    cdef uint32_t index = 0
    cdef const libwfpsa.wfpsa_switch *known = libwfpsa.wfpsa_switch_at(0)
    found = {}
    while known != NULL:
        choices = tuple((<bytes>known.choices).decode().split())
        found[(<bytes>known.name).decode()] = choices, (<bytes>known.meaning).decode()
        index += 1
        known = libwfpsa.wfpsa_switch_at(index)
    return found


def live_counters():
    """What is alive in the whole process, and how many wrong uses were seen."""
    cdef libwfpsa.wfpsa_live live
    libwfpsa.wfpsa_embedded_live(&live)
    return {"stores": live.stores, "engines": live.engines, "enum_handles": live.enum_handles, "pages": live.pages,
            "subscriptions": live.subscriptions, "transactions": live.transactions, "allocations": live.allocations,
            "misuses": live.misuses}


def page_bytes(uintptr_t address):
    """Bytes of the embedded engine's result at that address."""
    return libwfpsa.wfpsa_embedded_page_bytes(<const void *>address)


def take_misuses():
    """[(OS function, what was wrong, how often)] since the last time."""
    cdef uint32_t index = 0
    cdef const char *function = NULL
    cdef const char *what = NULL
    cdef int64_t count = 0
    found = []
    while libwfpsa.wfpsa_embedded_misuse(index, &function, &what, &count):
        found.append(((<bytes>function).decode(), (<bytes>what).decode(), count))
        index += 1
    libwfpsa.wfpsa_embedded_forget_misuses()
    return found


def fail_allocation(uint64_t nth):
    """The nth allocation of the C half from now fails, once; 0 cancels."""
    libwfpsa.wfpsa_embedded_fail_allocation(nth)

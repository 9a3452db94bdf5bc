# Sessions of an engine: opening, enumerating, one context, mass expiry; and what tests need to know of the C half.

cdef int raise_failure(int status, const libwfpsa.wfpsa_failure *failure) except -1 with gil:
    if status == libwfpsa.WFPSA_CALL_FAILED:
        raise _errors.failure(failure.code, (<bytes>failure.function).decode())
    if status == libwfpsa.WFPSA_NO_MEMORY:
        raise MemoryError("no memory for SA contexts")
    if status == libwfpsa.WFPSA_FORKED:
        raise _errors.EngineClosed(message="the engine was opened by another process: open one after the fork")
    raise _errors.EngineClosed()


cdef inline int check(int status, const libwfpsa.wfpsa_failure *failure) except -1 nogil:
    if status == libwfpsa.WFPSA_OK:
        return 0
    return raise_failure(status, failure)


cdef const libwfpsa.wfpsa_backend *find_backend(str name) except NULL:
    cdef uint32_t index = 0
    cdef const libwfpsa.wfpsa_backend *backend = libwfpsa.wfpsa_backend_at(0)
    while backend != NULL:
        if (<bytes>libwfpsa.wfpsa_backend_name(backend)).decode() == name:
            return backend
        index += 1
        backend = libwfpsa.wfpsa_backend_at(index)
    only = " and ".join([f'"{known}:"' for known in backends()])
    raise _errors.EngineUnavailable(None, None, f'this build of wfpsa has no "{name}:" engine, only {only}')


def backends():
    """The names of the engines built into this extension, the platform's default first."""
    cdef uint32_t index = 0
    names = []
    while libwfpsa.wfpsa_backend_at(index) != NULL:
        names.append((<bytes>libwfpsa.wfpsa_backend_name(libwfpsa.wfpsa_backend_at(index))).decode())
        index += 1
    return tuple(names)


def engine_functions(str backend):
    """The engine table of a backend: the OS's function names and the addresses behind them, for ctypes."""
    cdef const libwfpsa.wfpsa_backend *table = find_backend(backend)
    cdef uint32_t index = 0
    cdef uintptr_t address = 0
    cdef const char *name = libwfpsa.wfpsa_backend_function(table, 0, &address)
    functions = {}
    while name != NULL:
        if address:
            functions[(<bytes>name).decode()] = address
        index += 1
        name = libwfpsa.wfpsa_backend_function(table, index, &address)
    return functions


def layout():
    """The layout that this build has for the SDK's structures: {type: {field: (offset, size)}}; "" is the whole."""
    cdef uint32_t index = 0
    cdef const libwfpsa.wfpsa_layout *row = libwfpsa.wfpsa_layout_at(0)
    types = {}
    while row != NULL:
        types.setdefault((<bytes>row.type).decode(), {})[(<bytes>row.field).decode()] = (row.offset, row.size)
        index += 1
        row = libwfpsa.wfpsa_layout_at(index)
    return types


def decode_page(uintptr_t address, uint32_t count, uint32_t version, bytes wanted):
    """The batch of an array of pointers to IPSEC_SA_CONTEXT0 or 1 at that address, with the columns of a column_mask
    (None: all). Key blobs there become zeros."""
    cdef libwfpsa.wfpsa_columns *columns = new_columns(version, wanted)
    cdef int status
    with nogil:
        if version == 0:
            status = libwfpsa.wfpsa_columns_append0(columns, <libwfpsa.IPSEC_SA_CONTEXT0_ **>address, count, NULL)
        else:
            status = libwfpsa.wfpsa_columns_append1(columns, <libwfpsa.IPSEC_SA_CONTEXT1_ **>address, count, NULL)
        if status == libwfpsa.WFPSA_OK:
            status = libwfpsa.wfpsa_columns_freeze(columns)
    if status != libwfpsa.WFPSA_OK:
        libwfpsa.wfpsa_columns_release(columns)
        raise MemoryError
    return new_batch(columns, 0, 1, columns.length, "memory", None)


cdef int fill_subnet(libwfpsa.wfpsa_subnet *subnet, object given) except -1:
    """From (4 or 6, 16 bytes, prefix length), or None for any address."""
    memset(subnet, 0, sizeof(libwfpsa.wfpsa_subnet))
    if given is not None:
        subnet.family, address, subnet.prefix_length = given
        memcpy(subnet.address, PyBytes_AS_STRING(address), 16)
    return 0


cdef libwfpsa.wfpsa_columns *new_columns(uint32_t version, bytes wanted) except NULL:
    """An empty batch to be filled, with the columns of a column_mask (None: all)."""
    cdef const uint8_t *mask = NULL if wanted is None else <const uint8_t *>PyBytes_AS_STRING(wanted)
    cdef libwfpsa.wfpsa_columns *columns = libwfpsa.wfpsa_columns_new_some(version, mask)
    if columns == NULL:
        raise MemoryError
    return columns


cdef SaBatch frozen(libwfpsa.wfpsa_columns *columns, str backend, object pushed):
    """The batch of finished columns, which it takes over."""
    cdef int status
    with nogil:
        status = libwfpsa.wfpsa_columns_freeze(columns)
    if status != libwfpsa.WFPSA_OK:
        libwfpsa.wfpsa_columns_release(columns)
        raise MemoryError("no memory for SA contexts")
    return new_batch(columns, 0, 1, columns.length, backend, pushed)


TRANSACTION_STEPS = ("begin", "begin_read_only", "commit", "abort")


@cython.final
@cython.no_gc
cdef class Session:
    """One engine session that threads may share; its calls are served one at a time."""

    def __init__(self, str backend, uint32_t lock_wait_ms=0, Store store=None):
        cdef const libwfpsa.wfpsa_backend *table = find_backend(backend)
        cdef const uint16_t *server_name = NULL
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        if self.session != NULL:
            raise TypeError("a session is opened once")
        if store is not None:
            server_name = libwfpsa.wfpsa_store_name(store.store)
        self.backend = backend
        self.store = store
        with nogil:
            status = libwfpsa.wfpsa_session_open(table, server_name, lock_wait_ms, &self.session, &failure)
        check(status, &failure)

    def __dealloc__(self):
        cdef libwfpsa.wfpsa_failure failure
        if self.session != NULL:
            with nogil:
                libwfpsa.wfpsa_session_close(self.session, &failure)
                libwfpsa.wfpsa_session_free(self.session)

    def close(self):
        """Waits for the call in flight and closes; again: does nothing."""
        cdef libwfpsa.wfpsa_failure failure
        cdef int status = libwfpsa.WFPSA_OK
        if self.session != NULL:
            with nogil:
                status = libwfpsa.wfpsa_session_close(self.session, &failure)
        self.store = None
        check(status, &failure)

    cdef libwfpsa.wfpsa_session *opened(self) except NULL:
        if self.session == NULL:
            raise _errors.EngineClosed()
        return self.session

    def enumerate(self, object local, object remote, uint32_t version, uint32_t page_size, bytes wanted=None,
                  bint prefetch=False):
        """An Enumeration; local and remote are None or (4 or 6, 16 bytes, prefix length), wanted a column_mask."""
        cdef Enumeration opened = Enumeration.__new__(Enumeration)
        cdef libwfpsa.wfpsa_subnets subnets
        cdef libwfpsa.wfpsa_failure failure
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef int status
        fill_subnet(&subnets.local, local)
        fill_subnet(&subnets.remote, remote)
        opened.session = self
        opened.version = version
        opened.wanted = wanted
        opened.more = True
        opened.filtered = local is not None or remote is not None
        with nogil:
            status = libwfpsa.wfpsa_enumeration_open(session, version, page_size,
                                                     &subnets if opened.filtered else NULL, &opened.enumeration,
                                                     &failure)
        check(status, &failure)
        if prefetch:
            libwfpsa.wfpsa_enumeration_prefetch(opened.enumeration)
        return opened

    def get(self, uint64_t context_id, uint32_t version, bytes wanted=None):
        """A batch of the one context with that id."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_columns *columns = new_columns(version, wanted)
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_session_get(session, context_id, columns, &failure)
        if status != libwfpsa.WFPSA_OK:
            libwfpsa.wfpsa_columns_release(columns)
            check(status, &failure)
        return frozen(columns, self.backend, None)

    def delete(self, uint64_t context_id):
        """Deletes the context with that id at once, both directions."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_session_delete(session, context_id, &failure)
        check(status, &failure)

    def expire(self, ExpiryItems items):
        """Expires the items one by one in C, noting what became of each, until all are done, the session is lost or a
        signal handler raises; what is not done by then stays NOT_ATTEMPTED."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_failure failure
        cdef libwfpsa.wfpsa_expiry expiry = items.expiry()
        cdef int status, lost = 0
        cdef uint64_t before
        while True:
            before = items.done
            with nogil:
                status = libwfpsa.wfpsa_session_expire_with_care(session, &expiry, items.count, 50, &items.done, &lost)
            if status == libwfpsa.WFPSA_CLOSED and before > 0:
                return  # closed in the middle: the items say how far it came
            check(status, &failure)
            PyErr_CheckSignals()
            if lost or items.done == items.count:
                return

    def expire_slice(self, ExpiryItems items, uint64_t first, uint64_t stop, SaBatch seen, bint cautious=False):
        """Expires the items from `first` to before `stop` for about 50 ms, but for those that a guard spares, each of
        them only if it is what its row of `seen` says (None: whatever it is); with `cautious` up to the first failure.
        Returns (the next item, whether the session is lost)."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_failure failure
        cdef libwfpsa.wfpsa_expiry expiry = items.expiry()
        cdef uint64_t done = first
        cdef int status, lost = 0
        if not first <= stop <= items.count:
            raise ValueError(f"there are {items.count} items, not {first} to {stop}")
        expiry.stop_at_failure = cautious
        if seen is not None:
            if (<uint64_t>seen.length != items.count or seen.step != 1 or <uint64_t>seen.length != seen.data.length
                    or seen.data.selection != NULL):
                raise ValueError("what was seen must be a batch of its own, a row for each item")
            expiry.seen = seen.data
            expiry.found = new_columns(1, column_mask(seen.columns, 1))
        with nogil:
            status = libwfpsa.wfpsa_session_expire_with_care(session, &expiry, stop, 50, &done, &lost)
            libwfpsa.wfpsa_columns_release(expiry.found)
        check(status, &failure)
        return done, bool(lost)

    def create(self, object traffic):
        """The id of a new context with that outbound Traffic."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_traffic outbound
        cdef libwfpsa.wfpsa_failure failure
        cdef uint64_t made = 0
        cdef int status
        fill_traffic(&outbound, traffic)
        with nogil:
            status = libwfpsa.wfpsa_session_create(session, &outbound, &made, &failure)
        check(status, &failure)
        return made

    def spi(self, uint64_t context_id, object traffic, uint32_t spi):
        """Sets the SPI for the inbound SA, or with 0 gets one; returns it."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_traffic inbound
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        fill_traffic(&inbound, traffic)
        with nogil:
            status = libwfpsa.wfpsa_session_spi(session, context_id, &inbound, &spi, &failure)
        check(status, &failure)
        return spi

    def add(self, uint64_t context_id, bint inbound, object bundle):
        """Adds the SAs of an SaBundle in one direction."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef int direction = libwfpsa.WFPSA_INBOUND if inbound else libwfpsa.WFPSA_OUTBOUND
        cdef libwfpsa.wfpsa_bundle filled
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        kept = fill_bundle(&filled, bundle)
        with nogil:
            status = libwfpsa.wfpsa_session_add(session, context_id, direction, &filled, &failure)
        del kept
        check(status, &failure)

    def update(self, uint64_t context_id, uint64_t flags, bint inbound, object traffic, object bundle):
        """Changes what the flags select in one direction."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_details details
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        kept = fill_details(&details, traffic, bundle)
        with nogil:
            status = libwfpsa.wfpsa_session_update(session, context_id, flags, &details if inbound else NULL,
                                                   NULL if inbound else &details, &failure)
        del kept
        check(status, &failure)

    def transaction(self, str step):
        """A step of an explicit transaction: begin, begin_read_only, commit or abort."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_transaction number = <libwfpsa.wfpsa_transaction><int>TRANSACTION_STEPS.index(step)
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_session_transaction(session, number, &failure)
        check(status, &failure)

    def statistics(self):
        """{name: number} of IPSEC_STATISTICS1."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_statistics found
        cdef libwfpsa.wfpsa_failure failure
        cdef const char *name
        cdef uint32_t index = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_session_statistics(session, &found, &failure)
        check(status, &failure)
        numbers = {}
        name = libwfpsa.wfpsa_statistic_name(0)
        while name != NULL:
            numbers[(<bytes>name).decode()] = (<const uint64_t *>&found)[index]
            index += 1
            name = libwfpsa.wfpsa_statistic_name(index)
        return numbers

    def subscribe(self, object local, object remote, uint32_t capacity):
        """A Subscription; local and remote as in enumerate."""
        cdef Subscription opened = Subscription.__new__(Subscription)
        cdef libwfpsa.wfpsa_subnets subnets
        cdef libwfpsa.wfpsa_failure failure
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef int status
        fill_subnet(&subnets.local, local)
        fill_subnet(&subnets.remote, remote)
        opened.session = self
        with nogil:
            status = libwfpsa.wfpsa_subscription_open(session, &subnets, capacity, &opened.subscription, &failure)
        check(status, &failure)
        return opened

    def drain(self, uint32_t version, uint32_t page_size):
        """Enumerates everything and frees each page unread; returns the number of contexts."""
        cdef libwfpsa.wfpsa_session *session = self.opened()
        cdef libwfpsa.wfpsa_failure failure
        cdef uint64_t count = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_session_drain(session, version, page_size, &count, &failure)
        check(status, &failure)
        return count


@cython.final
@cython.no_gc
cdef class Enumeration:
    """One pass over the contexts of a session's engine, by pages."""

    def __dealloc__(self):
        cdef libwfpsa.wfpsa_failure failure
        if self.enumeration != NULL:
            with nogil:
                libwfpsa.wfpsa_enumeration_close(self.enumeration, &failure)
                libwfpsa.wfpsa_enumeration_free(self.enumeration)

    def close(self):
        """Destroys the enumeration handle; again: does nothing."""
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_enumeration_close(self.enumeration, &failure)
        check(status, &failure)

    def read(self, bint whole):
        """The next page with at least one context as a batch, or with `whole` all that is left; None at the end."""
        cdef libwfpsa.wfpsa_columns *columns
        cdef libwfpsa.wfpsa_failure failure
        cdef int more = self.more, status
        if not whole and not more:
            return None
        columns = new_columns(self.version, self.wanted)
        try:
            if whole and not self.filtered and self.session.seen:  # most often there are about as many as last time
                with nogil:
                    status = libwfpsa.wfpsa_columns_reserve(columns, self.session.seen + self.session.seen // 64)
                if status != libwfpsa.WFPSA_OK:
                    self.session.seen = 0  # there may be fewer: what has room then grows as it is needed
            while more and (whole or columns.length == 0):
                with nogil:
                    status = libwfpsa.wfpsa_enumeration_next(self.enumeration, columns, &more, &failure)
                check(status, &failure)
                self.more = more
                PyErr_CheckSignals()
        except BaseException:
            libwfpsa.wfpsa_columns_release(columns)
            raise
        if not whole and columns.length == 0:
            libwfpsa.wfpsa_columns_release(columns)
            return None
        if whole and not self.filtered:
            self.session.seen = columns.length
        return frozen(columns, self.session.backend,
                      bool(libwfpsa.wfpsa_enumeration_pushed_down(self.enumeration)) if self.filtered else None)


cdef list outcome_members = members_of(_enums.Outcome)
cdef list guard_members = members_of(_enums.Guard)


@cython.final
cdef class ExpiryItems:
    """Context ids to expire, and for each an outcome and the OS's code."""

    def __init__(self, object targets):
        cdef Py_buffer view
        cdef Column column
        cdef uint64_t at
        if self.ids != NULL:
            raise TypeError("items are filled once")
        if isinstance(targets, SaBatch):
            targets = targets["context_id"]
        if isinstance(targets, Column):
            column = targets
            if column.label != "context_id" or column.kind != libwfpsa.WFPSA_U64:
                raise TypeError(f"targets must be context ids: column {column.label!r} holds something else")
            self.allocate(column.length)
            for at in range(self.count):
                self.ids[at] = (<const uint64_t *>column.cells)[column.start + at * <uint64_t>column.step]
            return
        if isinstance(targets, (str, bytes, bytearray)):
            raise TypeError(f"targets must be context ids, not {type(targets).__name__}")
        if PyObject_CheckBuffer(targets):
            PyObject_GetBuffer(targets, &view, PyBUF_FORMAT | PyBUF_STRIDES)
            try:
                self.from_buffer(&view)
            finally:
                PyBuffer_Release(&view)
            return
        self.from_numbers([context_id_of(target, at) for at, target in enumerate(targets)])

    cdef int from_buffer(self, Py_buffer *view) except -1:
        shown = (<bytes>view.format).decode() if view.format != NULL else "B"
        if view.itemsize != 8 or native_code(shown) not in ("Q", "L", "N"):
            raise TypeError(f"a buffer of targets must hold native uint64 values (format 'Q'), not {shown!r}")
        if view.ndim != 1:
            raise ValueError(f"a buffer of targets must be one-dimensional, not {view.ndim}-dimensional")
        if not PyBuffer_IsContiguous(view, b"C"):
            raise ValueError("a buffer of targets must be contiguous")
        self.allocate(view.len // 8)
        memcpy(self.ids, view.buf, view.len)
        return 0

    cdef int from_numbers(self, list numbers) except -1:
        cdef uint64_t at
        self.allocate(len(numbers))
        for at in range(self.count):
            self.ids[at] = numbers[at]
        return 0

    cdef libwfpsa.wfpsa_expiry expiry(self):
        cdef libwfpsa.wfpsa_expiry expiry
        memset(&expiry, 0, sizeof(expiry))
        expiry.ids, expiry.outcomes, expiry.codes, expiry.attempts = self.ids, self.outcomes, self.codes, self.tries
        expiry.skipped = self.guards
        return expiry

    def spare(self, bytes guards):
        """Names the guard of each item that is to be passed over, by its number; 0 where none is."""
        if <uint64_t>len(guards) != self.count:
            raise ValueError(f"there are {self.count} items, not {len(guards)}")
        if self.guards == NULL:
            self.guards = <uint8_t *>PyMem_Malloc(max(self.count, 1))
            if self.guards == NULL:
                raise MemoryError(f"no memory for {self.count} guards")
        memcpy(self.guards, PyBytes_AS_STRING(guards), self.count)

    def restore(self, uint64_t first, bytes outcomes, bytes codes, bytes attempts):
        """Puts back what became of items from `first` on: a byte, four bytes and a byte for each."""
        cdef uint64_t length = len(outcomes)
        if len(codes) != len(outcomes) * 4 or len(attempts) != len(outcomes):
            raise ValueError("the outcomes, codes and attempts are not of as many items")
        if first > self.count or length > self.count - first:
            raise ValueError(f"there are {self.count} items, not {first} to {first + length}")
        memcpy(self.outcomes + first, PyBytes_AS_STRING(outcomes), length)
        memcpy(self.codes + first, PyBytes_AS_STRING(codes), length * 4)
        memcpy(self.tries + first, PyBytes_AS_STRING(attempts), length)

    cdef int allocate(self, uint64_t count) except -1:
        self.ids = <uint64_t *>PyMem_Malloc(max(count, 1) * sizeof(uint64_t))
        self.codes = <uint32_t *>PyMem_Calloc(max(count, 1), sizeof(uint32_t))
        self.outcomes = <uint8_t *>PyMem_Malloc(max(count, 1))
        self.tries = <uint8_t *>PyMem_Calloc(max(count, 1), 1)
        if self.ids == NULL or self.codes == NULL or self.outcomes == NULL or self.tries == NULL:
            raise MemoryError(f"no memory for {count} context ids")
        memset(self.outcomes, libwfpsa.WFPSA_NOT_ATTEMPTED, count)
        self.count = count
        return 0

    def __dealloc__(self):
        PyMem_Free(self.ids)
        PyMem_Free(self.codes)
        PyMem_Free(self.outcomes)
        PyMem_Free(self.tries)
        PyMem_Free(self.guards)

    def __len__(self):
        return self.count

    @property
    def context_id(self):
        """The ids, as they were given."""
        return new_column(self, <const uint8_t *>self.ids, libwfpsa.WFPSA_U64, 8, "context_id", None, 0, 1, self.count)

    @property
    def outcome(self):
        """wfpsa.Outcome of each."""
        return new_column(self, self.outcomes, libwfpsa.WFPSA_ENUM, 1, "outcome", outcome_members, 0, 1, self.count)

    @property
    def code(self):
        """The OS's code of each, 0 where it succeeded or was not attempted."""
        return new_column(self, <const uint8_t *>self.codes, libwfpsa.WFPSA_U32, 4, "code", None, 0, 1, self.count)

    @property
    def attempts(self):
        """How many times each was tried."""
        return new_column(self, self.tries, libwfpsa.WFPSA_U8, 1, "attempts", None, 0, 1, self.count)

    @property
    def guard(self):
        """wfpsa.Guard of each."""
        if self.guards == NULL:
            self.spare(bytes(self.count))
        return new_column(self, self.guards, libwfpsa.WFPSA_ENUM, 1, "guard", guard_members, 0, 1, self.count)

    def counts(self, uint64_t first=0, stop=None):
        """How many of a range have each outcome, by its number."""
        cdef uint64_t at = first, begun, end = self.count if stop is None else min(<uint64_t>stop, self.count)
        cdef uint64_t totals[256]
        cdef uint8_t outcome
        memset(totals, 0, sizeof(totals))
        while at < end:  # by runs: most often all outcomes are one
            begun = at
            outcome = self.outcomes[at]
            while at < end and self.outcomes[at] == outcome:
                at += 1
            totals[outcome] += at - begun
        return {value: totals[value] for value in range(256) if totals[value]}

    def __reduce__(self):
        return unpickled_items, (bytes(self.context_id), bytes(self.outcome), bytes(self.code), bytes(self.attempts),
                                 bytes(self.guard))


def unpickled_items(bytes ids, bytes outcomes, bytes codes, bytes attempts, bytes guards):
    """The items of a pickle; ValueError where the pieces do not fit together."""
    cdef ExpiryItems items = ExpiryItems(memoryview(ids).cast("Q"))
    if {len(outcomes), len(attempts), len(guards)} != {len(items)} or len(codes) != 4 * len(items):
        raise ValueError("the pickled report has columns of different lengths")
    items.restore(0, outcomes, codes, attempts)
    items.spare(guards)
    items.done = items.count
    return items


cdef object context_id_of(object target, uint64_t at):
    """The id that a target stands for: an int in range, or that of a context."""
    if isinstance(target, SaContext):
        return attribute_value((<SaContext>target).batch.data, libwfpsa.WFPSA_COLUMN_context_id,
                               (<SaContext>target).row)
    if isinstance(target, bool) or not hasattr(target, "__index__"):
        raise TypeError(f"target {at} must be an int or a SaContext, not {type(target).__name__}")
    number = target.__index__()
    if not 0 <= number < 1 << 64:
        raise ValueError(f"target {at}: a context id is 0 to 2**64 - 1, not {number}")
    return number


forbid_instances(Enumeration)


# ---- the meter ----


CALL_BOUNDS = tuple([libwfpsa.WFPSA_CALL_FIRST_BOUND_NS * 10 ** i / 1e9 for i in range(libwfpsa.WFPSA_CALL_BOUNDS)])


def start_meter():
    """From now on the calls of engines in this process are counted; again: does nothing."""
    libwfpsa.wfpsa_meter_start()


def calls():
    """{kind: (calls up to each of CALL_BOUNDS and above the one before, and those behind; seconds; failures)}"""
    cdef libwfpsa.wfpsa_calls made
    cdef uint32_t kind
    cdef int at
    found = {}
    for kind in range(libwfpsa.WFPSA_CALL_KIND_COUNT):
        libwfpsa.wfpsa_meter_read(<libwfpsa.wfpsa_call_kind>kind, &made)
        within = tuple([made.within[at] for at in range(libwfpsa.WFPSA_CALL_BOUNDS + 1)])
        found[libwfpsa.wfpsa_call_kind_name(kind).decode()] = (within, made.ns / 1e9, made.failures)
    return found

# The mirror: a live copy of contexts in C, for one thread that works on it and others that ask.


@cython.final
@cython.no_gc
cdef class Mirror:
    """Rows of contexts, which events mark and calls by id refresh."""

    def __init__(self, bytes wanted, uint32_t history):
        cdef const uint8_t *mask = NULL
        cdef int status
        if self.mirror != NULL:
            raise TypeError("a mirror is made once")
        if wanted is not None:
            mask = <const uint8_t *>PyBytes_AS_STRING(wanted)
        if wanted is not None and not wanted[libwfpsa.WFPSA_COLUMN_context_id]:
            raise ValueError("a mirror needs the column context_id")
        with nogil:
            status = libwfpsa.wfpsa_mirror_new(mask, history, &self.mirror)
        if status != libwfpsa.WFPSA_OK:
            raise MemoryError("no memory for a mirror")

    def __dealloc__(self):
        libwfpsa.wfpsa_mirror_free(self.mirror)

    def pull(self, Subscription subscription not None):
        """Marks what the events of a subscription name. Returns how many are missing; None where it has ended and all
        was taken."""
        cdef libwfpsa.wfpsa_failure failure
        cdef uint64_t lost = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_mirror_pull(self.mirror, subscription.subscription, &lost)
        if status == libwfpsa.WFPSA_CLOSED:
            return None
        check(status, &failure)
        return lost

    def read(self, Session session not None, uint64_t now, uint32_t most):
        """Reads up to `most` marked or due ids again; returns how many."""
        cdef libwfpsa.wfpsa_session *opened = session.opened()
        cdef libwfpsa.wfpsa_failure failure
        cdef uint32_t done = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_mirror_read(self.mirror, opened, now, most, &done, &failure)
        check(status, &failure)
        return done

    def due(self):
        """When the next one-sided context is due, on the clock of `now`; None where there is none."""
        cdef uint64_t due
        with nogil:
            due = libwfpsa.wfpsa_mirror_due(self.mirror)
        return None if due == <uint64_t>-1 else due

    def begin(self, bint anew):
        """Begins a reconciliation, before its enumeration is begun; `anew`: with another session."""
        with nogil:
            libwfpsa.wfpsa_mirror_reconcile_begin(self.mirror, anew)

    def page(self, Enumeration enumeration not None, uint64_t now):
        """Takes the next page in; returns whether another may follow."""
        cdef libwfpsa.wfpsa_failure failure
        cdef int more = 0, status
        with nogil:
            status = libwfpsa.wfpsa_mirror_reconcile_page(self.mirror, enumeration.enumeration, now, &more, &failure)
        check(status, &failure)
        return bool(more)

    def end(self):
        """Ends the reconciliation, all pages having been taken in: (listed, added, removed, changed)."""
        cdef libwfpsa.wfpsa_failure failure
        cdef libwfpsa.wfpsa_drift drift
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_mirror_reconcile_end(self.mirror, &drift)
        check(status, &failure)
        return drift.listed, drift.added, drift.removed, drift.changed

    def snapshot(self, str backend not None):
        """(a batch of all contexts as they are, the generation)."""
        cdef libwfpsa.wfpsa_columns *columns = NULL
        cdef libwfpsa.wfpsa_failure failure
        cdef uint64_t generation = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_mirror_snapshot(self.mirror, &columns, &generation)
        check(status, &failure)
        return new_batch(columns, 0, 1, columns.length, backend, None), generation

    def changes(self, uint64_t since, str backend not None):
        """(came, went, differ, generation): three batches; None where that is no generation it remembers."""
        cdef libwfpsa.wfpsa_columns *came = NULL
        cdef libwfpsa.wfpsa_columns *went = NULL
        cdef libwfpsa.wfpsa_columns *differ = NULL
        cdef libwfpsa.wfpsa_failure failure
        cdef uint64_t generation = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_mirror_changes(self.mirror, since, &came, &went, &differ, &generation)
        if status == libwfpsa.WFPSA_CLOSED:
            return None
        check(status, &failure)
        return (new_batch(came, 0, 1, came.length, backend, None), new_batch(went, 0, 1, went.length, backend, None),
                new_batch(differ, 0, 1, differ.length, backend, None), generation)

    def look(self):
        """{name: number} of struct wfpsa_mirror_state."""
        cdef libwfpsa.wfpsa_mirror_state state
        with nogil:
            libwfpsa.wfpsa_mirror_look(self.mirror, &state)
        return {"contexts": state.contexts, "generation": state.generation, "oldest": state.oldest,
                "marked": state.marked, "one_sided": state.one_sided, "reads": state.reads, "came": state.came,
                "went": state.went, "differed": state.differed, "bytes": state.bytes}

    def first_seen(self, uint64_t context_id):
        """When a context was first seen, on the clock of `now`; None where the id is not known."""
        cdef uint64_t since = 0
        cdef int known
        with nogil:
            known = libwfpsa.wfpsa_mirror_first_seen(self.mirror, context_id, &since)
        return since if known else None

# Subscriptions to change events: what the ring of the C half holds, taken in pieces.


@cython.final
@cython.no_gc
cdef class Subscription:
    """A subscription of a session; its events wait in a bounded ring in C."""

    def __dealloc__(self):
        cdef libwfpsa.wfpsa_failure failure
        if self.subscription != NULL:
            with nogil:
                libwfpsa.wfpsa_subscription_close(self.subscription, &failure)
                libwfpsa.wfpsa_subscription_free(self.subscription)

    def close(self):
        """Waits for a running callback and ends it; again: does nothing."""
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_subscription_close(self.subscription, &failure)
        check(status, &failure)

    def wait(self, uint64_t wait_ms):
        """Waits up to wait_ms until there is something to take, be it the end."""
        cdef libwfpsa.wfpsa_failure failure
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_subscription_wait(self.subscription, wait_ms)
        check(status, &failure)
        PyErr_CheckSignals()

    def wake(self):
        """Has a wait that goes on, or else the next one, come back at once."""
        with nogil:
            libwfpsa.wfpsa_subscription_wake(self.subscription)

    def take(self, into):
        """Appends to the deque what is there, each a pair: (kind, context id), or (0, events lost here); False when it
        has ended and all was taken. Nothing that is taken gets lost on the way: no signal handler runs in here."""
        cdef libwfpsa.wfpsa_event events[256]
        cdef libwfpsa.wfpsa_failure failure
        cdef uint32_t taken = 0, at
        cdef uint64_t lost = 0
        cdef int status = libwfpsa.wfpsa_subscription_take(self.subscription, events, 256, &taken, &lost)
        if status == libwfpsa.WFPSA_CLOSED:
            return False
        check(status, &failure)
        for at in range(taken):
            if events[at].lost_before:
                into.append((0, events[at].lost_before))
            into.append((events[at].kind, events[at].context_id))
        if lost:
            into.append((0, lost))
        return True


forbid_instances(Subscription)

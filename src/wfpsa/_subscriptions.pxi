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

    def take(self, uint64_t wait_ms):
        """([(kind, context id, events lost before it), ...], events lost after them), empty after wait_ms without any;
        None when it has ended and all was taken."""
        cdef libwfpsa.wfpsa_event events[256]
        cdef libwfpsa.wfpsa_failure failure
        cdef uint32_t taken = 0, at
        cdef uint64_t lost = 0
        cdef int status
        with nogil:
            status = libwfpsa.wfpsa_subscription_take(self.subscription, wait_ms, events, 256, &taken, &lost)
        if status == libwfpsa.WFPSA_CLOSED:
            return None
        check(status, &failure)
        PyErr_CheckSignals()
        return [(events[at].kind, events[at].context_id, events[at].lost_before) for at in range(taken)], lost


forbid_instances(Subscription)

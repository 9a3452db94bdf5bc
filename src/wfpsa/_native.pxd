# The layouts of the extension's classes; what they promise the compiler stands with their bodies. None that refers to
# an object can be in a cycle: they are unknown to the garbage collector (no_gc), which else might clear a session that
# an enumeration still needs to close itself.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from wfpsa cimport libwfpsa

cdef class Store:
    cdef libwfpsa.wfpsa_store *store
    cdef readonly bint created

cdef class Session:
    cdef libwfpsa.wfpsa_session *session
    cdef Store store
    cdef readonly str backend
    cdef uint64_t seen

    cdef libwfpsa.wfpsa_session *opened(self) except NULL

cdef class Enumeration:
    cdef libwfpsa.wfpsa_enumeration *enumeration
    cdef Session session
    cdef bytes wanted
    cdef uint32_t version
    cdef bint more
    cdef bint filtered

cdef class Subscription:
    cdef libwfpsa.wfpsa_subscription *subscription
    cdef Session session

cdef class Mirror:
    cdef libwfpsa.wfpsa_mirror *mirror

# A view of rows start, start + step, ... of shared columns, which may be a selection of other columns' rows.
cdef class SaBatch:
    cdef libwfpsa.wfpsa_columns *data
    cdef uint64_t start
    cdef int64_t step
    cdef Py_ssize_t length
    cdef str source
    cdef object pushed

# What wfpsa_diff_make found; `masks` has two words a changed row, `names` is made of them when somebody asks.
cdef class BatchDiff:
    cdef SaBatch batch_added
    cdef SaBatch batch_removed
    cdef SaBatch batch_changed
    cdef SaBatch batch_before
    cdef Py_ssize_t count_same
    cdef dict totals
    cdef bytes masks
    cdef tuple names

cdef class SaBatchIterator:
    cdef SaBatch batch
    cdef Py_ssize_t next

# Never refers to anything that refers to it: 32 bytes, unknown to the garbage collector.
cdef class SaContext:
    cdef SaBatch batch
    cdef uint64_t row

cdef class SaDetails:
    cdef SaBatch batch
    cdef uint64_t row
    cdef bint outbound

# Cells of a batch's column, or of an array of an expiry.
cdef class Column:
    cdef object owner
    cdef libwfpsa.wfpsa_columns *data
    cdef uint32_t column
    cdef const uint8_t *cells
    cdef uint64_t start
    cdef int64_t step
    cdef Py_ssize_t length
    cdef int kind
    cdef uint32_t width
    cdef list members
    cdef str label
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]

    cdef object value(self, Py_ssize_t index)

cdef class ExpiryItems:
    cdef uint64_t *ids
    cdef uint32_t *codes
    cdef uint8_t *outcomes
    cdef uint8_t *tries
    cdef uint8_t *guards
    cdef uint64_t count
    cdef uint64_t done

    cdef int from_buffer(self, Py_buffer *view) except -1
    cdef int from_numbers(self, list numbers) except -1
    cdef libwfpsa.wfpsa_expiry expiry(self)
    cdef int allocate(self, uint64_t count) except -1

# What wfpsa_condition takes; `values` is its array, which may point into `kept`.
cdef class _Condition:
    cdef uint32_t column
    cdef int test
    cdef bint or_absent
    cdef uint64_t count
    cdef uint64_t low
    cdef uint64_t high
    cdef bytes values
    cdef list kept
    cdef str name
    cdef object wanted
    cdef bint several
    cdef bint pushed

# A batch as an Arrow stream of a chosen shape.
cdef class ArrowView:
    cdef SaBatch batch
    cdef unsigned int options

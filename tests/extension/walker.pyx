# cython: language_level=3
"""An extension of somebody else's: it walks the columns of a batch in Cython, without a Python call a row."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t, uint64_t

from wfpsa cimport libwfpsa


def totals(batch):
    """(rows, sum of ids, sum of the SPIs that are there, absent SPIs, bytes of names, sum of the last address bytes)."""
    capsule = batch.__wfpsa_view__()
    cdef const libwfpsa.wfpsa_view *view = <const libwfpsa.wfpsa_view *>PyCapsule_GetPointer(
        capsule, libwfpsa.WFPSA_VIEW_CAPSULE)
    cdef uint64_t row, ids = 0, spis = 0, absent = 0, letters = 0, octets = 0
    cdef uint32_t length = 0
    if not libwfpsa.wfpsa_view_is_known(view):
        raise ImportError("this extension was built against another wfpsa")
    if not libwfpsa.wfpsa_view_has(view, libwfpsa.WFPSA_COLUMN_spi_in):
        raise ValueError("the batch has no spi_in")
    with nogil:
        for row in range(view.length):
            ids += libwfpsa.wfpsa_view_u64(view, libwfpsa.WFPSA_COLUMN_context_id, row)
            if libwfpsa.wfpsa_view_is_absent(view, libwfpsa.WFPSA_COLUMN_spi_in, row):
                absent += 1
            else:
                spis += libwfpsa.wfpsa_view_u32(view, libwfpsa.WFPSA_COLUMN_spi_in, row)
            if libwfpsa.wfpsa_view_text(view, libwfpsa.WFPSA_COLUMN_main_mode_target_in, row, &length) != NULL:
                letters += length
            octets += libwfpsa.wfpsa_view_bytes(view, libwfpsa.WFPSA_COLUMN_remote_address, row)[15]
    return view.length, ids, spis, absent, letters, octets

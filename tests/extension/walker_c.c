/* An extension of somebody else's in plain C: it counts, by column, the cells of a batch that hold no value. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "wfpsa/view.h"

static PyObject *
count_absent(PyObject *module, PyObject *capsule)
{
    const struct wfpsa_view *view = PyCapsule_GetPointer(capsule, WFPSA_VIEW_CAPSULE);
    PyObject *counts;
    (void)module;
    if (!view) {
        return NULL;
    }
    if (!wfpsa_view_is_known(view)) {
        PyErr_SetString(PyExc_ImportError, "this extension was built against another wfpsa");
        return NULL;
    }
    counts = PyList_New(0);
    for (int column = 0; counts && column < WFPSA_COLUMN_COUNT; column++) {
        uint64_t absent = 0;
        if (!wfpsa_view_has(view, (enum wfpsa_column)column)) {
            continue;
        }
        for (uint64_t i = 0; i < view->length; i++) {
            absent += (uint64_t)wfpsa_view_is_absent(view, (enum wfpsa_column)column, i);
        }
        PyObject *number = PyLong_FromUnsignedLongLong(absent);
        if (!number || PyList_Append(counts, number) != 0) {
            Py_CLEAR(counts);
        }
        Py_XDECREF(number);
    }
    return counts;
}

static PyMethodDef methods[] = {{"count_absent", count_absent, METH_O, "Absent cells by column, of a view's capsule."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "walker_c", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC
PyInit_walker_c(void)
{
    return PyModule_Create(&definition);
}

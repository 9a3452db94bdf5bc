/* python.exe: the registry's packages carry python311.dll but no program around it. */
#include <Python.h>

int
wmain(int count, wchar_t **arguments)
{
    return Py_Main(count, arguments);
}

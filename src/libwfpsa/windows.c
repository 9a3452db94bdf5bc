/* The engine table over fwpuclnt.dll: the import library's symbols as they are, without a cast, so that a wrong
 * signature in backend.h does not compile. */
#include "wfpsa/backend.h"

#define MEMBER(member, function) .member = function,

const struct wfpsa_backend wfpsa_windows_backend = {.name = "windows", WFPSA_BACKEND_FUNCTIONS(MEMBER)};

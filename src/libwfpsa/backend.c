/* The backends built into this library, in order of preference, and a look into their tables. */
#include "wfpsa/backend.h"

#include <stddef.h>
#include <string.h>

#include "wfpsa/backends.h"

static const struct wfpsa_backend *const backends[] = {
#ifdef _WIN32
    &wfpsa_windows_backend,
#endif
    &wfpsa_embedded_backend,
    &wfpsa_noop_backend,
};

const struct wfpsa_backend *
wfpsa_backend_at(uint32_t index)
{
    return index < sizeof backends / sizeof backends[0] ? backends[index] : NULL;
}

const char *
wfpsa_backend_name(const struct wfpsa_backend *backend)
{
    return backend->name;
}

struct member {
    const char *function;
    size_t place;
};

#define MEMBER(member, function) {#function, offsetof(struct wfpsa_backend, member)},

static const struct member members[] = {WFPSA_BACKEND_FUNCTIONS(MEMBER)};

const char *
wfpsa_backend_function(const struct wfpsa_backend *backend, uint32_t index, uintptr_t *address)
{
    if (index >= sizeof members / sizeof members[0]) {
        return NULL;
    }
    memcpy(address, (const char *)backend + members[index].place, sizeof *address);
    return members[index].function;
}

/* Which engines are built into this library and what their tables hold, for those who would not include the OS's
 * types.
 *
 * Owns: nothing. Threads: any. Blocks: no. Fails: never.
 */
#ifndef WFPSA_BACKENDS_H
#define WFPSA_BACKENDS_H

#include <stdint.h>

struct wfpsa_backend;

/* The index-th, the platform's default first; NULL past the last. */
const struct wfpsa_backend *wfpsa_backend_at(uint32_t index);

/* "windows", "embedded" or "noop". */
const char *wfpsa_backend_name(const struct wfpsa_backend *backend);

/* The OS's name of the index-th member of the table (NULL past the last) and the address behind it, 0 where the
 * backend does not answer it. */
const char *wfpsa_backend_function(const struct wfpsa_backend *backend, uint32_t index, uintptr_t *address);

#endif

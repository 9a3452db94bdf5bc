/* The layout this build has for each structure and field that wfpsa uses, to be compared with the SDK's. */
#ifndef WFPSA_LAYOUT_H
#define WFPSA_LAYOUT_H

#include <stdint.h>

struct wfpsa_layout {
    const char *type;  /* the SDK's name */
    const char *field; /* "" for the structure itself */
    uint32_t offset;
    uint32_t size;
};

/* The index-th row, NULL past the last. Owns: nothing. Threads: any. Blocks: no. Fails: never. */
const struct wfpsa_layout *wfpsa_layout_at(uint32_t index);

#endif

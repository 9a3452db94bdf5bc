/* Frozen batches as Arrow C data: one struct array of the columns, zero-copy where the types allow it.
 *
 * The structures are those of the Arrow C data and C stream interfaces (Apache Arrow, stable ABI).
 */
#ifndef WFPSA_ARROW_H
#define WFPSA_ARROW_H

#include "wfpsa/columns.h"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
    int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
    int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
    const char *(*get_last_error)(struct ArrowArrayStream *);
    void (*release)(struct ArrowArrayStream *);
    void *private_data;
};

#endif

enum wfpsa_arrow_options {
    WFPSA_ARROW_TEXT_ADDRESSES = 1, /* addresses and GUIDs as text instead of 16 bytes or an integer */
    WFPSA_ARROW_NAMED_ENUMS = 2     /* enums as dictionaries of names instead of integers */
};

/* Absent cells are nulls, booleans Arrow bools, names dictionaries; every field's metadata has its source and note,
 * and its unit where it has one. Owns: the caller, until it calls release. Threads: any. Blocks: no. Fails:
 * WFPSA_NO_MEMORY. */
int wfpsa_arrow_schema(const struct wfpsa_columns *columns, unsigned options, struct ArrowSchema *schema);

/* A stream of one chunk, the rows start to start + length. names[column], where not NULL, has the 256 names of an enum
 * column's values, NULL for a value without; they must live for ever. What the stream hands out keeps the batch alive.
 * Owns, Threads, Blocks, Fails: as above. */
int wfpsa_arrow_stream(struct wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                       const char *const *const *names, struct ArrowArrayStream *stream);

/* The same rows as one struct array; its type is what wfpsa_arrow_schema says for the same options.
 * Owns, Threads, Blocks, Fails: as above. */
int wfpsa_arrow_array(struct wfpsa_columns *columns, uint64_t start, uint64_t length, unsigned options,
                      const char *const *const *names, struct ArrowArray *array);

#define WFPSA_ADDRESS_TEXT_MAX 40 /* the NUL included */

/* 16 bytes of an address column as text: IPv4 with dots, IPv6 as RFC 5952 has it. Fails: never. */
void wfpsa_format_address(const uint8_t *address, char *text);

#endif

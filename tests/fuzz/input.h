/* A fuzzer's input read as numbers and choices, and demands that end the program where they do not hold. */
#ifndef WFPSA_TESTS_FUZZ_INPUT_H
#define WFPSA_TESTS_FUZZ_INPUT_H

#include "../c/batch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define REQUIRE(condition) require((condition) != 0, #condition, __FILE__, __LINE__)
#define REQUIRE_EQUAL(left, right)                                                                                    \
    require_equal((uint64_t)(left), (uint64_t)(right), #left " == " #right, __FILE__, __LINE__)

static inline void
require(int holds, const char *what, const char *file, int line)
{
    if (!holds) {
        fprintf(stderr, "%s:%d: %s\n", file, line, what);
        abort();
    }
}

static inline void
require_equal(uint64_t left, uint64_t right, const char *what, const char *file, int line)
{
    if (left != right) {
        fprintf(stderr, "%s:%d: %s: 0x%" PRIX64 " and 0x%" PRIX64 "\n", file, line, what, left, right);
        abort();
    }
}

static inline void
nothing_is_alive(void)
{
    struct wfpsa_live live;
    wfpsa_embedded_live(&live);
    REQUIRE_EQUAL(live.stores, 0);
    REQUIRE_EQUAL(live.engines, 0);
    REQUIRE_EQUAL(live.enum_handles, 0);
    REQUIRE_EQUAL(live.pages, 0);
    REQUIRE_EQUAL(live.allocations, 0);
}

/* ---- reading: past the end there are zeros, which are the plainest choice everywhere ---- */

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t
next8(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static inline uint16_t
next16(struct input *in)
{
    uint16_t high = next8(in);
    return (uint16_t)(high << 8 | next8(in));
}

static inline uint32_t
next32(struct input *in)
{
    uint32_t high = next16(in);
    return high << 16 | next16(in);
}

static inline uint64_t
next64(struct input *in)
{
    uint64_t high = next32(in);
    return high << 32 | next32(in);
}

/* The next bytes, for what is decided only after the rest was read. */
static inline struct input
set_aside(struct input *in, size_t bytes)
{
    struct input aside = {in->at, in->left < bytes ? in->left : bytes};
    in->at += aside.left;
    in->left -= aside.left;
    return aside;
}

/* 0 to count - 1. */
static inline uint32_t
choice(struct input *in, uint32_t count)
{
    return next8(in) % count;
}

/* A value of an enumeration or a count: mostly a small one, else one at a bound of the cell that it goes into. */
static inline uint32_t
odd_number(struct input *in)
{
    static const uint32_t bounds[] = {253, 254, 255, 256, 257, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    uint32_t chosen = next8(in);
    if (chosen < 0xF0) {
        return chosen % 10;
    }
    return chosen < 0xF0 + COUNT(bounds) ? bounds[chosen - 0xF0] : next32(in);
}

/* Bytes that look random, the same for the same seed; pointers among them are wild ones. */
static inline void
fill(void *to, size_t size, uint16_t seed)
{
    uint8_t *at = to;
    uint32_t state = seed * 2u + 1;
    for (size_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        at[i] = (uint8_t)(state >> 24);
    }
}

/* Of the contract of wfpsa_columns_append1 and wfpsa_enumeration_open: family 0, 4 or 6, a prefix of that family. The
 * addresses are near those of the contexts, so that subnets have something inside and something outside. */
static inline struct wfpsa_subnet
fuzzed_subnet(struct input *in)
{
    static const uint8_t families[] = {0, 4, 6, 4};
    struct wfpsa_subnet subnet;
    memset(&subnet, 0, sizeof subnet);
    subnet.family = families[choice(in, COUNT(families))];
    if (subnet.family == 4) {
        uint32_t last = next8(in);
        subnet.prefix_length = (uint8_t)choice(in, 33);
        memset(subnet.address + 10, 0xFF, 2);
        subnet.address[12] = 10;
        subnet.address[15] = (uint8_t)last;
    } else if (subnet.family == 6) {
        subnet.address[0] = 0xFD;
        subnet.address[15] = next8(in);
        subnet.prefix_length = (uint8_t)(uint8_t)choice(in, 129);
    }
    return subnet;
}

#endif

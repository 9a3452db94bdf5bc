/* The names of a batch while it is built: each distinct one once, found by hash. */
#include "names.h"

#include <string.h>

#include "memory.h"

/* Length of a name and its hash, four units a round. */
static uint32_t
measure(const uint16_t *name, uint64_t *hash)
{
    uint64_t h = 0x9E3779B97F4A7C15u, last = 0;
    uint32_t length = 0;
    for (; length + 4 <= NAME_UNITS_MAX; length += 4) {
        uint64_t a, b, c, d;
        if ((a = name[length]) == 0) {
            break;
        }
        if ((b = name[length + 1]) == 0) {
            last = a;
            length += 1;
            break;
        }
        if ((c = name[length + 2]) == 0) {
            last = a | b << 16;
            length += 2;
            break;
        }
        if ((d = name[length + 3]) == 0) {
            last = a | b << 16 | c << 32;
            length += 3;
            break;
        }
        h = (h ^ (a | b << 16 | c << 32 | d << 48)) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    if (length + 4 > NAME_UNITS_MAX) { /* what fits of the last round of a name that is cut */
        while (length < NAME_UNITS_MAX && name[length]) {
            last = last << 16 | name[length++];
        }
    }
    h = (h ^ last) * 0xD6E8FEB86659FD93u;
    *hash = h ^ h >> 32 ^ length;
    return length;
}

/* Room for one more name of `length` units in every array that grows with names; 0 without memory. */
static int
reserve_name(struct names *names, struct wfpsa_strings *strings, uint32_t length)
{
    uint64_t text_end = strings->offsets ? (uint64_t)strings->offsets[strings->count + 1] : 0;
    if (strings->count == names->capacity) {
        uint32_t capacity = names->capacity ? names->capacity * 2 : 64;
        struct name *list = wfpsa_reallocate(names->list, capacity, sizeof *list);
        if (!list) {
            return 0;
        }
        names->list = list;
        int32_t *offsets = wfpsa_reallocate(strings->offsets, (uint64_t)capacity + 2, sizeof *offsets);
        if (!offsets) {
            return 0;
        }
        if (!strings->offsets) {
            offsets[0] = 0;
            offsets[1] = 0;
        }
        strings->offsets = offsets;
        names->capacity = capacity;
    }
    if (!names->units || names->units_capacity - names->units_length < length) {
        uint64_t capacity = names->units_capacity * 2 + length + 1024;
        uint16_t *units = wfpsa_reallocate(names->units, capacity, sizeof *units);
        if (!units) {
            return 0;
        }
        names->units = units;
        names->units_capacity = capacity;
    }
    if (text_end + (uint64_t)length * 3 > INT32_MAX) { /* three bytes of UTF-8 a unit at most */
        return 0;                                      /* 2 GiB of distinct names: no 32-bit offset reaches further */
    }
    if (!strings->text || names->text_capacity - text_end < (uint64_t)length * 3) {
        uint64_t capacity = names->text_capacity * 2 + (uint64_t)length * 3 + 1024;
        char *text = wfpsa_reallocate(strings->text, capacity, 1);
        if (!text) {
            return 0;
        }
        strings->text = text;
        names->text_capacity = capacity;
    }
    if (!names->slots || (strings->count + 1) * (uint64_t)2 > names->slot_mask) {
        uint32_t count = names->slots ? (names->slot_mask + 1) * 2 : 256;
        uint32_t *slots = wfpsa_allocate_zeroed(count, sizeof *slots);
        if (!slots) {
            return 0;
        }
        for (uint32_t code = 1; code <= strings->count; code++) {
            uint32_t at = (uint32_t)names->list[code - 1].hash & (count - 1);
            while (slots[at]) {
                at = (at + 1) & (count - 1);
            }
            slots[at] = code;
        }
        wfpsa_free(names->slots);
        names->slots = slots;
        names->slot_mask = count - 1;
    }
    return 1;
}

/* Well-formed UTF-16 to UTF-8. Returns the bytes written. */
static uint32_t
transcode(char *to, const uint16_t *units, uint32_t length)
{
    unsigned char *at = (unsigned char *)to;
    for (uint32_t i = 0; i < length; i++) {
        uint32_t c = units[i];
        if (c >= 0xD800 && c <= 0xDFFF) {
            c = 0x10000 + ((c - 0xD800) << 10) + (units[++i] - 0xDC00u);
        }
        if (c < 0x80) {
            *at++ = (unsigned char)c;
        } else if (c < 0x800) {
            *at++ = (unsigned char)(0xC0 | c >> 6);
            *at++ = (unsigned char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            *at++ = (unsigned char)(0xE0 | c >> 12);
            *at++ = (unsigned char)(0x80 | (c >> 6 & 0x3F));
            *at++ = (unsigned char)(0x80 | (c & 0x3F));
        } else {
            *at++ = (unsigned char)(0xF0 | c >> 18);
            *at++ = (unsigned char)(0x80 | (c >> 12 & 0x3F));
            *at++ = (unsigned char)(0x80 | (c >> 6 & 0x3F));
            *at++ = (unsigned char)(0x80 | (c & 0x3F));
        }
    }
    return (uint32_t)(at - (unsigned char *)to);
}

/* Whether the surrogate at that place has its other half. */
static int
is_paired(const uint16_t *units, uint32_t length, uint32_t at)
{
    if (units[at] <= 0xDBFF) {
        return at + 1 < length && units[at + 1] >= 0xDC00 && units[at + 1] <= 0xDFFF;
    }
    return at > 0 && units[at - 1] >= 0xD800 && units[at - 1] <= 0xDBFF;
}

static int
is_well_formed(const uint16_t *units, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        if (units[i] >= 0xD800 && units[i] <= 0xDFFF && !is_paired(units, length, i)) {
            return 0;
        }
    }
    return 1;
}

/* Whether a name is the one with that code. */
static int
is_coded(const struct names *names, uint32_t code, const uint16_t *units)
{
    const struct name *known = &names->list[code - 1];
    const uint16_t *expected = names->units + known->start;
    uint32_t i = 0;
    while (i < known->length && units[i] == expected[i]) {
        i++;
    }
    return i == known->length && (i == NAME_UNITS_MAX || units[i] == 0);
}

/* The code of a name with unpaired surrogates: that of the same name with U+FFFD in their place, so that no text
 * occurs twice among the names. */
static int
repaired_code(struct names *names, struct wfpsa_strings *strings, const uint16_t *units, uint32_t length,
              uint32_t *code)
{
    uint16_t *repaired = wfpsa_allocate((uint64_t)length + 1, sizeof *repaired);
    if (!repaired) {
        return 0;
    }
    for (uint32_t i = 0; i < length; i++) {
        int alone = units[i] >= 0xD800 && units[i] <= 0xDFFF && !is_paired(units, length, i);
        repaired[i] = alone ? 0xFFFD : units[i];
    }
    repaired[length] = 0;
    int done = names_code(names, strings, repaired, 0, code);
    wfpsa_free(repaired);
    return done;
}

int
names_code(struct names *names, struct wfpsa_strings *strings, const uint16_t *units, uint32_t likely, uint32_t *code)
{
    uint64_t hash;
    uint32_t length, at, found;
    if (!units) {
        return 1;
    }
    if (likely && is_coded(names, likely, units)) {
        *code = likely;
        return 1;
    }
    length = measure(units, &hash);
    if (names->slots) {
        for (at = (uint32_t)hash & names->slot_mask; (found = names->slots[at]) != 0;
             at = (at + 1) & names->slot_mask) {
            const struct name *known = &names->list[found - 1];
            if (known->hash == hash && known->length == length &&
                memcmp(names->units + known->start, units, (size_t)length * 2) == 0) {
                *code = found;
                return 1;
            }
        }
    }
    if (!is_well_formed(units, length)) {
        return repaired_code(names, strings, units, length, code);
    }
    if (!reserve_name(names, strings, length)) {
        return 0;
    }
    for (at = (uint32_t)hash & names->slot_mask; names->slots[at]; at = (at + 1) & names->slot_mask) {
    }
    memcpy(names->units + names->units_length, units, (size_t)length * 2);
    names->list[strings->count].hash = hash;
    names->list[strings->count].start = names->units_length;
    names->list[strings->count].length = length;
    names->units_length += length;
    strings->count++;
    strings->offsets[strings->count + 1] =
        strings->offsets[strings->count] +
        (int32_t)transcode(strings->text + strings->offsets[strings->count], units, length);
    names->slots[at] = strings->count;
    *code = strings->count;
    return 1;
}

void
names_free(struct names *names)
{
    wfpsa_free(names->list);
    wfpsa_free(names->units);
    wfpsa_free(names->slots);
}

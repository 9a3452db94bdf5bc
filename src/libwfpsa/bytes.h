/* Numbers from bytes in network byte order. */
#ifndef WFPSA_BYTES_H
#define WFPSA_BYTES_H

#include <stdint.h>

static inline uint32_t
big_endian32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline uint64_t
big_endian64(const uint8_t *bytes)
{
    return (uint64_t)big_endian32(bytes) << 32 | big_endian32(bytes + 4);
}

#endif

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

static inline void
put_big_endian64(uint8_t *bytes, uint64_t value)
{
    bytes[0] = (uint8_t)(value >> 56);
    bytes[1] = (uint8_t)(value >> 48);
    bytes[2] = (uint8_t)(value >> 40);
    bytes[3] = (uint8_t)(value >> 32);
    bytes[4] = (uint8_t)(value >> 24);
    bytes[5] = (uint8_t)(value >> 16);
    bytes[6] = (uint8_t)(value >> 8);
    bytes[7] = (uint8_t)value;
}

#endif

#include "common/crc32c.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>

enum { SLICES = 8 };

static uint32_t table[SLICES][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Slicing by eight (Kounavis and Berry, 2005): table[k][b] is the CRC of byte b before k zeros. */
static void fill_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
        table[0][b] = crc;
    }
    for (int k = 1; k < SLICES; k++) {
        for (uint32_t b = 0; b < 256; b++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
    }
}

static uint32_t step_word(uint32_t crc, uint64_t word)
{
    word ^= crc;
    crc = 0;
    for (int k = 0; k < SLICES; k++)
        crc ^= table[SLICES - 1 - k][(word >> (8 * k)) & 255];
    return crc;
}

uint32_t crc32c(uint32_t crc, const void *mem, size_t size)
{
    const uint8_t *at = mem;

    (void)pthread_once(&once, fill_table); /* fails only for a broken control object */
    crc = ~crc;
    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        crc = step_word(crc, le64toh(word));
    }
    for (; size > 0; at++, size--)
        crc = (crc >> 8) ^ table[0][(crc ^ *at) & 255];
    return ~crc;
}

/* CRC-32C (Castagnoli, RFC 3720 §12.1): tells whole bytes from damaged ones in files and transfers.
 * It proves nothing about who wrote them; sealed formats carry a tag besides. Any thread. */
#ifndef SKEP_COMMON_CRC32C_H
#define SKEP_COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over mem. About 2 GB/s. */
uint32_t crc32c(uint32_t crc, const void *mem, size_t size);

#endif

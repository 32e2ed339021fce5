/* The two things that every user of mbedTLS here needs: its random source and its error texts.
 * Only tls*.c and x509*.c include mbedTLS headers. Thread safe. */
#ifndef SKEP_COMMON_MBED_H
#define SKEP_COMMON_MBED_H

#include <stddef.h>

#include "common/err.h"
#include "common/mem.h"

/* The f_rng of mbedTLS, straight from the kernel (common/random.h): no generator state to share
 * between threads or to protect over a fork. ctx is unused. */
int mbed_rng(void *ctx, unsigned char *out, size_t size);

/* err_set() with ": <mbedTLS's text>" appended. */
int mbed_err(struct err *e, enum err_code code, int mbed_rc, const char *format, ...) PRINTF(4, 5);

#endif

#include "common/mbed.h"

#include <mbedtls/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/random.h"

int mbed_rng(void *ctx, unsigned char *out, size_t size)
{
    (void)ctx;
    random_bytes(out, size);
    return 0;
}

int mbed_err(struct err *e, enum err_code code, int mbed_rc, const char *format, ...)
{
    char what[ERR_MESSAGE_BYTES_MAX], why[128] = "";
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args); /* err_set cuts at the same length */
    va_end(args);
    mbedtls_strerror(mbed_rc, why, sizeof(why));
    return err_set(e, code, "%s: %s", what, why);
}

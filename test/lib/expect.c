#include "test/lib/expect.h"

#include <stdarg.h>

void expect_failed(const char *file, int line, const char *condition, const char *format, ...)
{
    va_list args;

    (void)fprintf(stderr, "%s:%d: %s: ", file, line, condition);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    abort();
}

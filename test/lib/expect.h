/* A condition with an explanation for test code outside of the check library. */
#ifndef SKEP_TEST_LIB_EXPECT_H
#define SKEP_TEST_LIB_EXPECT_H

#include "common/mem.h"

#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            expect_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                            \
    } while (0)

void expect_failed(const char *file, int line, const char *condition, const char *format, ...)
    PRINTF(4, 5) __attribute__((noreturn));

#endif

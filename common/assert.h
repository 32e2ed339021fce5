/* Assertions that stay on in every build. An ASSERT states what must be true if this program has no
 * bug; remote input never decides one. A failure prints the expression, its place and the last log
 * lines (common/log.h), then aborts: crash-only, systemd restarts and the WAL makes it safe. */
#ifndef SKEP_COMMON_ASSERT_H
#define SKEP_COMMON_ASSERT_H

#include <assert.h> /* static_assert */

_Noreturn void assert_fail(const char *expression, const char *file, int line);

#define ASSERT(x) ((x) ? (void)0 : assert_fail(#x, __FILE__, __LINE__))

/* For a path that no input can reach. */
#define UNREACHABLE() assert_fail("unreachable", __FILE__, __LINE__)

#endif

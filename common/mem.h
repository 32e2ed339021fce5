/* Memory and handles: allocation that cannot fail, and cleanup attributes.
 * Out of memory aborts (crash-only); every externally sized allocation is capped by its caller
 * first. A cleanup variable is released at the end of its scope; TAKE_FD and TAKE_PTR move it out.
 */
#ifndef SKEP_COMMON_MEM_H
#define SKEP_COMMON_MEM_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF(format_index, args_index) __attribute__((format(printf, format_index, args_index)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *mem, size_t size);
/* Grows an array; aborts when count * size overflows. */
void *xrealloc_array(void *mem, size_t count, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t size);
char *xasprintf(const char *format, ...) PRINTF(1, 2);
void *xmemdup(const void *mem, size_t size);
/* Overwrites secrets so that the compiler keeps the writes, then frees. NULL is allowed. */
void xfree_secret(void *mem, size_t size);

void mem_cleanup_free(void *pointer_to_pointer);
void mem_cleanup_close(const int *fd);
void mem_cleanup_file(FILE **file);

#define CLEANUP_FREE __attribute__((cleanup(mem_cleanup_free)))
#define CLEANUP_CLOSE __attribute__((cleanup(mem_cleanup_close)))
#define CLEANUP_FILE __attribute__((cleanup(mem_cleanup_file)))

/* Moves ownership out of a cleanup variable. */
int mem_take_fd(int *fd);
#define TAKE_FD(fd) mem_take_fd(&(fd))
#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) taken_ = (p);                                                                \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

#endif

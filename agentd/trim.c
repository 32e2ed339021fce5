/* Most of the agent's resident set after start is not its own: libcurl brings some forty libraries
 * whose symbol tables the dynamic linker reads once. Read-only file mappings can be dropped without
 * risk; what is still needed comes back from the page cache, a few pages at a time. */
#include "agentd/trim.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "common/mem.h"

struct mapping {
    uintptr_t from, to;
    bool plain_file; /* of a file, private, not writable */
};

/* The first line of a mapping's record in smaps; *ret is written on success only. */
static bool parse_mapping(const char *line, struct mapping *ret)
{
    uintptr_t from, to;
    char mode[5];
    unsigned long inode;

    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*s %*s %lu", &from, &to, mode, &inode) != 4)
        return false;
    *ret = (struct mapping){
        .from = from,
        .to = to,
        .plain_file = inode != 0 && mode[0] == 'r' && mode[1] == '-' && mode[3] == 'p',
    };
    return true;
}

void trim_memory(void)
{
    CLEANUP_FILE FILE *f = fopen("/proc/self/smaps", "re");
    struct mapping m = { .plain_file = false };
    unsigned long anonymous_kb;
    char line[512];

    (void)malloc_trim(0); /* says only whether there was something */
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (parse_mapping(line, &m) || !m.plain_file ||
            sscanf(line, "Anonymous: %lu kB", &anonymous_kb) != 1)
            continue;
        /* Pages of our own (relocated data made read-only again) are not in the file. */
        if (anonymous_kb == 0)
            (void)madvise((void *)m.from, m.to - m.from, MADV_DONTNEED); /* a hint */
    }
}

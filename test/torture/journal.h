/* The undo journal between lostwrite.c, which writes it, and crash.c, which applies it: a record
 * before each change that is not durable yet, one after each sync. Appended in order; a cut last
 * record belongs to a change that did not happen. */
#ifndef SKEP_TEST_TORTURE_JOURNAL_H
#define SKEP_TEST_TORTURE_JOURNAL_H

#include <stdint.h>

enum { JOURNAL_PATH_BYTES = 256, JOURNAL_SECTOR = 512 };

enum journal_type {
    JOURNAL_WRITE = 1, /* file, offset, size written, size of the file before; data: old bytes */
    JOURNAL_RESIZE,    /* file, size after (offset), before; data: bytes that were cut off */
    JOURNAL_SYNC,      /* file: everything before is durable */
    JOURNAL_CREATE,    /* path */
    JOURNAL_MKDIR,     /* path */
    JOURNAL_RENAME,    /* path to other; saved: a link to what was there */
    JOURNAL_UNLINK,    /* path; saved: a link to it */
    JOURNAL_SYNC_DIR,  /* path of the directory: the names in it are durable */
};

struct journal_record {
    uint32_t type;
    uint32_t data_size; /* bytes behind the record; old bytes beyond it were zeros */
    uint64_t file;      /* inode number; of a rename, of what is renamed */
    uint64_t offset;
    uint64_t size;
    uint64_t size_before;
    char path[JOURNAL_PATH_BYTES];
    char other[JOURNAL_PATH_BYTES];
    char saved[JOURNAL_PATH_BYTES]; /* "": nothing was there */
};

#endif

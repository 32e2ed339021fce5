/* The file `member`: who this state directory belongs to and which cluster generation it is of.
 * Written last when a directory is made, so its presence means that the rest is complete. It also
 * remembers where it lies (inode numbers): a copy or a restored backup lies elsewhere, and tells us
 * that the log may have gone back (fencing, managerd/raft/raft.h). Sealed under the data key.
 * Threads: as managerd/io/disk.h. */
#ifndef SKEP_MANAGERD_IO_MEMBER_H
#define SKEP_MANAGERD_IO_MEMBER_H

#include "managerd/io/snapfile.h"

struct member {
    uint64_t raft_id;
    uint64_t generation; /* 0: joining, not yet known */
};

/* *ret_moved: the file was written in another place than it lies now. -ERR_NOT_FOUND,
 * -ERR_CORRUPT. */
int member_load(const struct snap_store *s, struct member *ret_member, bool *ret_moved,
                struct err *e) MUST_CHECK;
/* Durable on return, and of this place. */
int member_store(const struct snap_store *s, const struct member *m, struct err *e) MUST_CHECK;
/* True when the directory has such a file; opens nothing else. */
bool member_exists(const char *directory);

#endif

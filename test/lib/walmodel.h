/* What a WAL must hold, for tests: every record ever handed to it is a step from one abstract state
 * to the next, and what an open replays must be exactly the state after some step that is not older
 * than the last one promised by wal_sync(). Entries carry bytes derived from (index, term), so the
 * state is the terms alone. */
#ifndef SKEP_TEST_LIB_WALMODEL_H
#define SKEP_TEST_LIB_WALMODEL_H

#include "common/prng.h"
#include "managerd/io/wal.h"
#include "test/lib/crashdisk.h"

enum { WAL_MODEL_ENTRIES_MAX = 4096, WAL_MODEL_DATA_BYTES_MAX = 400 };

struct wal_model_state {
    struct wal_checkpoint sum;
    uint64_t terms[WAL_MODEL_ENTRIES_MAX + 1]; /* by index */
};

struct wal_model {
    char *dir;
    struct crash_disk *crash; /* NULL: real files only */
    struct disk *disk;
    struct keyring *keyring;
    struct wal *wal;
    const char *node_id;
    uint32_t segment_bytes;

    struct wal_model_state now; /* after every step handed over */
    uint64_t *steps;            /* hashes of the states after each step */
    size_t step_count;
    size_t promised; /* steps[promised] is the least that must survive */
    struct wal_model_state replayed;
};

void wal_model_init(struct wal_model *m, uint32_t segment_bytes, bool crash_disk);
void wal_model_deinit(struct wal_model *m);

/* Opens directory, keyring (made when missing) and log; fills in m->replayed. Returns wal_open()'s
 * result, with everything closed again when it failed. */
int wal_model_open(struct wal_model *m, struct err *e);
void wal_model_close(struct wal_model *m);
/* NULL, or how what was replayed differs from what was promised. On success the model goes on from
 * what was replayed. */
const char *wal_model_check(struct wal_model *m);

/* Hands one batch over and records its steps: count entries from index, at the term given (which
 * becomes the hard state's when it is higher). Returns wal_append()'s result. */
int wal_model_append(struct wal_model *m, uint64_t index, size_t count, uint64_t term);
int wal_model_vote(struct wal_model *m, uint64_t term, uint64_t vote);
int wal_model_snapshot(struct wal_model *m, uint64_t index);
int wal_model_reset(struct wal_model *m, uint64_t index, uint64_t term);
int wal_model_sync(struct wal_model *m);
/* One drawn operation, sync included; 0 or the first error. */
int wal_model_random(struct wal_model *m, struct prng *p);

/* Path of the newest segment or, with back > 0, an older one; free it. */
char *wal_model_segment_path(const struct wal_model *m, unsigned back);

#endif

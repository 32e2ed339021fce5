#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/io/bytes.h"
#include "managerd/io/wal_format.h"
#include "managerd/raft/mutant.h"

/* Verification of one segment: see wal_format.h for the rules. The search behind a bad record looks
 * at every aligned offset; sealed data is random, so a false hit costs 2^-32 and a candidate with a
 * plausible length is rare. The budget bounds what made-up input can cost. */
enum { SEARCH_BUDGET_FACTOR = 64 };

struct scan {
    const struct wal_scan_options *o;
    struct wal_cipher cipher;
    struct wal_scan_result result;
};

static int corrupt(const struct scan *s, const char *what, struct err *e)
{
    return err_set(e, ERR_CORRUPT, "%s at offset %" PRIu64 ": %s; remedy: %s", s->o->name,
                   s->result.end, what, WAL_REMEDY);
}

static bool all_zero(const uint8_t *mem, size_t size)
{
    return size == 0 || (mem[0] == 0 && memcmp(mem, mem + 1, size - 1) == 0);
}

enum tail { TAIL_TORN, TAIL_DAMAGED };

/* Judges a bad record at s->result.end by what follows it. */
static enum tail judge_tail(const struct scan *s)
{
    size_t bad = (size_t)s->result.end, budget = (s->o->size + 4096) * SEARCH_BUDGET_FACTOR;

    for (size_t at = bad + WAL_RECORD_ALIGN; at < s->o->size; at += WAL_RECORD_ALIGN) {
        struct wal_record r;
        size_t left = s->o->size - at;

        if (left < WAL_RECORD_HEADER_BYTES)
            break;
        size_t cost = wal_record_bytes(get_u32(s->o->mem + at + 4));
        if (cost > left || get_u32(s->o->mem + at + 8) == 0)
            continue;
        if (cost > budget)
            return TAIL_DAMAGED; /* refusing is the safe side */
        budget -= cost;
        if (wal_record_intact(s->o->mem + at, left, &r) && r.durable > bad && r.durable <= at &&
            !RAFT_MUTANT(RAFT_MUTANT_DAMAGE_TORN))
            return TAIL_DAMAGED;
    }
    return TAIL_TORN;
}

/* There is no good record at s->result.end. */
static int scan_end(struct scan *s, struct err *e)
{
    size_t end = (size_t)s->result.end;

    if (s->o->closed)
        return corrupt(s, "damaged record in a finished segment", e);
    if (s->result.record_count == 0)
        return corrupt(s, "damaged first record", e); /* it was synced before the file had a name */
    if (all_zero(s->o->mem + end, s->o->size - end))
        return 0;
    if (judge_tail(s) == TAIL_DAMAGED || RAFT_MUTANT(RAFT_MUTANT_TORN_FATAL))
        return corrupt(s, "damaged record that had been synced", e);
    s->result.torn_bytes = s->o->size - end;
    return 0;
}

static int scan_record(struct scan *s, struct wal_record *r, struct err *e)
{
    size_t at = (size_t)s->result.end;

    if (r->type < WAL_CHECKPOINT || r->type > WAL_MARK)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s at offset %zu: record type %u was written by a newer version",
                       s->o->name, at, (unsigned)r->type);
    if (wal_record_open(&s->cipher, at, s->o->mem + at, r) < 0)
        return corrupt(s, "record of another place, node or time", e);
    if ((r->type == WAL_CHECKPOINT) != (s->result.record_count == 0) || r->durable > at)
        return corrupt(s, "record out of place", e);
    int rc = s->o->fn(s->o->ctx, r, e);
    if (rc < 0)
        return err_wrap(e, rc, "%s at offset %zu", s->o->name, at);
    s->result.record_count++;
    s->result.end += wal_record_bytes(r->size);
    return 0;
}

static int scan_all(struct scan *s, struct err *e)
{
    struct wal_record r;
    int rc = 0;

    while (rc == 0) {
        size_t at = (size_t)s->result.end;

        if (s->o->closed && at == s->o->end)
            return memcmp(s->cipher.tag, s->o->end_tag, SEAL_TAG_BYTES) == 0
                       ? 0
                       : corrupt(s, "the next segment continues another one", e);
        if (!wal_record_intact(s->o->mem + at, s->o->size - at, &r))
            return scan_end(s, e);
        rc = scan_record(s, &r, e);
    }
    return rc;
}

int wal_scan(const struct wal_scan_options *o, struct wal_scan_result *ret_result, struct err *e)
{
    struct scan s = { .o = o };

    ASSERT(o->size >= WAL_HEADER_BYTES);
    wal_cipher_init(&s.cipher, o->header, o->mem, o->key);
    s.result.end = WAL_HEADER_BYTES;
    int rc = scan_all(&s, e);
    memcpy(s.result.tag, s.cipher.tag, SEAL_TAG_BYTES);
    wal_cipher_deinit(&s.cipher);
    if (rc == 0)
        *ret_result = s.result;
    return rc;
}

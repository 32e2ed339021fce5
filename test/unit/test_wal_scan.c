#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/crc32c.h"
#include "managerd/io/bytes.h"
#include "test/lib/tmpdir.h"
#include "test/lib/walmodel.h"

/* What opening makes of damage: reliability rules F5 (a torn tail is repaired at every offset), F6
 * (any other damage is detected and never taken for a torn tail), N43 and N44 (records that are
 * good, but not here). */

enum { SEGMENT = 8192, FIRST_RECORD = 256 + 40 + 64 + 16 };

struct log_file {
    struct wal_model m;
    char *path;
    uint8_t *bytes; /* of the newest segment, as left by the process */
    size_t size;
    size_t records[512]; /* offsets, and one behind the last */
    size_t record_count;
};

static struct log_file *load(struct log_file *l)
{
    CLEANUP_BUF struct buf b = BUF_INIT(1 << 20);
    struct wal_record r;
    size_t at = WAL_HEADER_BYTES;

    l->path = wal_model_segment_path(&l->m, 0);
    ASSERT(buf_read_file(&b, l->path, NULL) == 0);
    l->bytes = xmemdup(b.data, b.size);
    l->size = b.size;
    for (; wal_record_intact(l->bytes + at, l->size - at, &r); at += wal_record_bytes(r.size))
        l->records[l->record_count++] = at;
    l->records[l->record_count] = at;
    return l;
}

/* Five synced batches of two entries and, when torn, one that was never synced. */
static struct log_file *make(bool unsynced_batch)
{
    static struct log_file l;

    memset(&l, 0, sizeof(l));
    wal_model_init(&l.m, SEGMENT, false);
    ASSERT(wal_model_open(&l.m, NULL) == 0);
    for (uint64_t i = 0; i < 5; i++) {
        ASSERT(wal_model_append(&l.m, 1 + 2 * i, 2, 1) == 0);
        ASSERT(wal_model_sync(&l.m) == 0);
    }
    if (unsynced_batch)
        ASSERT(wal_model_append(&l.m, 11, 6, 1) == 0);
    wal_model_close(&l.m);
    return load(&l);
}

static void destroy(struct log_file *l)
{
    free(l->bytes);
    free(l->path);
    wal_model_deinit(&l->m);
}

static void store(const struct log_file *l, const uint8_t *bytes, size_t size)
{
    int fd = open(l->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ASSERT(fd >= 0);
    ASSERT(write(fd, bytes, size) == (ssize_t)size);
    ASSERT(close(fd) == 0);
}

/* Opens the directory as it is now; removes the segment that an open begins. */
static int try_open(struct log_file *l, struct err *e)
{
    *e = (struct err){ 0 };
    int rc = wal_model_open(&l->m, e);

    if (rc == 0) {
        CLEANUP_FREE char *newest = wal_model_segment_path(&l->m, 0);

        ASSERT(unlink(newest) == 0);
    }
    wal_model_close(&l->m);
    return rc;
}

/* Damage must be refused with file, offset and remedy. */
static void expect_refusal(struct log_file *l, const uint8_t *bytes, size_t size, const char *what,
                           size_t at)
{
    struct err e;

    store(l, bytes, size);
    int rc = try_open(l, &e);
    ck_assert_msg(rc == -ERR_CORRUPT || rc == -ERR_UNSUPPORTED, "%s at %zu: rc %d, %s", what, at,
                  rc, e.message);
    ck_assert_msg(strstr(e.message, "/wal-0") != NULL, "%s: %s", what, e.message);
    if (rc == -ERR_CORRUPT) {
        ck_assert_msg(strstr(e.message, "offset") != NULL, "%s: %s", what, e.message);
        ck_assert_msg(strstr(e.message, "remedy") != NULL, "%s: %s", what, e.message);
    }
}

/* The number of entries whose records lie before offset. */
static uint64_t entries_before(const struct log_file *l, size_t offset)
{
    uint64_t count = 0;
    struct wal_record r;

    for (size_t i = 0; i < l->record_count && l->records[i + 1] <= offset; i++) {
        if (wal_record_intact(l->bytes + l->records[i], l->size - l->records[i], &r))
            count += r.type == WAL_ENTRY;
    }
    return count;
}

static size_t first_difference(const struct log_file *l, const uint8_t *bytes)
{
    size_t at = 0;

    while (at < l->size && bytes[at] == l->bytes[at])
        at++;
    return at;
}

/* F5: the file ends, or turns into zeros, at any byte behind the first record. */
START_TEST(torn_tail_at_every_offset)
{
    struct log_file *l = make(true);
    size_t end = l->records[l->record_count];
    struct err e;

    for (size_t cut = FIRST_RECORD; cut <= end; cut++) {
        CLEANUP_FREE uint8_t *bytes = xmemdup(l->bytes, l->size);

        if (_i == 1)
            memset(bytes + cut, 0, l->size - cut);
        if (_i == 2)
            memset(bytes + cut, 0xa5, MIN(end - cut, (size_t)512)); /* garbage, then zeros */
        if (_i == 2)
            memset(bytes + MIN(cut + 512, end), 0, l->size - MIN(cut + 512, end));
        store(l, bytes, _i == 0 ? cut : l->size);
        size_t changed = _i == 0 ? cut : first_difference(l, bytes);
        int rc = try_open(l, &e);
        ck_assert_msg(rc == 0, "cut at %zu: %s", cut, e.message);
        ck_assert_msg(l->m.replayed.sum.last_index == entries_before(l, changed), "cut at %zu",
                      cut);
    }
    destroy(l);
}
END_TEST

/* F5: any one sector of a batch that was never synced is missing; what is behind it does not count.
 */
START_TEST(missing_sector_of_an_unsynced_batch)
{
    struct log_file *l = make(true);
    size_t end = l->records[l->record_count], synced = 0;
    struct err e;

    for (size_t i = 0; i < l->record_count; i++) {
        struct wal_record r;

        if (wal_record_intact(l->bytes + l->records[i], l->size - l->records[i], &r) &&
            r.type == WAL_MARK)
            synced = l->records[i + 1];
    }
    for (size_t at = synced; at < end; at += 64) {
        CLEANUP_FREE uint8_t *bytes = xmemdup(l->bytes, l->size);

        memset(bytes + at, 0, MIN(end - at, (size_t)100));
        store(l, bytes, l->size);
        size_t changed = first_difference(l, bytes);
        int rc = try_open(l, &e);
        ck_assert_msg(rc == 0, "sector at %zu: %s", at, e.message);
        ck_assert_msg(l->m.replayed.sum.last_index >= 10, "sector at %zu", at);
        ck_assert_msg(l->m.replayed.sum.last_index == entries_before(l, changed), "sector at %zu",
                      at);
    }
    destroy(l);
}
END_TEST

/* F6: one flipped bit anywhere in what had been synced is found, and is no torn tail. */
START_TEST(every_flipped_bit_is_found)
{
    struct log_file *l = make(false);
    size_t end = l->records[l->record_count - 1]; /* the last record is the last mark */

    for (size_t at = 0; at < end; at++) {
        l->bytes[at] ^= (uint8_t)(1u << ((at + (size_t)_i) % 8));
        expect_refusal(l, l->bytes, l->size, "flip", at);
        l->bytes[at] ^= (uint8_t)(1u << ((at + (size_t)_i) % 8));
    }
    destroy(l);
}
END_TEST

/* The same in a finished segment, where the tail counts as well. */
START_TEST(every_flipped_bit_of_a_finished_segment_is_found)
{
    struct log_file *l = make(true);
    struct err e;

    ck_assert_int_eq(wal_model_open(&l->m, &e), 0);
    ck_assert_int_eq(wal_model_append(&l->m, 17, 1, 1), 0);
    ck_assert_int_eq(wal_model_sync(&l->m), 0);
    wal_model_close(&l->m);
    for (size_t at = 0; at < l->records[l->record_count]; at++) {
        l->bytes[at] ^= (uint8_t)(1u << (at % 8));
        expect_refusal(l, l->bytes, l->size, "flip", at);
        l->bytes[at] ^= (uint8_t)(1u << (at % 8));
    }
    for (size_t size = 0; size < l->records[l->record_count]; size += 7)
        expect_refusal(l, l->bytes, size, "cut", size);
    destroy(l);
}
END_TEST

/* Exchanges two records of equal size, wherever they are. */
START_TEST(swapped_records_are_refused)
{
    struct log_file *l = make(true);
    int swaps = 0;

    for (size_t i = 1; i < l->record_count; i++) {
        for (size_t j = i + 1; j < l->record_count; j++) {
            size_t size = l->records[i + 1] - l->records[i];
            CLEANUP_FREE uint8_t *bytes = xmemdup(l->bytes, l->size);

            if (l->records[j + 1] - l->records[j] != size)
                continue;
            memcpy(bytes + l->records[i], l->bytes + l->records[j], size);
            memcpy(bytes + l->records[j], l->bytes + l->records[i], size);
            expect_refusal(l, bytes, l->size, "swap", l->records[i]);
            swaps++;
        }
    }
    ck_assert_int_gt(swaps, 5);
    destroy(l);
}
END_TEST

/* N43: a record's clear fields are changed and its CRC made right again. */
START_TEST(forged_records_are_refused)
{
    struct log_file *l = make(true);

    for (size_t i = 0; i < l->record_count; i++) {
        size_t at = l->records[i], size = l->records[i + 1] - at;

        for (size_t field = 4; field < WAL_RECORD_HEADER_BYTES + 20 && field < size; field++) {
            CLEANUP_FREE uint8_t *bytes = xmemdup(l->bytes, l->size);

            if (field >= 4 && field < 8)
                continue; /* the size: another CRC range */
            bytes[at + field] ^= 1;
            put_u32(bytes + at, crc32c(0, bytes + at + 4, size - 4));
            expect_refusal(l, bytes, l->size, "forgery", at + field);
        }
    }
    destroy(l);
}
END_TEST

/* A record is left out and the rest moved up. */
START_TEST(a_left_out_record_is_refused)
{
    struct log_file *l = make(false);

    for (size_t i = 1; i + 1 < l->record_count; i++) {
        CLEANUP_FREE uint8_t *bytes = xcalloc(1, l->size);
        size_t at = l->records[i], next = l->records[i + 1];

        memcpy(bytes, l->bytes, at);
        memcpy(bytes + at, l->bytes + next, l->size - next);
        expect_refusal(l, bytes, l->size, "left out", at);
    }
    destroy(l);
}
END_TEST

/* N44: the log of another node is named as such; with the names forged it does not open. */
START_TEST(foreign_segments_are_refused)
{
    struct log_file *l = make(false);
    struct wal_header h;
    struct err e;

    l->m.node_id = "othernode0000000000000000";
    ck_assert_int_eq(try_open(l, &e), -ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(e.message, "another node"));

    ck_assert_int_eq(wal_header_decode(l->bytes, &h), 0);
    memset(h.node_id, 0, sizeof(h.node_id));
    memcpy(h.node_id, l->m.node_id, strlen(l->m.node_id));
    wal_header_encode(&h, l->bytes);
    expect_refusal(l, l->bytes, l->size, "forged node id", 0);

    memset(h.cluster_id, 0, sizeof(h.cluster_id));
    wal_header_encode(&h, l->bytes);
    expect_refusal(l, l->bytes, l->size, "another cluster", 0);
    destroy(l);
}
END_TEST

/* A segment of a newer version is not called damage. */
START_TEST(newer_versions_are_named)
{
    struct log_file *l = make(false);
    struct err e;

    put_u32(l->bytes + 8, 99);
    put_u32(l->bytes + WAL_HEADER_BYTES - 4, crc32c(0, l->bytes, WAL_HEADER_BYTES - 4));
    store(l, l->bytes, l->size);
    ck_assert_int_eq(try_open(l, &e), -ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(e.message, "newer version"));
    destroy(l);
}
END_TEST

static const struct lost_case {
    const char *why;
    unsigned back;     /* which segment is missing, from the newest */
    uint64_t snapshot; /* 0: none */
    int want;
} lost_cases[] = {
    { "one in the middle, no snapshot", 2, 0, -ERR_CORRUPT },
    { "the oldest, no snapshot", 3, 0, -ERR_CORRUPT },
    { "the oldest, its entries in a snapshot", 3, 100, 0 },
    { "one in the middle, all before in a snapshot", 2, 100, 0 },
};

/* A missing segment matters if and only if entries behind the snapshot were in it. */
START_TEST(missing_segments)
{
    const struct lost_case *c = &lost_cases[_i];
    static struct wal_model m;
    struct wal_stats stats;
    struct err e = { 0 };
    uint64_t index = 1;

    wal_model_init(&m, SEGMENT, false);
    ck_assert_int_eq(wal_model_open(&m, NULL), 0);
    do {
        ck_assert_int_eq(wal_model_append(&m, index, 4, 1), 0);
        ck_assert_int_eq(wal_model_sync(&m), 0);
        index += 4;
        if (index > 100 && c->snapshot != 0 && index < 105)
            ck_assert_int_eq(wal_model_snapshot(&m, c->snapshot), 0);
        wal_stats(m.wal, &stats);
    } while (stats.segment_count < 4 || index < 110);
    for (unsigned i = 4; i < stats.segment_count; i++)
        ck_assert_int_eq(wal_roll(m.wal, NULL), 0);
    unsigned back = c->back == 3 ? stats.segment_count - 1 : stats.segment_count - 2;
    CLEANUP_FREE char *path = wal_model_segment_path(&m, back);
    wal_model_close(&m);
    ck_assert_int_eq(unlink(path), 0);
    int rc = wal_model_open(&m, &e);
    ck_assert_msg(rc == c->want, "%s: %d %s", c->why, rc, e.message);
    if (rc == 0)
        ck_assert_ptr_null(wal_model_check(&m));
    wal_model_deinit(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wal_scan");
    TCase *tc = tcase_create("wal_scan");
    SRunner *r;

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, torn_tail_at_every_offset, 0, 3);
    tcase_add_test(tc, missing_sector_of_an_unsynced_batch);
    tcase_add_loop_test(tc, every_flipped_bit_is_found, 0, 2);
    tcase_add_test(tc, every_flipped_bit_of_a_finished_segment_is_found);
    tcase_add_test(tc, swapped_records_are_refused);
    tcase_add_test(tc, forged_records_are_refused);
    tcase_add_test(tc, a_left_out_record_is_refused);
    tcase_add_test(tc, foreign_segments_are_refused);
    tcase_add_test(tc, newer_versions_are_named);
    tcase_add_loop_test(tc, missing_segments, 0, ARRAY_LEN(lost_cases));
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}

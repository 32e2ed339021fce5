#include <check.h>
#include <string.h>

#include "common/assert.h"
#include "common/buf.h"
#include "managerd/io/snapfile.h"
#include "managerd/raft/codec.h"
#include "proto/raft.pb-c.h"
#include "test/lib/raftcluster.h"
#include "test/lib/tmpdir.h"

/* Snapshots as they arrive (N57 to N59, F34): sizes, offsets, digests, terms and senders are
 * checked before anything is believed; what is whole is installed. The sender is made up here. */

enum { LEADER = 50, PIECE = 1000, BODY = 2504 };

static struct cluster c;

static const char *leader_node_id(void)
{
    static char id[ID_CHARS + 1];

    memset(id, 'l', ID_CHARS);
    return id;
}

struct answer {
    bool done;
    int rc;
    bool refused;
    uint64_t next_offset;
};

static void on_answer(void *ctx, int rc, const uint8_t *reply, size_t size, const struct err *e)
{
    struct answer *a = ctx;
    Skep__RaftSnapshotChunkReply *r;

    (void)e;
    ck_assert(!a->done); /* exactly once */
    a->done = true;
    a->rc = rc;
    if (rc < 0)
        return;
    r = skep__raft_snapshot_chunk_reply__unpack(NULL, size, reply);
    ck_assert_ptr_nonnull(r);
    a->refused = r->refused;
    a->next_offset = r->next_offset;
    skep__raft_snapshot_chunk_reply__free_unpacked(r, NULL);
}

static bool is_answered(struct cluster *unused, void *a)
{
    (void)unused;
    return ((struct answer *)a)->done;
}

static uint8_t body[BODY];

static Skep__RaftSnapshotMeta *meta_new(uint64_t index, uint64_t term)
{
    struct raft_snapshot_meta m = { .index = index, .term = term };
    CLEANUP_BUF struct buf b = BUF_INIT(SNAP_META_BYTES_MAX);

    m.config.member_count = 2;
    m.config.members[0] = (struct raft_member){ .raft_id = LEADER, .incarnation = 1 };
    m.config.members[0].node_id = id_from_str(leader_node_id());
    memcpy(m.config.members[0].address, "leader:1", 9);
    m.config.members[1] = (struct raft_member){
        .raft_id = c.nodes[0].raft_id,
        .incarnation = raft_node_incarnation(c.nodes[0].node),
        .node_id = c.nodes[0].node_id,
        .role = RAFT_LEARNER,
    };
    memcpy(m.config.members[1].address, "host0:1", 8);
    ck_assert_int_eq(raft_snapshot_meta_pack(&m, &b), 0);
    return skep__raft_snapshot_meta__unpack(NULL, b.size, b.data);
}

struct shape { /* what differs from a good chunk */
    uint64_t transfer_id, term, generation, to, total, offset;
    size_t size;
    bool wrong_digest, no_digest, no_meta;
    const char *node_id;
};

static struct shape good(uint64_t offset)
{
    return (struct shape){ .transfer_id = 7,
                           .term = 3,
                           .generation = 4,
                           .to = c.nodes[0].raft_id,
                           .total = BODY,
                           .offset = offset,
                           .size = MIN((uint64_t)PIECE, BODY - offset),
                           .node_id = leader_node_id() };
}

static struct answer give(const struct shape *s)
{
    Skep__RaftSnapshotChunk m = SKEP__RAFT_SNAPSHOT_CHUNK__INIT;
    Skep__RaftSnapshotMeta *meta = meta_new(40, 2);
    uint8_t sha256[SEAL_DIGEST_BYTES];
    struct answer a = { 0 };

    for (size_t i = 0; i < BODY; i++)
        body[i] = (uint8_t)(i % 251);
    seal_digest_of(body, BODY, sha256);
    sha256[5] ^= s->wrong_digest;
    m.from = LEADER;
    m.to = s->to;
    m.term = s->term;
    m.generation = s->generation;
    m.incarnation = 1;
    m.transfer_id = s->transfer_id;
    m.meta = s->no_meta ? NULL : meta;
    m.size = s->total;
    m.offset = s->offset;
    m.data = (ProtobufCBinaryData){ s->size, body + MIN(s->offset, (uint64_t)BODY - s->size) };
    if (!s->no_digest)
        m.sha256 = (ProtobufCBinaryData){ sizeof(sha256), sha256 };
    size_t size = skep__raft_snapshot_chunk__get_packed_size(&m);
    CLEANUP_FREE uint8_t *packed = xmalloc(size);
    (void)skep__raft_snapshot_chunk__pack(&m, packed);
    skep__raft_snapshot_meta__free_unpacked(meta, NULL);
    raft_node_receive_chunk(c.nodes[0].node, s->node_id, packed, size, on_answer, &a);
    ck_assert(!a.done); /* never inside the call */
    ck_assert(cluster_run(&c, is_answered, &a, 5000));
    return a;
}

static void setup(void)
{
    cluster_init(&c, 1, tmpdir_new_in_memory());
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_JOIN, NULL), 0);
}

static bool is_installed(struct cluster *cl, void *unused)
{
    (void)unused;
    return cl->nodes[0].snapshots_installed == 1;
}

/* The whole way, with a chunk that comes twice, one too early, and a last one that is repeated. */
START_TEST(a_snapshot_arrives)
{
    static const uint64_t offsets[] = { 0, 0, 1000, 1000, 2000, 2000 };
    static const uint64_t next[] = { 1000, 1000, 2000, 2000, BODY, BODY };
    struct raft_status s;

    setup();
    struct shape early = good(1000);
    ck_assert_uint_eq(give(&early).next_offset, 0);
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        struct shape shape = good(offsets[i]);
        struct answer a = give(&shape);

        ck_assert_int_eq(a.rc, 0);
        ck_assert(!a.refused);
        ck_assert_uint_eq(a.next_offset, next[i]);
    }
    ck_assert(cluster_run(&c, is_installed, NULL, 5000));
    ck_assert_uint_eq(c.nodes[0].value_count, BODY / 8);
    ck_assert_uint_eq(raft_node_generation(c.nodes[0].node), 4);
    raft_node_status(c.nodes[0].node, &s);
    ck_assert_uint_eq(s.snapshot_index, 40);
    ck_assert_uint_eq(s.term, 3);
    cluster_stop(&c, 0); /* and it is durable */
    ck_assert_int_eq(cluster_start(&c, 0, RAFT_NODE_EXISTING, NULL), 0);
    ck_assert_uint_eq(c.nodes[0].value_count, BODY / 8);
    raft_node_status(c.nodes[0].node, &s);
    ck_assert_uint_eq(s.term, 3);
    ck_assert_uint_eq(raft_node_generation(c.nodes[0].node), 4);
    cluster_deinit(&c);
}
END_TEST

static const struct bad_case {
    const char *why;
    size_t field; /* offset in struct shape */
    uint64_t value;
} bad_cases[] = {
    { "N59: 2^40 bytes declared", offsetof(struct shape, total), UINT64_C(1) << 40 },
    { "offset beyond the size", offsetof(struct shape, offset), BODY + 1 },
    { "offset that wraps", offsetof(struct shape, offset), UINT64_MAX - 10 },
    { "more data than declared", offsetof(struct shape, total), 10 },
    { "for another member", offsetof(struct shape, to), 4711 },
    { "no generation", offsetof(struct shape, generation), 0 },
    { "the snapshot's term is above the sender's", offsetof(struct shape, term), 1 },
};

START_TEST(bad_chunks_are_refused)
{
    const struct bad_case *t = &bad_cases[_i];
    struct shape s;

    setup();
    s = good(0);
    memcpy((uint8_t *)&s + t->field, &t->value, sizeof(t->value));
    struct answer a = give(&s);
    ck_assert_msg(a.rc == 0 && a.refused, "%s: %d", t->why, a.rc);
    s = good(0); /* nothing is left of it */
    a = give(&s);
    ck_assert_msg(a.rc == 0 && !a.refused && a.next_offset == PIECE, "%s", t->why);
    cluster_deinit(&c);
}
END_TEST

/* N57: the transfer ends, and may begin again. */
START_TEST(a_wrong_digest_ends_the_transfer)
{
    setup();
    for (int wrong = 1; wrong >= 0; wrong--) {
        for (uint64_t offset = 0; offset < BODY; offset += PIECE) {
            struct shape s = good(offset);

            s.wrong_digest = wrong == 1;
            s.transfer_id = 100 + (uint64_t)wrong;
            struct answer a = give(&s);
            ck_assert_int_eq(a.rc, 0);
            ck_assert_int_eq(a.refused, wrong == 1 && offset == 2000);
        }
    }
    ck_assert(cluster_run(&c, is_installed, NULL, 5000));
    struct shape bare = good(2000);
    bare.transfer_id = 300;
    bare.no_digest = true;
    ck_assert(give(&bare).refused);
    bare = good(0);
    bare.no_meta = true;
    ck_assert(give(&bare).refused);
    cluster_deinit(&c);
}
END_TEST

/* N58: a chunk of an older term is refused and harms neither the member nor a newer transfer. */
START_TEST(an_older_term_is_refused)
{
    setup();
    struct shape s = good(0);
    s.term = 5;
    ck_assert_uint_eq(give(&s).next_offset, PIECE);
    for (uint64_t offset = PIECE; offset < BODY; offset += PIECE) {
        s = good(offset);
        s.term = 5;
        ck_assert(!give(&s).refused);
    }
    ck_assert(cluster_run(&c, is_installed, NULL, 5000));
    s = good(0);
    s.term = 4;
    s.transfer_id = 9;
    ck_assert(give(&s).refused);
    s.term = 5;
    s.generation = 3; /* another generation likewise */
    ck_assert(give(&s).refused);
    ck_assert_uint_eq(raft_node_generation(c.nodes[0].node), 4);
    cluster_deinit(&c);
}
END_TEST

/* N52 for chunks; bytes that are none. */
START_TEST(strangers_and_garbage_are_refused)
{
    struct answer a = { 0 };
    struct shape s;

    setup();
    for (uint64_t offset = 0; offset < BODY; offset += PIECE) {
        s = good(offset);
        ck_assert(!give(&s).refused);
    }
    ck_assert(cluster_run(&c, is_installed, NULL, 5000)); /* now it knows who LEADER is */
    s.node_id = c.nodes[0].node_id.s;
    ck_assert_int_eq(give(&s).rc, -ERR_PERMISSION);
    raft_node_receive_chunk(c.nodes[0].node, leader_node_id(), (const uint8_t *)"\xff\xff", 2,
                            on_answer, &a);
    ck_assert(cluster_run(&c, is_answered, &a, 5000));
    ck_assert_int_eq(a.rc, -ERR_PROTO);
    cluster_deinit(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("raft_receive");
    TCase *tc = tcase_create("raft_receive");
    SRunner *r;

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_snapshot_arrives);
    tcase_add_loop_test(tc, bad_chunks_are_refused, 0, ARRAY_LEN(bad_cases));
    tcase_add_test(tc, a_wrong_digest_ends_the_transfer);
    tcase_add_test(tc, an_older_term_is_refused);
    tcase_add_test(tc, strangers_and_garbage_are_refused);
    suite_add_tcase(s, tc);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}

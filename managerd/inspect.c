/* managerd inspect: what a manager's state directory holds and whether it verifies, by the same
 * code that managerd starts with, opened read-only. Actions of transactions are shown by kind, id
 * and name only. */
#include "managerd/offline.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/flags.h"
#include "common/identity.h"
#include "common/text.h"
#include "managerd/io/raft_disk.h"
#include "managerd/raft/codec.h"
#include "managerd/store/store.h"

/* clang-format off */
static const struct flag table[] = {
    { "dump", 0, FLAG_BOOL, NULL, NULL, "Print every log entry, and its actions in one line each", NULL, false },
    { "help", 'h', FLAG_BOOL, NULL, NULL, "Print usage", NULL, false },
    { "state-dir", 0, FLAG_STRING, "DIR", "/var/lib/skep", "Where identity and Raft data live", "@dir", false },
    { "verify", 0, FLAG_BOOL, NULL, NULL, "Print only what is wrong", NULL, false },
    { 0 },
};
/* clang-format on */

static const char *const kind_names[STORE_KIND_COUNT] = {
    "none", "node", "service", "task", "network", "cluster", "secret", "config", "revision",
};

struct inspect {
    char *directory;
    struct identity *identity;
    bool dump, quiet;
    unsigned problems;
};

static void problem(struct inspect *in, int rc, const struct err *e)
{
    in->problems++;
    printf("problem: %s\n", err_message(e, rc));
}

/* Names come from people and hosts: nothing of them may steer a terminal. */
static void print_name(const char *name)
{
    putchar('"');
    for (; *name != '\0'; name++)
        putchar(iscntrl((unsigned char)*name) ? '?' : *name);
    putchar('"');
}

static const char *kind_name(Skep__Kind kind)
{
    return (unsigned)kind < STORE_KIND_COUNT ? kind_names[kind] : "unknown";
}

/* ---- snapshots ---- */

static void print_snapshot(struct inspect *in, const struct snap_store *s, struct snap_name name)
{
    struct snap_reader *r = NULL;
    struct err e = { 0 };
    int rc = snap_reader_open(s, name.index, name.term, &r, &e);

    if (rc == 0)
        rc = snap_reader_verify(r, &e);
    if (rc < 0)
        problem(in, rc, &e);
    if (!in->quiet)
        printf("snapshot: index %" PRIu64 " term %" PRIu64, name.index, name.term);
    if (!in->quiet && r != NULL)
        printf(", generation %" PRIu64 ", %u members, %" PRIu64 " bytes",
               snap_reader_meta(r)->generation, snap_reader_meta(r)->raft.config.member_count,
               snap_reader_size(r));
    if (!in->quiet)
        printf(", %s\n", rc == 0 ? "verified" : "damaged");
    snap_reader_close(r);
}

/* Each one by itself: an older one that verifies may serve when the newest does not. */
static int list_snapshots(struct inspect *in, struct err *e)
{
    struct disk_options o = { .path = in->directory };
    struct keyring_options no_lock = { 0 };
    struct snap_name names[SNAP_KEEP + 1];
    struct keyring *keyring = NULL;
    struct disk *disk = NULL;
    size_t count = 0;
    int rc = disk_open(&o, &disk, e);

    if (rc == -ERR_BUSY)
        return err_set(
            e, ERR_BUSY,
            "%s is in use: managerd runs on it. Stop it first (systemctl stop skep-managerd)",
            in->directory);
    if (rc == 0)
        rc = keyring_load(disk, &no_lock, &keyring, e);
    struct snap_store s = { disk, keyring, in->identity->tls.cluster.s, in->identity->tls.node.s };
    if (rc == 0)
        rc = snap_list(&s, names, ARRAY_LEN(names), &count, e);
    for (size_t i = 0; rc == 0 && i < count; i++)
        print_snapshot(in, &s, names[i]);
    keyring_free(keyring);
    disk_close(disk);
    return rc;
}

/* ---- log ---- */

static void print_member(const struct raft_disk *d, const struct raft_loaded *l)
{
    printf("member: raft id %" PRIx64 ", generation %" PRIu64 "%s\n", d->member.raft_id,
           d->member.generation,
           l->moved ? ", moved: a copy, which waits to be readmitted when it starts" : "");
    printf("hard state: term %" PRIu64 ", vote %" PRIx64 "%s\n", l->hard_state.term,
           l->hard_state.vote, l->hard_state.fenced ? ", fenced" : "");
}

static void print_segments(const struct raft_disk *d, const struct raft_loaded *l)
{
    struct wal_segment_info s;

    for (size_t i = 0; wal_segment_at(d->wal, i, &s); i++) {
        printf("segment: wal-%016" PRIx64 ", ", s.sequence);
        if (s.first_index != 0)
            printf("entries %" PRIu64 " to %" PRIu64, s.first_index, s.last_index);
        else
            printf("no entries");
        printf(", %" PRIu64 " bytes, verified\n", s.bytes);
    }
    if (l->torn_bytes > 0)
        printf("torn: the last %" PRIu64 " bytes of an interrupted write, never acknowledged; "
               "dropped at the next start\n",
               l->torn_bytes);
    if (l->entry_count > 0)
        printf("log: entries %" PRIu64 " to %" PRIu64 "\n", l->entries[0].index,
               l->entries[l->entry_count - 1].index);
    else
        printf("log: no entries behind the snapshot\n");
}

static void dump_object(const char *verb, const Skep__Object *wrapped)
{
    /* All members of the union are pointers to messages. */
    const ProtobufCMessage *object =
        wrapped->object_case != SKEP__OBJECT__OBJECT__NOT_SET ? &wrapped->node->base : NULL;

    if (object == NULL)
        return;
    printf("  %s %s %s ", verb, kind_name(object_kind(object)), object_id(object));
    print_name(object_name(object));
    putchar('\n');
}

static void dump_action(const Skep__StoreAction *a)
{
    switch (a->action_case) {
    case SKEP__STORE_ACTION__ACTION_CREATE:
        dump_object("create", a->create);
        break;
    case SKEP__STORE_ACTION__ACTION_UPDATE:
        dump_object("update", a->update);
        break;
    case SKEP__STORE_ACTION__ACTION_TASK:
        printf("  change task %s state %d desired %d\n", a->task->task_id,
               a->task->status != NULL ? (int)a->task->status->state : 0,
               (int)a->task->desired_state);
        break;
    case SKEP__STORE_ACTION__ACTION_REMOVE:
        printf("  remove %s %s\n", kind_name(a->remove->kind), a->remove->id);
        break;
    case SKEP__STORE_ACTION__ACTION__NOT_SET:
    case _SKEP__STORE_ACTION__ACTION__CASE_IS_INT_SIZE:
        break;
    }
}

static void dump_transaction(const struct raft_data *data)
{
    Skep__Transaction *t = skep__transaction__unpack(NULL, data->size, data->bytes);

    for (size_t i = 0; t != NULL && i < t->n_actions; i++)
        dump_action(t->actions[i]);
    skep__transaction__free_unpacked(t, NULL);
}

static void dump_config(const struct raft_data *data)
{
    struct raft_config c;

    if (raft_config_unpack(data->bytes, data->size, &c, NULL) < 0)
        return;
    for (uint32_t i = 0; i < c.member_count; i++)
        printf("  %s %s raft id %" PRIx64 " at %s\n",
               c.members[i].role == RAFT_VOTER ? "voter" : "learner", c.members[i].node_id.s,
               c.members[i].raft_id, c.members[i].address);
}

static void dump_entry(const struct raft_entry *entry)
{
    static const char *const types[] = { "transaction", "no-op", "configuration" };

    printf("entry: %" PRIu64 " term %" PRIu64 " %s, %u bytes\n", entry->index, entry->term,
           types[entry->type], entry->data != NULL ? entry->data->size : 0);
    if (entry->data != NULL && entry->type == RAFT_ENTRY_NORMAL)
        dump_transaction(entry->data);
    if (entry->data != NULL && entry->type == RAFT_ENTRY_CONFIG)
        dump_config(entry->data);
}

/* ---- objects ---- */

static int load_snapshot(const struct raft_disk *d, const struct raft_snapshot_meta *meta,
                         struct store *store, struct err *e)
{
    CLEANUP_FREE uint8_t *mem = xmalloc(SNAP_CHUNK_BYTES);
    struct store_loader *loader = store_loader_new();
    struct snap_piece p = { .mem = mem, .max = SNAP_CHUNK_BYTES };
    struct snap_reader *r = NULL;
    size_t size = 1;
    int rc = snap_reader_open(&d->store, meta->index, meta->term, &r, e);

    while (rc == 0 && size > 0) {
        rc = snap_reader_read(r, &p, &size, e);
        if (rc == 0 && size > 0)
            rc = store_loader_feed(loader, mem, size, e);
        p.offset += size;
    }
    if (rc == 0)
        rc = store_loader_finish(loader, meta->index, store, e);
    snap_reader_close(r);
    store_loader_free(loader);
    explicit_bzero(mem, SNAP_CHUNK_BYTES);
    return rc;
}

static int apply_log(const struct raft_loaded *l, struct store *store, struct err *e)
{
    for (size_t i = 0; i < l->entry_count; i++) {
        const struct raft_entry *entry = &l->entries[i];

        if (entry->type != RAFT_ENTRY_NORMAL || entry->data == NULL ||
            (l->snapshot != NULL && entry->index <= l->snapshot->index))
            continue;
        const ProtobufCBinaryData packed = { entry->data->size, (uint8_t *)entry->data->bytes };
        int rc = store_apply_packed(store, entry->index, packed, NULL, e);
        if (rc == -ERR_PROTO) /* others are refusals, which change nothing */
            return err_wrap(e, rc, "entry %" PRIu64, entry->index);
    }
    return 0;
}

static void print_objects(struct inspect *in, const struct raft_disk *d,
                          const struct raft_loaded *l)
{
    struct store *store = store_new();
    struct err e = { 0 };
    int rc = l->snapshot != NULL ? load_snapshot(d, l->snapshot, store, &e) : 0;

    if (rc == 0)
        rc = apply_log(l, store, &e);
    if (rc < 0)
        problem(in, rc, &e);
    if (rc == 0 && !in->quiet) {
        printf("objects:");
        for (int kind = 1; kind < STORE_KIND_COUNT; kind++)
            printf(" %s=%zu", kind_names[kind], store_count(store, (Skep__Kind)kind));
        putchar('\n');
    }
    store_free(store);
}

static int look_at_log(struct inspect *in, struct err *e)
{
    struct raft_disk_options o = { .directory = in->directory,
                                   .cluster_id = in->identity->tls.cluster.s,
                                   .node_id = in->identity->tls.node.s,
                                   .tail_entries = UINT32_MAX,
                                   .read_only = true };
    struct raft_loaded l = { 0 };
    struct raft_disk *d = NULL;
    int rc = raft_disk_open(&o, &d, &l, e);

    if (rc < 0)
        return rc;
    if (!in->quiet) {
        print_member(d, &l);
        print_segments(d, &l);
    }
    for (size_t i = 0; in->dump && i < l.entry_count; i++)
        dump_entry(&l.entries[i]);
    print_objects(in, d, &l);
    raft_loaded_deinit(&l);
    raft_disk_close(d);
    return 0;
}

static int inspect(struct inspect *in, const char *state_dir, struct err *e)
{
    int rc = identity_load(state_dir, &in->identity, e);

    if (rc < 0)
        return err_wrap(e, rc, "whose data this is stands in the identity");
    if (!member_exists(in->directory))
        return err_set(e, ERR_NOT_FOUND, "%s holds no Raft data: this host is no manager",
                       in->directory);
    if (!in->quiet)
        printf("cluster %s, node %s, directory %s\n", in->identity->tls.cluster.s,
               in->identity->tls.node.s, in->directory);
    rc = list_snapshots(in, e);
    return rc == 0 ? look_at_log(in, e) : rc;
}

static int run(const struct flags *f)
{
    const char *state_dir = flags_string(f, "state-dir");
    CLEANUP_FREE char *directory = xasprintf("%s/raft", state_dir);
    struct inspect in = { .directory = directory,
                          .dump = flags_bool(f, "dump"),
                          .quiet = flags_bool(f, "verify") };
    struct err e = { 0 };
    int rc = inspect(&in, state_dir, &e);

    if (rc < 0) {
        in.problems++;
        (void)fflush(stdout);
        (void)fprintf(stderr, "managerd: %s\n", err_message(&e, rc));
    } else if (in.problems == 0) {
        printf("everything verifies\n");
    }
    identity_free(in.identity);
    return in.problems == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int inspect_main(int argc, char **argv)
{
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };
    int rc = flags_parse(f, argc - 1, argv + 1, FLAGS_MIXED, &e);
    int status = EXIT_SUCCESS;

    if (rc == 0 && flags_arg_count(f) > 0)
        rc = err_set(&e, ERR_INVALID, "inspect takes no arguments (\"%s\")", flags_arg(f, 0));
    if (rc == 0 && flags_bool(f, "dump") && flags_bool(f, "verify"))
        rc = err_set(&e, ERR_INVALID, "--dump and --verify exclude each other");
    if (rc < 0) {
        (void)fprintf(stderr, "managerd: %s\nSee 'managerd inspect --help'.\n",
                      err_message(&e, rc));
        status = FLAGS_EXIT_USAGE;
    } else if (flags_bool(f, "help")) {
        printf("Usage:  managerd inspect [OPTIONS]\n\n"
               "Verifies a stopped manager's log and snapshots and prints what they hold. Nothing\n"
               "is changed, and no key, token or secret is printed. Exit status 1: something does\n"
               "not verify.\n");
        flags_print_options(stdout, "Options", table, 100);
    } else {
        status = run(f);
    }
    flags_free(f);
    return status;
}

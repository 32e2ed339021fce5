/* managerd restore: a new cluster of one manager from a backup. The state is the backup's with one
 * transaction on top, which a forced new cluster would make as well: the generation is raised, the
 * former managers become workers, this host's node is added. The identity comes last, so that
 * managerd never starts on half a restore. */
#include "managerd/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/backup_file.h"
#include "common/clock.h"
#include "common/flags.h"
#include "common/identity.h"
#include "common/prng.h"
#include "common/random.h"
#include "managerd/io/raft_node.h"
#include "managerd/own.h"

/* clang-format off */
static const struct flag table[] = {
    { "advertise", 0, FLAG_STRING, "HOST:PORT", NULL, "Address at which workers look for a manager: best a former manager's", NULL, false },
    { "help", 'h', FLAG_BOOL, NULL, NULL, "Print usage", NULL, false },
    { "listen", 0, FLAG_STRING, "HOST:PORT", NULL, "Cluster port (default: 0.0.0.0 and the advertised port)", NULL, false },
    { "state-dir", 0, FLAG_STRING, "DIR", "/var/lib/skep", "Where identity and Raft data shall live", "@dir", false },
    { 0 },
};
/* clang-format on */

struct restore {
    const char *file, *state_dir, *advertise;
    char listen[RAFT_ADDRESS_BYTES_MAX];
    char *directory;
    struct backup_header header;
    struct store *store;
    struct id node;
    int64_t now_ns;
    uint64_t generation;
};

/* ---- what is asked for ---- */

static int check_address(const char *name, const char *text, unsigned *ret_port, struct err *e)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;

    if (colon == NULL || colon == text || port == 0 || port > 65534 || *end != '\0')
        return err_set(e, ERR_INVALID, "--%s: \"%.100s\" is not HOST:PORT", name, text);
    if (strlen(text) >= RAFT_ADDRESS_BYTES_MAX)
        return err_set(e, ERR_TOO_BIG, "--%s: longer than %d characters", name,
                       RAFT_ADDRESS_BYTES_MAX - 1);
    *ret_port = (unsigned)port;
    return 0;
}

static int take_options(struct restore *r, const struct flags *f, struct err *e)
{
    const char *listen = flags_string(f, "listen");
    unsigned port = 0;

    r->state_dir = flags_string(f, "state-dir");
    r->advertise = flags_string(f, "advertise");
    if (flags_arg_count(f) != 1)
        return err_set(e, ERR_INVALID, "restore takes one argument: the backup's file");
    r->file = flags_arg(f, 0);
    if (r->advertise[0] == '\0')
        return err_set(
            e, ERR_INVALID,
            "--advertise HOST:PORT is needed: where the workers shall find this manager");
    int rc = check_address("advertise", r->advertise, &port, e);
    if (rc == 0 && strncmp(r->advertise, "0.0.0.0:", 8) == 0)
        rc = err_set(e, ERR_INVALID, "--advertise: 0.0.0.0 cannot be reached by others");
    if (rc == 0 && listen[0] != '\0')
        rc = check_address("listen", listen, &port, e);
    if (rc < 0)
        return rc;
    if (listen[0] != '\0')
        (void)snprintf(r->listen, sizeof(r->listen), "%s", listen);
    else
        (void)snprintf(r->listen, sizeof(r->listen), "0.0.0.0:%u", port);
    return 0;
}

/* Nothing is overwritten: what is there may be the better state. */
static int check_empty(const struct restore *r, struct err *e)
{
    if (raft_node_exists(r->directory))
        return err_set(e, ERR_EXISTS,
                       "%s holds Raft data already: start managerd on it, or move it away first",
                       r->directory);
    if (identity_stamp(r->state_dir) != 0)
        return err_set(e, ERR_EXISTS,
                       "%s/identity: this host belongs to a cluster; ctl swarm leave --force, or "
                       "move it away first",
                       r->state_dir);
    return 0;
}

/* ---- the state ---- */

static int feed(void *ctx, const uint8_t *mem, size_t size, struct err *e)
{
    return store_loader_feed(ctx, mem, size, e);
}

static int load(struct restore *r, struct err *e)
{
    struct store_loader *loader = store_loader_new();
    int rc = backup_file_read(r->file, &r->header, feed, loader, e);

    if (rc == 0)
        rc = store_loader_finish(loader, r->header.version, r->store, e);
    store_loader_free(loader);
    if (rc < 0)
        return rc;
    const Skep__Cluster *c = store_cluster(r->store);
    if (c == NULL || c->root_ca == NULL || c->spec == NULL)
        return err_set(e, ERR_CORRUPT, "%s holds no cluster", r->file);
    if (strcmp(c->id, r->header.cluster_id.s) != 0)
        return err_set(e, ERR_CORRUPT, "%s names another cluster than it holds", r->file);
    if (c->root_ca->key_pem.len == 0)
        return err_set(e, ERR_PRECONDITION,
                       "%s does not hold the CA's key, and a manager needs a certificate of it",
                       r->file);
    return 0;
}

/* On top of the backup, at the next index. */
static int add_changes(struct restore *r, struct err *e)
{
    const Skep__Cluster *c = store_cluster(r->store);
    struct tls_identity id = { .node = r->node,
                               .not_after_ns = r->now_ns + c->spec->certificate_expiry };
    struct store_tx *tx = store_tx_new();
    uint8_t *data;
    size_t size;

    r->generation = MAX(c->generation, (uint64_t)1) + 1;
    own_generation_add(r->store, r->generation, r->node.s, tx);
    own_node_add(&id, SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE, tx);
    store_tx_pack(tx, r->now_ns, NULL, &data, &size);
    store_tx_free(tx);
    const ProtobufCBinaryData packed = { .len = size, .data = data };
    int rc = store_apply_packed(r->store, r->header.version + 1, packed, NULL, e);
    free(data);
    return rc;
}

/* ---- the files ---- */

static size_t next_bytes(void *ctx, uint8_t *mem, size_t max)
{
    return store_snapshot_next(ctx, mem, max);
}

static int write_raft(const struct restore *r, struct err *e)
{
    const struct raft_node_options o = { .directory = r->directory,
                                         .raft_id = (random_u64() >> 1) | 1,
                                         .cluster_id = r->header.cluster_id,
                                         .node_id = r->node,
                                         .address = r->advertise };
    struct store_snapshot *snapshot = store_snapshot_take(r->store);
    const struct raft_node_seed s = { .index = store_version(r->store),
                                      .generation = r->generation,
                                      .next = next_bytes,
                                      .ctx = snapshot };
    int rc = raft_node_restore(&o, &s, e);

    store_snapshot_free(snapshot);
    return rc;
}

static int write_identity(const struct restore *r, struct err *e)
{
    const Skep__Cluster *c = store_cluster(r->store);
    const ProtobufCBinaryData *key = &c->root_ca->key_pem, *pem = &c->root_ca->certificate_pem;
    char *root_key = xstrndup((const char *)key->data, key->len);
    CLEANUP_FREE char *root_pem = xstrndup((const char *)pem->data, pem->len);
    const struct own_identity o = { .state_dir = r->state_dir,
                                    .advertise = r->advertise,
                                    .root_pem = root_pem,
                                    .root_key = root_key,
                                    .now_ns = r->now_ns,
                                    .life_ns = c->spec->certificate_expiry,
                                    .node = r->node,
                                    .cluster = r->header.cluster_id };
    int rc = own_identity_save(&o, e);

    xfree_secret(root_key, key->len);
    return rc;
}

static int write_all(struct restore *r, struct err *e)
{
    struct err undo = { 0 };

    if (mkdir(r->state_dir, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno, "create %s", r->state_dir);
    if (mkdir(r->directory, 0700) < 0 && errno != EEXIST)
        return err_errno(e, errno, "create %s", r->directory);
    int rc = write_raft(r, e);
    if (rc == 0)
        rc = own_addresses_save(r->state_dir, r->listen, r->advertise, e);
    if (rc == 0)
        rc = write_identity(r, e);
    if (rc < 0 &&
        (raft_node_wipe(r->directory, &undo) < 0 || identity_remove(r->state_dir, &undo) < 0))
        (void)fprintf(stderr, "managerd: undo: %s; remove %s and %s/identity\n", undo.message,
                      r->directory, r->state_dir);
    return rc;
}

static int restore(struct restore *r, struct err *e)
{
    struct prng prng;
    int rc = check_empty(r, e);

    prng_init(&prng, random_u64());
    r->node = id_from_prng(&prng);
    r->now_ns = clock_wall_ns();
    if (rc == 0)
        rc = load(r, e);
    if (rc == 0)
        rc = add_changes(r, e);
    if (rc == 0)
        rc = write_all(r, e);
    if (rc < 0)
        return rc;
    printf("Cluster %s restored at version %" PRIu64 ", generation %" PRIu64 ".\n"
           "This host is its only manager, node %s at %s.\n"
           "Start managerd now. Former managers come back as workers. Containers that this host "
           "ran as\n"
           "another node are not managed any more: remove them.\n",
           r->header.cluster_id.s, r->header.version, r->generation, r->node.s, r->advertise);
    return 0;
}

static int run(struct restore *r)
{
    struct err e = { 0 };

    r->directory = xasprintf("%s/raft", r->state_dir);
    r->store = store_new();
    int rc = restore(r, &e);
    if (rc < 0)
        (void)fprintf(stderr, "managerd: %s\n", err_message(&e, rc));
    store_free(r->store);
    free(r->directory);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int restore_main(int argc, char **argv)
{
    struct flags *f = flags_new(table, NULL);
    struct restore r = { 0 };
    struct err e = { 0 };
    int rc = flags_parse(f, argc - 1, argv + 1, FLAGS_MIXED, &e);
    int status = EXIT_SUCCESS;

    if (rc == 0 && !flags_bool(f, "help"))
        rc = take_options(&r, f, &e);
    if (rc < 0) {
        (void)fprintf(stderr, "managerd: %s\nSee 'managerd restore --help'.\n",
                      err_message(&e, rc));
        status = FLAGS_EXIT_USAGE;
    } else if (flags_bool(f, "help")) {
        printf("Usage:  managerd restore FILE --advertise HOST:PORT [OPTIONS]\n\n"
               "Makes this host the only manager of the cluster that \"ctl cluster backup FILE\" "
               "saved.\n"
               "Workers go on with their containers and find it at a former manager's address.\n");
        flags_print_options(stdout, "Options", table, 100);
    } else {
        status = run(&r);
    }
    flags_free(f);
    return status;
}

/* Connections to the other managers, by address; Raft's messages travel on them. */
#include <string.h>
#include <uthash.h>

#include "common/buf.h"
#include "common/log.h"
#include "managerd/manager.h"
#include "managerd/raft/codec.h"
#include "proto/raft_control.pb-c.h"

enum {
    PEERS_MAX = 2 * RAFT_MEMBERS_MAX,
    RAFT_CALLS_IN_FLIGHT_MAX = 128, /* per peer; more are dropped: Raft sends again */
    RAFT_CALL_DEADLINE_MS = 2000,
    CHUNK_CALL_DEADLINE_MS = 30000,
};

struct peer {
    char address[MANAGER_ADDRESS_MAX];
    struct rpc_client *client;
    uint32_t raft_calls;
    uint64_t used_ms;
    struct manager *manager;
    UT_hash_handle hh;
};

static void peer_free(struct manager *m, struct peer *p)
{
    HASH_DEL(m->peers, p);
    rpc_client_free(p->client);
    free(p);
}

/* Addresses change over a cluster's life: the one unused for longest makes room. */
static void evict_one(struct manager *m)
{
    struct peer *p, *next, *oldest = NULL;

    HASH_ITER(hh, m->peers, p, next)
    {
        if (oldest == NULL || p->used_ms < oldest->used_ms)
            oldest = p;
    }
    if (oldest != NULL)
        peer_free(m, oldest);
}

static struct peer *peer_of(struct manager *m, const char *address, struct err *e)
{
    struct peer *p;

    HASH_FIND_STR(m->peers, address, p);
    if (p == NULL) {
        char url[MANAGER_ADDRESS_MAX + 16];
        struct rpc_client_options o = { .url = url,
                                        .tls = m->tls,
                                        .server_role = TLS_ROLE_MANAGER };

        if (HASH_COUNT(m->peers) >= PEERS_MAX)
            evict_one(m);
        (void)snprintf(url, sizeof(url), "tls+tcp://%s", address);
        struct rpc_client *client = rpc_client_new(m->rpc, &o, e);

        if (client == NULL)
            return NULL;
        p = xcalloc(1, sizeof(*p));
        p->client = client;
        p->manager = m;
        (void)snprintf(p->address, sizeof(p->address), "%s", address);
        HASH_ADD_STR(m->peers, address, p);
    }
    p->used_ms = loop_now_ms(m->loop);
    return p;
}

struct rpc_client *peers_client(struct manager *m, const char *address, struct err *e)
{
    struct peer *p = peer_of(m, address, e);

    return p != NULL ? p->client : NULL;
}

void peers_free(struct manager *m)
{
    struct peer *p, *next;

    HASH_ITER(hh, m->peers, p, next)
    peer_free(m, p);
}

const char *peers_leader_address(const struct manager *m)
{
    struct raft_status status;

    if (m->raft == NULL)
        return "";
    raft_node_status(m->raft, &status);
    const struct raft_member *leader = raft_config_find(raft_node_config(m->raft), status.leader);
    return leader != NULL ? leader->address : "";
}

size_t peers_addresses(const struct manager *m, struct arena *a, Skep__ManagerAddress ***ret)
{
    const struct raft_config *config = raft_node_config(m->raft);

    *ret = arena_array(a, config->member_count, sizeof(**ret));
    for (uint32_t i = 0; i < config->member_count; i++) {
        Skep__ManagerAddress *out = ARENA_NEW(a, Skep__ManagerAddress);

        skep__manager_address__init(out);
        out->node_id = arena_strdup(a, config->members[i].node_id.s);
        out->address = arena_strdup(a, config->members[i].address);
        (*ret)[i] = out;
    }
    return config->member_count;
}

void peers_learn(struct manager *m, const ProtobufCBinaryData *join_response)
{
    ProtobufCMessage *message = NULL;
    struct err e = { 0 };

    if (rpc_decode(join_response, &skep__raft_join_response__descriptor, &message, &e) < 0)
        return; /* asked again until the configuration names us */
    const Skep__RaftJoinResponse *answer = (const Skep__RaftJoinResponse *)message;

    m->learned_count = 0;
    for (size_t i = 0; i < answer->n_managers && m->learned_count < RAFT_MEMBERS_MAX; i++) {
        const Skep__ManagerAddress *from = answer->managers[i];
        struct learned_address *to = &m->learned[m->learned_count];

        if (!id_valid(from->node_id) || strlen(from->address) >= sizeof(to->address))
            continue;
        to->node_id = id_from_str(from->node_id);
        memcpy(to->address, from->address, strlen(from->address) + 1);
        m->learned_count++;
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

/* A joiner answers a leader that its own configuration does not name yet. */
static const char *address_of(const struct manager *m, const struct raft_member *to)
{
    if (to->address[0] != '\0')
        return to->address;
    for (size_t i = 0; i < m->learned_count; i++) {
        if (id_equal(&m->learned[i].node_id, &to->node_id))
            return m->learned[i].address;
    }
    return "";
}

/* ---- Raft's transport ---------------------------------------------------------------------------
 */

struct raft_send {
    struct manager *manager;
    char address[MANAGER_ADDRESS_MAX];
    uint64_t to;
};

static void on_raft_sent(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct raft_send *s = ctx;
    struct peer *p;

    (void)response; /* answers come as messages of their own */
    HASH_FIND_STR(s->manager->peers, s->address, p);
    if (p != NULL && p->raft_calls > 0)
        p->raft_calls--;
    if (rc == -ERR_PERMISSION)
        s->manager->demoted = true; /* a new certificate will say what we are now */
    if (rc == -ERR_NOT_FOUND)
        s->manager->expelled_ms = loop_now_ms(s->manager->loop);
    if (rc < 0) {
        log_debug("raft.send", "to=%s error=\"%s\"", s->address, err_message(e, rc));
        if (s->manager->raft != NULL && rc != -ERR_CANCELED)
            raft_node_unreachable(s->manager->raft, s->to);
    }
    free(s);
}

static void send_message(void *ctx, const struct raft_member *to,
                         const struct raft_message *message)
{
    struct manager *m = ctx;
    struct err e = { 0 };
    const char *address = address_of(m, to);
    struct peer *p = address[0] != '\0' ? peer_of(m, address, &e) : NULL;
    CLEANUP_BUF struct buf b = BUF_INIT(RAFT_MESSAGE_BYTES_MAX);

    if (p == NULL || p->raft_calls >= RAFT_CALLS_IN_FLIGHT_MAX)
        return; /* losing it is allowed */
    if (raft_message_pack(message, &b) < 0)
        return;
    ProtobufCBinaryData body = { .len = b.size, .data = b.data };
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_RAFT,
                             .raw_body = &body,
                             .deadline_ms = RAFT_CALL_DEADLINE_MS };
    struct raft_send *s = xcalloc(1, sizeof(*s));

    s->manager = m;
    s->to = to->raft_id;
    memcpy(s->address, p->address, sizeof(s->address));
    p->raft_calls++;
    if (rpc_call_start(p->client, &r, on_raft_sent, s, &e) < 0) {
        p->raft_calls--;
        free(s);
    }
}

struct chunk_send {
    struct manager *manager;
    uint64_t token;
};

static void on_chunk_sent(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct chunk_send *s = ctx;

    if (rc < 0)
        log_warn("raft.snapshot_send", "error=\"%s\" next=\"tried again later\"",
                 err_message(e, rc));
    if (s->manager->raft != NULL && rc != -ERR_CANCELED)
        raft_node_chunk_done(s->manager->raft, s->token, rc, rc == 0 ? response->body.data : NULL,
                             rc == 0 ? response->body.len : 0);
    free(s);
}

static void send_chunk(void *ctx, const struct raft_member *to, const uint8_t *chunk, size_t size,
                       uint64_t token)
{
    struct manager *m = ctx;
    struct err e = { 0 };
    struct rpc_client *client = peers_client(m, to->address, &e);
    ProtobufCBinaryData body = { .len = size, .data = (uint8_t *)chunk };
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_RAFT_SNAPSHOT,
                             .raw_body = &body,
                             .deadline_ms = CHUNK_CALL_DEADLINE_MS };
    struct chunk_send *s = xcalloc(1, sizeof(*s));

    s->manager = m;
    s->token = token;
    int rc = client == NULL ? -ERR_UNAVAILABLE : rpc_call_start(client, &r, on_chunk_sent, s, &e);

    if (rc < 0) {
        free(s);
        raft_node_chunk_done(m->raft, token, rc, NULL, 0);
    }
}

const struct raft_transport_ops manager_transport = {
    .send = send_message,
    .send_chunk = send_chunk,
};

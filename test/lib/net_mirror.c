#include "test/lib/net_mirror.h"

#include <string.h>

#include <uthash.h>

#include "common/arena.h"
#include "common/assert.h"
#include "common/message.h"

struct mirror_record {
    char key[ID_CHARS + 3]; /* "<kind>:<id>" */
    Skep__NetworkRecord *record;
    bool stale; /* not named by the complete set so far */
    UT_hash_handle hh;
};

/* ---- the copy ---- */

static void key_of(char key[ID_CHARS + 3], Skep__NetworkRecordKind kind, const char *id)
{
    (void)snprintf(key, ID_CHARS + 3, "%d:%s", (int)kind, id);
}

static void record_key(const Skep__NetworkRecord *r, char key[ID_CHARS + 3])
{
    switch (r->record_case) {
    case SKEP__NETWORK_RECORD__RECORD_NETWORK:
        key_of(key, SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK, r->network->id);
        return;
    case SKEP__NETWORK_RECORD__RECORD_PEER:
        key_of(key, SKEP__NETWORK_RECORD_KIND__RECORD_PEER, r->peer->node_id);
        return;
    case SKEP__NETWORK_RECORD__RECORD_SERVICE:
        key_of(key, SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE, r->service->id);
        return;
    case SKEP__NETWORK_RECORD__RECORD_ENDPOINT:
        key_of(key, SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT, r->endpoint->task_id);
        return;
    case SKEP__NETWORK_RECORD__RECORD__NOT_SET:
    case _SKEP__NETWORK_RECORD__RECORD__CASE_IS_INT_SIZE:
        break;
    }
    UNREACHABLE();
}

static struct mirror_record *find(const struct net_mirror *m, const char *key)
{
    struct mirror_record *r;

    HASH_FIND_STR(m->records, key, r);
    return r;
}

static void drop(struct net_mirror *m, struct mirror_record *r)
{
    HASH_DEL(m->records, r);
    free(r->record);
    free(r);
}

void net_mirror_deinit(struct net_mirror *m)
{
    struct mirror_record *r, *next;

    HASH_ITER(hh, m->records, r, next)
    {
        drop(m, r);
    }
    *m = (struct net_mirror){ 0 };
}

static void take(struct net_mirror *m, const Skep__NetworkRecord *record)
{
    char key[ID_CHARS + 3];

    record_key(record, key);
    struct mirror_record *r = find(m, key);
    if (r == NULL) {
        r = xcalloc(1, sizeof(*r));
        memcpy(r->key, key, sizeof(key));
        HASH_ADD_STR(m->records, key, r);
    }
    free(r->record);
    r->record = (Skep__NetworkRecord *)message_clone(&record->base);
    r->stale = false;
}

static void complete(struct net_mirror *m, bool begins)
{
    struct mirror_record *r, *next;

    HASH_ITER(hh, m->records, r, next)
    {
        if (begins)
            r->stale = true;
        else if (r->stale)
            drop(m, r);
    }
    m->completing = begins;
}

void net_mirror_apply(struct net_mirror *m, const Skep__NetworksResponse *resp)
{
    char key[ID_CHARS + 3];

    if (resp->complete)
        complete(m, true);
    for (size_t i = 0; i < resp->n_records; i++)
        take(m, resp->records[i]);
    for (size_t i = 0; i < resp->n_removed; i++) {
        key_of(key, resp->removed[i]->kind, resp->removed[i]->id);
        struct mirror_record *r = find(m, key);

        if (r != NULL)
            drop(m, r);
    }
    if (m->completing && !resp->more)
        complete(m, false);
    m->token = resp->token;
    m->pieces++;
}

size_t net_mirror_count(const struct net_mirror *m)
{
    return HASH_COUNT(m->records);
}

const Skep__NetworkRecord *net_mirror_find(const struct net_mirror *m, Skep__NetworkRecordKind kind,
                                           const char *id)
{
    char key[ID_CHARS + 3];

    key_of(key, kind, id);
    const struct mirror_record *r = find(m, key);
    return r != NULL ? r->record : NULL;
}

/* ---- what the store says ---- */

struct expected {
    const struct store *s;
    const char *node_id;
    const struct net_mirror *m;
    struct arena *arena;
    size_t count;
    struct err *e;
};

static bool alive(const Skep__Task *t)
{
    return t->node_id[0] != '\0' && t->status->state >= SKEP__TASK_STATE__TASK_ASSIGNED &&
           t->status->state <= SKEP__TASK_STATE__TASK_RUNNING;
}

static bool attached(Skep__NetworkAttachment *const *list, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i]->network_id, id) == 0)
            return true;
    }
    return false;
}

static bool node_has_task_in(const struct store *s, const char *node_id, const char *network_id)
{
    struct store_iter it;

    for (const Skep__Task *t = store_node_tasks(s, node_id, &it); t != NULL;
         t = store_iter_next(&it)) {
        if (alive(t) && attached(t->networks, t->n_networks, network_id))
            return true;
    }
    return false;
}

static bool present(const struct expected *x, const char *network_id)
{
    const Skep__Network *n =
        (const Skep__Network *)store_get(x->s, SKEP__KIND__KIND_NETWORK, network_id);

    if (n == NULL || n->vni == 0 ||
        (n->spec->driver != NULL && n->spec->driver->name[0] != '\0' &&
         strcmp(n->spec->driver->name, "overlay") != 0))
        return false;
    return n->spec->ingress || node_has_task_in(x->s, x->node_id, network_id);
}

static size_t seen(const struct expected *x, Skep__NetworkAttachment *const *list, size_t count,
                   Skep__NetworkAttachment ***ret)
{
    size_t kept = 0;

    *ret = arena_array(x->arena, count + 1, sizeof(**ret));
    for (size_t i = 0; i < count; i++) {
        if (present(x, list[i]->network_id))
            (*ret)[kept++] = list[i];
    }
    return kept;
}

static int expect(struct expected *x, const Skep__NetworkRecord *want)
{
    char key[ID_CHARS + 3];

    record_key(want, key);
    const struct mirror_record *have = find(x->m, key);
    x->count++;
    if (have == NULL)
        return err_set(x->e, ERR_INTERNAL, "node %s misses record %s", x->node_id, key);
    if (!message_equal(&have->record->base, &want->base))
        return err_set(x->e, ERR_INTERNAL, "node %s has another record %s", x->node_id, key);
    return 0;
}

static int expect_network(struct expected *x, const Skep__Network *n)
{
    Skep__NetworkRecord want = SKEP__NETWORK_RECORD__INIT;
    Skep__NetworkHead h = SKEP__NETWORK_HEAD__INIT;
    const Skep__Cluster *c = store_cluster(x->s);

    if (!present(x, n->id))
        return 0;
    h.id = n->id;
    h.name = n->spec->annotations->name;
    h.vni = n->vni;
    h.mtu = n->mtu;
    h.data_path_port = c != NULL && c->spec->data_path_port != 0 ? c->spec->data_path_port : 4789;
    h.internal = n->spec->internal;
    h.ingress = n->spec->ingress;
    h.attachable = n->spec->attachable;
    for (size_t i = 0; n->spec->driver != NULL && i < n->spec->driver->n_options; i++)
        h.encrypted = h.encrypted || strcmp(n->spec->driver->options[i]->key, "encrypted") == 0;
    h.n_ipam = n->n_ipam;
    h.ipam = n->ipam;
    h.n_keys = n->n_keys;
    h.keys = n->keys;
    h.key_epoch = n->key_epoch;
    h.encryption_port = n->encryption_port;
    want.record_case = SKEP__NETWORK_RECORD__RECORD_NETWORK;
    want.network = &h;
    return expect(x, &want);
}

static bool node_up(const struct store *s, const char *id)
{
    const Skep__Node *n = store_node(s, id);

    return n != NULL && n->status->state != SKEP__NODE_STATE__NODE_DOWN;
}

static bool peer_shared(const struct expected *x, const Skep__Node *n)
{
    const ProtobufCMessage *o = store_first(x->s, SKEP__KIND__KIND_NETWORK);

    for (; o != NULL; o = store_after(x->s, SKEP__KIND__KIND_NETWORK, object_id(o))) {
        if (present(x, object_id(o)) && (node_has_task_in(x->s, n->id, object_id(o)) ||
                                         attached(n->networks, n->n_networks, object_id(o))))
            return true;
    }
    return false;
}

static int expect_peer(struct expected *x, const Skep__Node *n)
{
    Skep__NetworkRecord want = SKEP__NETWORK_RECORD__INIT;
    Skep__NetworkPeer p = SKEP__NETWORK_PEER__INIT;
    const Skep__NodeNetwork *able = n->description != NULL ? n->description->network : NULL;

    p.address = able != NULL && able->data_path_address[0] != '\0' ? able->data_path_address
                                                                   : n->status->address;
    if (able != NULL)
        p.encryption_instance = able->encryption_instance;
    if (!node_up(x->s, n->id) || p.address[0] == '\0' || !peer_shared(x, n))
        return 0;
    p.node_id = n->id;
    p.hostname = n->description != NULL ? n->description->hostname : p.hostname;
    p.n_networks = seen(x, n->networks, n->n_networks, &p.networks);
    want.record_case = SKEP__NETWORK_RECORD__RECORD_PEER;
    want.peer = &p;
    return expect(x, &want);
}

static bool has_vip(const Skep__Service *s, const char *network_id)
{
    for (size_t i = 0; s->endpoint != NULL && i < s->endpoint->n_virtual_ips; i++) {
        if (strcmp(s->endpoint->virtual_ips[i]->network_id, network_id) == 0)
            return true;
    }
    return false;
}

static int expect_service(struct expected *x, const Skep__Service *s)
{
    Skep__NetworkRecord want = SKEP__NETWORK_RECORD__INIT;
    Skep__NetworkService out = SKEP__NETWORK_SERVICE__INIT;
    const Skep__TaskSpec *task = s->spec->task;
    bool dnsrr =
        s->spec->endpoint != NULL && s->spec->endpoint->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
    bool here = false;

    out.aliases = arena_array(x->arena, task->n_networks + 1, sizeof(*out.aliases));
    for (size_t i = 0; i < task->n_networks; i++) {
        Skep__NetworkServiceAliases *a = ARENA_NEW(x->arena, Skep__NetworkServiceAliases);

        if (!present(x, task->networks[i]->target) ||
            (!dnsrr && !has_vip(s, task->networks[i]->target)))
            continue;
        here = here || dnsrr;
        skep__network_service_aliases__init(a);
        a->network_id = task->networks[i]->target;
        a->n_aliases = task->networks[i]->n_aliases;
        a->aliases = task->networks[i]->aliases;
        if (dnsrr || a->n_aliases > 0)
            out.aliases[out.n_aliases++] = a;
    }
    size_t vips = s->endpoint != NULL ? s->endpoint->n_virtual_ips : 0;
    out.virtual_ips = arena_array(x->arena, vips + 1, sizeof(*out.virtual_ips));
    for (size_t i = 0; i < vips; i++) {
        if (!present(x, s->endpoint->virtual_ips[i]->network_id))
            continue;
        here = here || !dnsrr;
        out.virtual_ips[out.n_virtual_ips++] = s->endpoint->virtual_ips[i];
    }
    if (!here)
        return 0;
    out.id = s->id;
    out.name = s->spec->annotations->name;
    out.mode = dnsrr ? SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR : SKEP__ENDPOINT_MODE__ENDPOINT_VIP;
    out.n_ports = s->endpoint != NULL ? s->endpoint->n_ports : 0;
    out.ports = s->endpoint != NULL ? s->endpoint->ports : NULL;
    want.record_case = SKEP__NETWORK_RECORD__RECORD_SERVICE;
    want.service = &out;
    return expect(x, &want);
}

static Skep__NetworkEndpoint__State endpoint_state(const Skep__Task *t)
{
    if (t->status->state < SKEP__TASK_STATE__TASK_RUNNING)
        return SKEP__NETWORK_ENDPOINT__STATE__STARTING;
    return t->desired_state < SKEP__TASK_STATE__TASK_SHUTDOWN
               ? SKEP__NETWORK_ENDPOINT__STATE__UP
               : SKEP__NETWORK_ENDPOINT__STATE__DRAINING;
}

static int expect_endpoint(struct expected *x, const Skep__Task *t)
{
    Skep__NetworkRecord want = SKEP__NETWORK_RECORD__INIT;
    Skep__NetworkEndpoint out = SKEP__NETWORK_ENDPOINT__INIT;
    const Skep__Revision *r = store_task_revision(x->s, t);

    if (!alive(t) || !node_up(x->s, t->node_id))
        return 0;
    out.n_networks = seen(x, t->networks, t->n_networks, &out.networks);
    if (out.n_networks == 0)
        return 0;
    out.task_id = t->id;
    out.service_id = t->service_id;
    out.node_id = t->node_id;
    out.state = endpoint_state(t);
    if (r != NULL && t->slot == 0)
        out.name =
            arena_printf(x->arena, "%s.%s.%s", r->spec->annotations->name, t->node_id, t->id);
    else if (r != NULL)
        out.name = arena_printf(x->arena, "%s.%lu.%s", r->spec->annotations->name,
                                (unsigned long)t->slot, t->id);
    if (r != NULL)
        out.hostname = r->spec->task->container->hostname;
    want.record_case = SKEP__NETWORK_RECORD__RECORD_ENDPOINT;
    want.endpoint = &out;
    return expect(x, &want);
}

static int expect_object(struct expected *x, Skep__Kind kind, const ProtobufCMessage *o)
{
    if (kind == SKEP__KIND__KIND_NETWORK)
        return expect_network(x, (const Skep__Network *)o);
    if (kind == SKEP__KIND__KIND_NODE)
        return expect_peer(x, (const Skep__Node *)o);
    if (kind == SKEP__KIND__KIND_SERVICE)
        return expect_service(x, (const Skep__Service *)o);
    return expect_endpoint(x, (const Skep__Task *)o);
}

int net_mirror_check(const struct net_mirror *m, const struct store *s, const char *node_id,
                     struct err *e)
{
    static const Skep__Kind kinds[] = { SKEP__KIND__KIND_NETWORK, SKEP__KIND__KIND_NODE,
                                        SKEP__KIND__KIND_SERVICE, SKEP__KIND__KIND_TASK };
    CLEANUP_ARENA struct arena arena = { 0 };
    struct expected x = { .s = s, .node_id = node_id, .m = m, .arena = &arena, .e = e };
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const ProtobufCMessage *o = store_first(s, kinds[i]);

        for (; rc == 0 && o != NULL; o = store_after(s, kinds[i], object_id(o)))
            rc = expect_object(&x, kinds[i], o);
    }
    if (rc == 0 && x.count != net_mirror_count(m))
        rc = err_set(e, ERR_INTERNAL, "node %s has %zu records, %zu are right", node_id,
                     net_mirror_count(m), x.count);
    return rc;
}

/* Node status: READY at registration, DOWN when heartbeats stop, and the ORPHANED tasks of nodes
 * that stay DOWN for a day. */
#include "managerd/dispatcher/internal.h"

#include <string.h>

#include "common/assert.h"

#define ORPHAN_AFTER_NS ((int64_t)24 * 3600 * 1000000000)

void node_change_add(struct dispatcher *d, struct node_change *c)
{
    struct node_change *old;

    HASH_FIND_STR(d->changes, c->node_id, old);
    if (old != NULL) {
        if (c->ready && c->description == NULL)
            c->description = TAKE_PTR(old->description);
        HASH_DEL(d->changes, old);
        skep__node_description__free_unpacked(old->description, NULL);
        free(old);
    }
    HASH_ADD_STR(d->changes, node_id, c);
}

void node_changes_clear(struct node_change **set)
{
    struct node_change *c, *next;

    HASH_ITER(hh, *set, c, next)
    {
        HASH_DEL(*set, c);
        skep__node_description__free_unpacked(c->description, NULL);
        free(c);
    }
}

static void update_node(const Skep__Node *old, const struct node_change *c,
                        const struct core_env *env, struct store_tx *tx)
{
    Skep__Node node = *old;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;

    if (old->status != NULL)
        status = *old->status;
    Skep__NodeState state = c->ready ? SKEP__NODE_STATE__NODE_READY : SKEP__NODE_STATE__NODE_DOWN;
    if (status.state != state || status.since == 0)
        status.since = env->wall_ns;
    status.state = state;
    status.message = c->ready ? (char *)protobuf_c_empty_string : (char *)"heartbeat failure";
    if (c->ready)
        status.address = (char *)c->address;
    node.status = &status;
    if (c->description != NULL)
        node.description = c->description;
    /* Expecting the version keeps a spec that changed meanwhile from being put back; a refused
     * transaction is filled again from the new object. */
    store_tx_update(tx, &node.base, old->meta->version, 0);
}

void node_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx)
{
    struct node_change *c, *next;

    HASH_ITER(hh, d->changes, c, next)
    {
        if (store_tx_full(tx))
            return;
        const Skep__Node *node = store_node(env->store, c->node_id);

        HASH_DEL(d->changes, c);
        if (node == NULL) {
            skep__node_description__free_unpacked(c->description, NULL);
            free(c);
            continue;
        }
        update_node(node, c, env, tx);
        HASH_ADD_STR(d->changes_flying, node_id, c);
    }
}

static void mark_down(struct dispatcher *d, const char *node_id)
{
    struct node_change *c = xcalloc(1, sizeof(*c));

    memcpy(c->node_id, node_id, strlen(node_id) + 1);
    node_change_add(d, c);
}

static bool change_waits(const struct dispatcher *d, const char *node_id)
{
    struct node_change *waiting, *flying;

    HASH_FIND_STR(d->changes, node_id, waiting);
    HASH_FIND_STR(d->changes_flying, node_id, flying);
    return waiting != NULL || flying != NULL;
}

/* Nodes that were READY under the last leader and never came to this one. */
static void scan_unregistered(struct dispatcher *d, const struct core_env *env)
{
    const ProtobufCMessage *o;

    if (env->now_ms < d->started_ms + DISPATCHER_TTL_BEATS * heartbeat_period_ms(env))
        return;
    for (o = store_first(env->store, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(env->store, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__Node *node = (const Skep__Node *)o;
        const struct session *s = session_find(d, node->id);

        if (node->status == NULL || node->status->state == SKEP__NODE_STATE__NODE_DOWN)
            continue;
        if (node->description == NULL || node->description->resources == NULL)
            continue; /* enrolled, has never run an agent: stays UNKNOWN */
        if ((s == NULL || s->closed) && !change_waits(d, node->id))
            mark_down(d, node->id);
    }
}

void node_scan(struct dispatcher *d, const struct core_env *env)
{
    struct session *s, *next;

    HASH_ITER(hh, d->sessions, s, next)
    {
        if (s->parked != NULL && env->now_ms >= s->parked_until_ms)
            session_queue(d, s);
        if (s->net_parked != NULL && env->now_ms >= s->net_until_ms)
            networks_wake_session(d, s);
        if (s->closed || env->now_ms < s->deadline_ms)
            continue;
        s->closed = true;
        session_return_calls(d, s);
        networks_forget(d, s);
        check_session_gone(d, s->node_id);
        mark_down(d, s->node_id);
    }
    scan_unregistered(d, env);
}

static void orphan_tasks(const Skep__Node *node, const struct core_env *env, struct store_tx *tx)
{
    struct store_iter it;
    const Skep__Task *t;

    for (t = store_node_tasks(env->store, node->id, &it); t != NULL && !store_tx_full(tx);
         t = store_iter_next(&it)) {
        Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
        Skep__TaskDelta delta = SKEP__TASK_DELTA__INIT;

        if (t->status->state > SKEP__TASK_STATE__TASK_RUNNING)
            continue;
        status.state = SKEP__TASK_STATE__TASK_ORPHANED;
        status.timestamp = status.applied_at = env->wall_ns;
        status.message = (char *)"task belongs to a node that has been down for a day";
        delta.task_id = t->id;
        delta.status = &status;
        store_tx_task(tx, &delta);
    }
}

void orphan_fill(struct dispatcher *d, const struct core_env *env, struct store_tx *tx)
{
    const ProtobufCMessage *o;

    ASSERT(d->leading);
    for (o = store_first(env->store, SKEP__KIND__KIND_NODE); o != NULL && !store_tx_full(tx);
         o = store_after(env->store, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__Node *node = (const Skep__Node *)o;

        if (node->status != NULL && node->status->state == SKEP__NODE_STATE__NODE_DOWN &&
            env->wall_ns - node->status->since >= ORPHAN_AFTER_NS)
            orphan_tasks(node, env, tx);
    }
}

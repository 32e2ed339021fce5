/* `ctl net check`: the number of a check goes out with every session's NETWORKS answer; agents
 * compare their kernel with their tables and report under that number; the operator's call is
 * answered when all have, or when its time is up. Nothing of it is stored. */
#include <string.h>
#include <utlist.h>

#include "common/assert.h"
#include "common/message.h"
#include "common/text.h"
#include "managerd/dispatcher/internal.h"

enum {
    CHECKS_MAX = 8,
    CHECK_WAIT_DEFAULT_MS = 10 * 1000,
    CHECK_WAIT_MS_MAX = 60 * 1000,
    CHECK_NODE_DIFFERENCES_MAX = 200,      /* listed of one node; all are counted */
    CHECK_DIFFERENCES_BYTES_MAX = 2 << 20, /* listed in one answer */
    CHECK_WHAT_BYTES_MAX = 64,
    CHECK_TEXT_BYTES_MAX = 512,
};

struct check_node {
    char id[ID_CHARS + 1];
    bool waiting;
    char *error; /* NULL: none */
    uint32_t difference_count;
    Skep__NetworkDifference **differences; /* clones */
    size_t listed_count;
};

struct check {
    void *call;
    uint64_t number;
    uint64_t until_ms;
    uint32_t wait_ms;
    char network_id[ID_CHARS + 1]; /* "" = all */
    bool host_tables;              /* differences of no network are wanted, too */
    struct check_node *nodes;      /* in order of id */
    size_t node_count, waiting_count;
    size_t bytes; /* of differences */
    struct check *prev, *next;
};

static void check_free(struct dispatcher *d, struct check *c)
{
    DL_DELETE(d->checks, c);
    for (size_t i = 0; i < c->node_count; i++) {
        for (size_t k = 0; k < c->nodes[i].listed_count; k++)
            free(c->nodes[i].differences[k]);
        free(c->nodes[i].differences);
        free(c->nodes[i].error);
    }
    free(c->nodes);
    free(c);
}

static struct check_node *node_of(const struct check *c, const char *node_id)
{
    size_t low = 0, high = c->node_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(c->nodes[middle].id, node_id);

        if (order == 0)
            return &c->nodes[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- sessions ---- */

bool check_due(const struct dispatcher *d, const struct session *s)
{
    return d->checks != NULL && s->net_check != d->check_number;
}

uint64_t check_tell(const struct dispatcher *d, struct session *s)
{
    if (!check_due(d, s))
        return 0;
    s->net_check = d->check_number;
    return d->check_number;
}

static void node_done(struct check *c, struct check_node *n, char *error)
{
    ASSERT(n->waiting);
    n->waiting = false;
    n->error = error;
    c->waiting_count--;
}

void check_session_gone(struct dispatcher *d, const char *node_id)
{
    struct check *c;

    DL_FOREACH(d->checks, c)
    {
        struct check_node *n = node_of(c, node_id);

        if (n != NULL && n->waiting)
            node_done(c, n, xstrdup("down: its connection was lost during the check"));
    }
}

/* ---- beginning ---- */

static bool takes_part(const struct dispatcher *d, const struct check *c, const Skep__Node *node)
{
    const struct place *p = index_place(&d->index, node->id);

    if (c->network_id[0] == '\0' || c->host_tables)
        return true;
    for (size_t i = 0; p != NULL && i < p->net_count; i++) {
        if (strcmp(p->nets[i].net->id, c->network_id) == 0)
            return true;
    }
    return false;
}

/* Why this node cannot tell; NULL when it will be asked. */
static const char *obstacle(const struct dispatcher *d, const Skep__Node *node)
{
    const struct session *s = session_find(d, node->id);

    if (node->status != NULL && node->status->state == SKEP__NODE_STATE__NODE_DOWN)
        return "down";
    if (s == NULL || s->closed)
        return "not connected";
    if (!s->net_asked && (node->description == NULL || node->description->network == NULL))
        return "this host does no overlay networks";
    return NULL;
}

static void add_node(const struct dispatcher *d, struct check *c, const Skep__Node *node)
{
    struct check_node *n = &c->nodes[c->node_count++];
    const char *why = obstacle(d, node);

    (void)snprintf(n->id, sizeof(n->id), "%s", node->id);
    n->waiting = why == NULL;
    c->waiting_count += n->waiting;
    if (why != NULL)
        n->error = xstrdup(why);
}

static int resolve(const struct dispatcher_call *call, const char *ref, struct check *c,
                   struct err *e)
{
    const ProtobufCMessage *object;

    if (ref[0] == '\0')
        return 0;
    int rc = store_resolve(call->env->store, SKEP__KIND__KIND_NETWORK, ref, &object, e);
    if (rc < 0)
        return rc;
    const Skep__Network *network = (const Skep__Network *)object;
    if (!network_is_overlay(network))
        return err_set(e, ERR_INVALID,
                       "network %s: only overlay networks are checked, it is of driver %s",
                       object_name(object),
                       network->spec->driver != NULL ? network->spec->driver->name : "overlay");
    (void)snprintf(c->network_id, sizeof(c->network_id), "%s", network->id);
    c->host_tables = network->spec->ingress; /* published ports are there */
    return 0;
}

int dispatcher_check(struct dispatcher *d, const struct dispatcher_call *call,
                     const Skep__NetworkCheckRequest *req, struct err *e)
{
    const struct store *s = call->env->store;
    struct check draft = { .call = call->call }, *c;
    const ProtobufCMessage *o;
    int count, rc;

    ASSERT(d->leading);
    DL_COUNT(d->checks, c, count);
    if (count >= CHECKS_MAX)
        return err_set(e, ERR_BUSY, "%d checks are under way; try again later", count);
    rc = resolve(call, req->ref, &draft, e);
    if (rc < 0)
        return rc;
    draft.wait_ms =
        req->wait_ms == 0 ? CHECK_WAIT_DEFAULT_MS : MIN(req->wait_ms, (uint32_t)CHECK_WAIT_MS_MAX);
    draft.until_ms = MIN(call->env->now_ms + draft.wait_ms, call->until_ms);
    draft.number = ++d->check_number;
    c = xmemdup(&draft, sizeof(draft));
    c->nodes = xcalloc(store_count(s, SKEP__KIND__KIND_NODE) + 1, sizeof(*c->nodes));
    for (o = store_first(s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o))) {
        if (takes_part(d, c, (const Skep__Node *)o))
            add_node(d, c, (const Skep__Node *)o);
    }
    DL_APPEND(d->checks, c);
    d->wake_all = true;
    return DISPATCHER_PARKED;
}

/* ---- reports ---- */

static int check_text(const char *at, const char *text, size_t bytes_max, struct err *e)
{
    if (strlen(text) > bytes_max)
        return err_set(e, ERR_INVALID, "%s: longer than %zu bytes", at, bytes_max);
    if (!text_printable(text))
        return err_set(e, ERR_INVALID, "%s: contains a control character", at);
    return 0;
}

/* It will be printed on an operator's terminal. */
static int check_report(const Skep__NetworkCheckReport *req, struct err *e)
{
    int rc = check_text("error", req->error, CHECK_TEXT_BYTES_MAX, e);

    for (size_t i = 0; rc == 0 && i < req->n_differences; i++) {
        const Skep__NetworkDifference *x = req->differences[i];

        if (x->network_id[0] != '\0' && !id_valid(x->network_id))
            return err_set(e, ERR_INVALID, "differences[%zu].network_id: not an id", i);
        rc = check_text("differences.what", x->what, CHECK_WHAT_BYTES_MAX, e);
        if (rc == 0)
            rc = check_text("differences.object", x->object, CHECK_TEXT_BYTES_MAX, e);
        if (rc == 0)
            rc = check_text("differences.problem", x->problem, CHECK_TEXT_BYTES_MAX, e);
    }
    return rc;
}

static bool wanted(const struct check *c, const Skep__NetworkDifference *x)
{
    return c->network_id[0] == '\0' || strcmp(x->network_id, c->network_id) == 0 ||
           (x->network_id[0] == '\0' && c->host_tables);
}

static void take_report(struct check *c, struct check_node *n, const Skep__NetworkCheckReport *req)
{
    n->differences = xcalloc(MIN(req->n_differences, (size_t)CHECK_NODE_DIFFERENCES_MAX) + 1,
                             sizeof(*n->differences));
    for (size_t i = 0; i < req->n_differences; i++) {
        Skep__NetworkDifference x = *req->differences[i];

        if (!wanted(c, &x))
            continue;
        n->difference_count++;
        x.node_id = n->id; /* whatever the agent says */
        size_t bytes = skep__network_difference__get_packed_size(&x);
        if (n->listed_count == CHECK_NODE_DIFFERENCES_MAX ||
            c->bytes + bytes > CHECK_DIFFERENCES_BYTES_MAX)
            continue;
        c->bytes += bytes;
        n->differences[n->listed_count++] = (Skep__NetworkDifference *)message_clone(&x.base);
    }
    node_done(c, n, req->error[0] != '\0' ? xstrdup(req->error) : NULL);
}

int dispatcher_check_report(struct dispatcher *d, const struct dispatcher_call *call,
                            const Skep__NetworkCheckReport *req, struct err *e)
{
    struct session *s = session_check(d, call->node_id, req->session_id, e);
    struct check *c;

    if (s == NULL)
        return -ERR_STALE;
    int rc = check_report(req, e);
    if (rc < 0)
        return rc;
    DL_FOREACH(d->checks, c)
    {
        struct check_node *n = node_of(c, call->node_id);

        /* A later check's answer serves earlier ones, too. */
        if (n != NULL && n->waiting && req->check >= c->number)
            take_report(c, n, req);
    }
    return 0;
}

/* ---- answers ---- */

static void time_up(struct check *c)
{
    for (size_t i = 0; i < c->node_count; i++) {
        if (!c->nodes[i].waiting)
            continue;
        if (c->wait_ms % 1000 == 0)
            node_done(c, &c->nodes[i], xasprintf("did not answer within %u s", c->wait_ms / 1000));
        else
            node_done(c, &c->nodes[i], xasprintf("did not answer within %u ms", c->wait_ms));
    }
}

static Skep__NetworkCheckNode *answer_node(const struct core_env *env, struct arena *a,
                                           const struct check_node *n)
{
    Skep__NetworkCheckNode *out = ARENA_NEW(a, Skep__NetworkCheckNode);
    const Skep__Node *node = store_node(env->store, n->id);

    skep__network_check_node__init(out);
    out->node_id = arena_strdup(a, n->id);
    if (node != NULL && node->description != NULL)
        out->hostname = node->description->hostname;
    if (n->error != NULL)
        out->error = arena_strdup(a, n->error);
    out->difference_count = n->difference_count;
    return out;
}

static void answer(const struct core_env *env, struct arena *a, const struct check *c,
                   Skep__NetworkCheckResponse *ret)
{
    size_t differences = 0;

    skep__network_check_response__init(ret);
    for (size_t i = 0; i < c->node_count; i++)
        differences += c->nodes[i].listed_count;
    ret->nodes = arena_array(a, c->node_count, sizeof(*ret->nodes));
    ret->differences = arena_array(a, differences, sizeof(*ret->differences));
    for (size_t i = 0; i < c->node_count; i++) {
        const struct check_node *n = &c->nodes[i];

        ret->nodes[ret->n_nodes++] = answer_node(env, a, n);
        for (size_t k = 0; k < n->listed_count; k++)
            ret->differences[ret->n_differences++] =
                (Skep__NetworkDifference *)message_clone_arena(a, &n->differences[k]->base);
    }
}

bool check_next_call(struct dispatcher *d, const struct core_env *env, struct arena *a,
                     struct dispatcher_due *ret)
{
    struct check *c;

    DL_FOREACH(d->checks, c)
    {
        if (c->waiting_count > 0 && env->now_ms < c->until_ms)
            continue;
        time_up(c);
        answer(env, a, c, &ret->check);
        ret->kind = DISPATCHER_CHECK;
        ret->call = c->call;
        check_free(d, c);
        return true;
    }
    return false;
}

void *check_take_call(struct dispatcher *d)
{
    struct check *c = d->checks;
    void *call;

    if (c == NULL)
        return NULL;
    call = c->call;
    check_free(d, c);
    return call;
}

void check_clear(struct dispatcher *d)
{
    while (d->checks != NULL)
        check_free(d, d->checks);
}

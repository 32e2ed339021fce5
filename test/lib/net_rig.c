#include "test/lib/net_rig.h"

#include <string.h>

#include "common/assert.h"

enum { WAIT_MS = 30000 };

void net_rig_init(struct net_rig *r)
{
    *r = (struct net_rig){ .d = dispatcher_new() };
    core_rig_init(&r->core, &dispatcher_ops, r->d);
}

void net_rig_deinit(struct net_rig *r)
{
    while (dispatcher_take_call(r->d) != NULL)
        ;
    for (size_t i = 0; i < r->agent_count; i++) {
        net_mirror_deinit(&r->agents[i].mirror);
        free(r->agents[i].tasks);
    }
    dispatcher_free(r->d);
    arena_deinit(&r->arena);
    core_rig_deinit(&r->core);
}

void net_rig_new_leader(struct net_rig *r)
{
    while (dispatcher_take_call(r->d) != NULL)
        ;
    dispatcher_ops.stop(r->d);
    core_rig_start(&r->core);
    for (size_t i = 0; i < r->agent_count; i++)
        r->agents[i].parked = r->agents[i].tasks_parked = false;
}

/* ---- objects ---- */

static Skep__NodeDescription *description(struct net_rig *r, const char *id)
{
    Skep__NodeDescription *d = ARENA_NEW(&r->core.f.arena, Skep__NodeDescription);
    const Skep__Node *node = store_node(r->core.f.s, id);

    skep__node_description__init(d);
    d->hostname = fixture_str(&r->core.f, id);
    d->resources = ARENA_NEW(&r->core.f.arena, Skep__Resources);
    skep__resources__init(d->resources);
    d->network = ARENA_NEW(&r->core.f.arena, Skep__NodeNetwork);
    skep__node_network__init(d->network);
    if (node != NULL && node->description != NULL && node->description->network != NULL)
        d->network->data_path_address =
            fixture_str(&r->core.f, node->description->network->data_path_address);
    return d;
}

void net_rig_node(struct net_rig *r, const char *id, unsigned number)
{
    Skep__Node *n = fixture_node(&r->core.f, id, id);

    n->description = description(r, id);
    n->description->network->data_path_address =
        arena_printf(&r->core.f.arena, "10.77.0.%u", number);
    core_rig_add(&r->core, n);
}

void net_rig_node_state(struct net_rig *r, const char *id, Skep__NodeState state)
{
    Skep__Node *n = fixture_edit(&r->core.f, SKEP__KIND__KIND_NODE, id);

    n->status->state = state;
    core_rig_update(&r->core, n);
}

Skep__Network *net_rig_network(struct net_rig *r, const char *id, uint32_t vni)
{
    struct arena *a = &r->core.f.arena;
    Skep__Network *n = ARENA_NEW(a, Skep__Network);

    skep__network__init(n);
    n->id = fixture_str(&r->core.f, id);
    n->spec = ARENA_NEW(a, Skep__NetworkSpec);
    skep__network_spec__init(n->spec);
    n->spec->annotations = ARENA_NEW(a, Skep__Annotations);
    skep__annotations__init(n->spec->annotations);
    n->spec->annotations->name = arena_printf(a, "net-%s", id);
    n->spec->driver = ARENA_NEW(a, Skep__Driver);
    skep__driver__init(n->spec->driver);
    n->spec->driver->name = fixture_str(&r->core.f, "overlay");
    n->vni = vni;
    n->mtu = 1450;
    core_rig_add(&r->core, n);
    return n;
}

void net_rig_ingress(struct net_rig *r, const char *id, uint32_t vni)
{
    Skep__Network *n = net_rig_network(r, id, 0);

    n->spec->ingress = true;
    n->vni = vni;
    core_rig_update(&r->core, n);
}

/* The next word of *at, NULL at the end. */
static char *word(struct arena *a, const char **at)
{
    *at += strspn(*at, " ");
    size_t size = strcspn(*at, " ");

    if (size == 0)
        return NULL;
    char *w = arena_printf(a, "%.*s", (int)size, *at);
    *at += size;
    return w;
}

void net_rig_service(struct net_rig *r, const char *id, const char *networks, bool dnsrr)
{
    struct arena *a = &r->core.f.arena;
    Skep__Service *s = fixture_service(&r->core.f, id, id, 1);
    Skep__TaskSpec *task = s->spec->task;
    const char *name;

    s->endpoint = ARENA_NEW(a, Skep__Endpoint);
    skep__endpoint__init(s->endpoint);
    if (dnsrr)
        s->spec->endpoint->mode = SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR;
    s->endpoint->spec = s->spec->endpoint;
    task->networks = arena_array(a, strlen(networks) + 1, sizeof(*task->networks));
    s->endpoint->virtual_ips = arena_array(a, strlen(networks) + 1, sizeof(Skep__VirtualIp *));
    while ((name = word(a, &networks)) != NULL) {
        Skep__NetworkAttachmentConfig *c = ARENA_NEW(a, Skep__NetworkAttachmentConfig);
        Skep__VirtualIp *vip = ARENA_NEW(a, Skep__VirtualIp);

        skep__network_attachment_config__init(c);
        c->target = (char *)(uintptr_t)name;
        c->n_aliases = dnsrr ? 0 : 1;
        c->aliases = arena_array(a, 1, sizeof(char *));
        c->aliases[0] = arena_printf(a, "%s-in-%s", id, name);
        task->networks[task->n_networks++] = c;
        skep__virtual_ip__init(vip);
        vip->network_id = c->target;
        vip->address = arena_printf(a, "10.0.9.%zu/24", s->endpoint->n_virtual_ips + 1);
        if (!dnsrr)
            s->endpoint->virtual_ips[s->endpoint->n_virtual_ips++] = vip;
    }
    core_rig_add(&r->core, s);
}

void net_rig_task(struct net_rig *r, const char *id, const char *service_id, const char *node_id,
                  const char *networks)
{
    struct arena *a = &r->core.f.arena;
    Skep__Task *t = fixture_task(&r->core.f, id, service_id, 1);
    const char *name;

    t->node_id = fixture_str(&r->core.f, node_id);
    t->status->state = SKEP__TASK_STATE__TASK_ASSIGNED;
    t->networks = arena_array(a, strlen(networks) + 1, sizeof(*t->networks));
    while ((name = word(a, &networks)) != NULL) {
        Skep__NetworkAttachment *n = ARENA_NEW(a, Skep__NetworkAttachment);

        skep__network_attachment__init(n);
        n->network_id = (char *)(uintptr_t)name;
        n->n_addresses = 1;
        n->addresses = arena_array(a, 1, sizeof(char *));
        n->addresses[0] = arena_printf(a, "10.0.1.%zu/24", t->n_networks + 1);
        t->networks[t->n_networks++] = n;
    }
    core_rig_add(&r->core, t);
}

void net_rig_task_state(struct net_rig *r, const char *id, Skep__TaskState state)
{
    core_rig_delta(&r->core, id, SKEP__TASK_STATE__TASK_NEW, (int)state);
}

void net_rig_task_desired(struct net_rig *r, const char *id, Skep__TaskState desired)
{
    core_rig_delta(&r->core, id, desired, -1);
}

/* ---- agents ---- */

static struct core_env env(struct net_rig *r)
{
    return (struct core_env){ .store = r->core.f.s,
                              .now_ms = r->core.now_ms,
                              .wall_ns = r->core.f.wall_ns,
                              .prng = &r->core.f.prng };
}

static struct net_agent *agent_get(struct net_rig *r, const char *node_id)
{
    for (size_t i = 0; i < r->agent_count; i++) {
        if (strcmp(r->agents[i].node_id, node_id) == 0)
            return &r->agents[i];
    }
    ASSERT(r->agent_count < NET_RIG_AGENTS_MAX);
    struct net_agent *a = &r->agents[r->agent_count++];
    (void)snprintf(a->node_id, sizeof(a->node_id), "%s", node_id);
    a->tasks = xcalloc(NET_RIG_TASKS_MAX, sizeof(*a->tasks));
    return a;
}

struct net_agent *net_rig_agent(struct net_rig *r, const char *node_id)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env e = env(r);
    struct net_agent *a = agent_get(r, node_id);
    struct dispatcher_call c = {
        .env = &e, .node_id = node_id, .address = "10.1.1.1", .arena = &arena
    };
    Skep__SessionRequest req = SKEP__SESSION_REQUEST__INIT;
    Skep__SessionResponse answer;
    struct err error = { 0 };

    req.description = description(r, node_id);
    int rc = dispatcher_open(r->d, &c, &req, &answer, &error);
    ASSERT(rc == 0);
    memcpy(a->session, answer.session_id, sizeof(a->session));
    a->mirror.token = 0;
    a->tasks_token = 0;
    (void)core_rig_run(&r->core); /* READY */
    return a;
}

static void take_networks(struct net_agent *a, const Skep__NetworksResponse *resp)
{
    net_mirror_apply(&a->mirror, resp);
    if (resp->check != 0)
        a->check = resp->check;
}

bool net_rig_ask(struct net_rig *r, struct net_agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env e = env(r);
    struct dispatcher_call c = { .env = &e,
                                 .node_id = a->node_id,
                                 .arena = &arena,
                                 .call = &a->mirror,
                                 .until_ms = e.now_ms + WAIT_MS };
    Skep__NetworksRequest req = SKEP__NETWORKS_REQUEST__INIT;
    Skep__NetworksResponse answer;
    struct err error = { 0 };

    req.session_id = a->session;
    req.since = a->mirror.token;
    int rc = dispatcher_networks(r->d, &c, &req, &answer, &error);
    ASSERT(rc >= 0);
    a->parked = rc == DISPATCHER_PARKED;
    if (!a->parked)
        take_networks(a, &answer);
    return !a->parked;
}

static void forget_task(struct net_agent *a, const char *id)
{
    for (size_t i = 0; i < a->task_count; i++) {
        if (strcmp(a->tasks[i].id, id) == 0)
            a->tasks[i--] = a->tasks[--a->task_count];
    }
}

static void take_tasks(struct net_agent *a, const Skep__AssignmentsResponse *resp)
{
    if (resp->complete)
        a->task_count = 0;
    for (size_t i = 0; i < resp->n_tasks; i++) {
        const Skep__Task *t = resp->tasks[i]->task;

        forget_task(a, t->id);
        ASSERT(a->task_count < NET_RIG_TASKS_MAX);
        (void)snprintf(a->tasks[a->task_count].id, ID_CHARS + 1, "%s", t->id);
        a->tasks[a->task_count++].desired = t->desired_state;
    }
    for (size_t i = 0; i < resp->n_removed_tasks; i++)
        forget_task(a, resp->removed_tasks[i]);
    a->tasks_token = resp->token;
}

bool net_rig_ask_tasks(struct net_rig *r, struct net_agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env e = env(r);
    struct dispatcher_call c = { .env = &e,
                                 .node_id = a->node_id,
                                 .arena = &arena,
                                 .call = a->tasks,
                                 .until_ms = e.now_ms + WAIT_MS };
    Skep__AssignmentsRequest req = SKEP__ASSIGNMENTS_REQUEST__INIT;
    Skep__AssignmentsResponse answer;
    struct err error = { 0 };

    req.session_id = a->session;
    req.since = a->tasks_token;
    int rc = dispatcher_assignments(r->d, &c, &req, &answer, &error);
    ASSERT(rc >= 0);
    a->tasks_parked = rc == DISPATCHER_PARKED;
    if (!a->tasks_parked)
        take_tasks(a, &answer);
    return !a->tasks_parked;
}

static void take_due(struct net_rig *r, const struct dispatcher_due *due)
{
    for (size_t i = 0; i < r->agent_count; i++) {
        struct net_agent *a = &r->agents[i];

        if (due->call == &a->mirror) {
            a->parked = false;
            a->refused += due->rc < 0;
            if (due->rc == 0)
                take_networks(a, &due->networks);
            return;
        }
        if (due->call == a->tasks) {
            a->tasks_parked = false;
            if (due->rc == 0)
                take_tasks(a, &due->assignments);
            return;
        }
    }
    r->answered = due->call;
    r->check = due->check;
}

static void beat(struct net_rig *r, const struct net_agent *a)
{
    struct core_env e = env(r);
    struct dispatcher_call c = { .env = &e, .node_id = a->node_id, .address = "10.1.1.1" };
    Skep__HeartbeatRequest req = SKEP__HEARTBEAT_REQUEST__INIT;
    uint32_t unused;
    struct err error = { 0 };

    req.session_id = (char *)(uintptr_t)a->session;
    if (a->silent || !dispatcher_session_valid(r->d, a->node_id, a->session))
        return;
    int rc = dispatcher_beat(r->d, &c, &req, &unused, &error);
    ASSERT(rc == 0);
}

void net_rig_step(struct net_rig *r)
{
    struct dispatcher_due due;

    for (size_t i = 0; i < r->agent_count; i++)
        beat(r, &r->agents[i]);
    (void)core_rig_run(&r->core);
    for (int quiet = 0; quiet < 2;) { /* a burst of answers ends with a false, too */
        struct core_env e = env(r);

        if (!dispatcher_next_call(r->d, &e, &r->arena, &due)) {
            quiet++;
            continue;
        }
        quiet = 0;
        take_due(r, &due);
    }
}

void net_rig_settle(struct net_rig *r)
{
    int rounds = 0;

    for (bool again = true; again;) {
        again = false;
        ASSERT(++rounds < 100);
        for (size_t i = 0; i < r->agent_count; i++) {
            struct net_agent *a = &r->agents[i];

            if (!dispatcher_session_valid(r->d, a->node_id, a->session))
                continue;
            for (int asked = 0; !a->parked; asked++) {
                ASSERT(asked < 1000);
                (void)net_rig_ask(r, a);
            }
            while (!a->tasks_parked)
                (void)net_rig_ask_tasks(r, a);
        }
        net_rig_step(r);
        for (size_t i = 0; i < r->agent_count; i++) {
            const struct net_agent *a = &r->agents[i];

            again = again || (dispatcher_session_valid(r->d, a->node_id, a->session) &&
                              (!a->parked || !a->tasks_parked));
        }
    }
}

int net_rig_told(const struct net_agent *a, const char *task_id)
{
    for (size_t i = 0; i < a->task_count; i++) {
        if (strcmp(a->tasks[i].id, task_id) == 0)
            return (int)a->tasks[i].desired;
    }
    return -1;
}

int net_rig_endpoint(const struct net_agent *a, const char *task_id)
{
    const Skep__NetworkRecord *r =
        net_mirror_find(&a->mirror, SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT, task_id);

    return r != NULL ? (int)r->endpoint->state : -1;
}

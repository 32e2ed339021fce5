#include "test/lib/ctl_fake.h"

#include <string.h>

#include "common/assert.h"
#include "common/text.h"
#include "ctl/cmd.h"
#include "ctl/parse.h"

static void answer(struct client_flight *f, const ProtobufCMessage *m)
{
    f->done = true;
    f->answered = true;
    f->body_size = protobuf_c_message_get_packed_size(m);
    f->body = xmalloc(f->body_size + 1);
    (void)protobuf_c_message_pack(m, f->body);
}

static void refuse(struct client_flight *f, int code, const char *why)
{
    f->done = true;
    f->answered = true;
    f->rc = err_set(&f->e, (enum err_code)code, "%s", why);
}

static const char *id_of(const Skep__Object *o)
{
    return o->object_case == SKEP__OBJECT__OBJECT_SERVICE   ? o->service->id
           : o->object_case == SKEP__OBJECT__OBJECT_NODE    ? o->node->id
           : o->object_case == SKEP__OBJECT__OBJECT_TASK    ? o->task->id
           : o->object_case == SKEP__OBJECT__OBJECT_NETWORK ? o->network->id
                                                            : "";
}

static Skep__Kind kind_of(const Skep__Object *o)
{
    return o->object_case == SKEP__OBJECT__OBJECT_SERVICE   ? SKEP__KIND__KIND_SERVICE
           : o->object_case == SKEP__OBJECT__OBJECT_NODE    ? SKEP__KIND__KIND_NODE
           : o->object_case == SKEP__OBJECT__OBJECT_NETWORK ? SKEP__KIND__KIND_NETWORK
                                                            : SKEP__KIND__KIND_TASK;
}

static bool named(const Skep__Object *o, const char *ref)
{
    if (strncmp(id_of(o), ref, strlen(ref)) == 0)
        return true;
    if (o->object_case == SKEP__OBJECT__OBJECT_NETWORK)
        return strcmp(o->network->spec->annotations->name, ref) == 0;
    return o->object_case == SKEP__OBJECT__OBJECT_SERVICE &&
           strcmp(o->service->spec->annotations->name, ref) == 0;
}

static void fake_get(struct fake *k, const Skep__ObjectGetRequest *r, struct client_flight *f)
{
    Skep__ObjectGetResponse out = SKEP__OBJECT_GET_RESPONSE__INIT;

    for (size_t i = 0; i < k->object_count; i++) {
        if (kind_of(k->objects[i]) == r->kind && named(k->objects[i], r->ref)) {
            out.object = k->objects[i];
            answer(f, &out.base);
            return;
        }
    }
    refuse(f, ERR_NOT_FOUND, arena_printf(&k->arena, "%s not found", r->ref));
}

/* One object per page, so that paging is used. */
static void fake_list(struct fake *k, const Skep__ObjectListRequest *r, struct client_flight *f)
{
    Skep__ObjectListResponse out = SKEP__OBJECT_LIST_RESPONSE__INIT;
    Skep__ServiceStatus status = SKEP__SERVICE_STATUS__INIT;
    Skep__ServiceStatus *statuses[1] = { &status };
    Skep__Object *one[1];

    for (size_t i = 0; i < k->object_count; i++) {
        if (kind_of(k->objects[i]) != r->kind)
            continue;
        if (r->after_id[0] != '\0' && strcmp(id_of(k->objects[i]), r->after_id) <= 0)
            continue;
        if (out.n_objects == 1) {
            out.more = true;
            break;
        }
        one[0] = k->objects[i];
        out.objects = one;
        out.n_objects = 1;
        if (r->service_status) {
            status.service_id = k->objects[i]->service->id;
            status.running = 1;
            status.desired = 2;
            out.statuses = statuses;
            out.n_statuses = 1;
        }
    }
    answer(f, &out.base);
}

static void fake_info(const struct fake *k, struct client_flight *f)
{
    Skep__InfoResponse out = SKEP__INFO_RESPONSE__INIT;
    Skep__ManagerInfo self = SKEP__MANAGER_INFO__INIT;
    Skep__ManagerInfo other = SKEP__MANAGER_INFO__INIT;
    Skep__ManagerInfo *members[2] = { &self, &other };

    out.state = SKEP__INFO_RESPONSE__STATE__ACTIVE;
    out.node_id = (char *)(uintptr_t)FAKE_NODE;
    out.is_manager = true;
    out.quorum = !k->no_leader;
    self.node_id = out.node_id;
    self.hostname = (char *)(uintptr_t) "m1";
    self.address = (char *)(uintptr_t) "10.0.0.1:2377";
    self.voter = other.voter = true;
    other.node_id = (char *)(uintptr_t) "other";
    other.hostname = (char *)(uintptr_t) "m2";
    other.address = (char *)(uintptr_t) "10.0.0.2:2377";
    other.last_contact_ms = 12000;
    out.members = members;
    out.n_members = 2;
    answer(f, &out.base);
}

static void fake_create(struct fake *k, const Skep__ServiceCreateRequest *r,
                        struct client_flight *f)
{
    Skep__ServiceCreateResponse out = SKEP__SERVICE_CREATE_RESPONSE__INIT;
    Skep__Service service = SKEP__SERVICE__INIT;

    k->sent = (Skep__ServiceSpec *)client_clone(&k->arena, &r->spec->base);
    service.id = (char *)(uintptr_t)FAKE_WEB;
    out.service = &service;
    answer(f, &out.base);
}

static void fake_update(struct fake *k, const Skep__ServiceUpdateRequest *r,
                        struct client_flight *f)
{
    Skep__ServiceUpdateResponse out = SKEP__SERVICE_UPDATE_RESPONSE__INIT;

    if (k->conflicts > 0) {
        k->conflicts--;
        refuse(f, ERR_CONFLICT, "update out of sequence");
        return;
    }
    k->sent = r->spec != NULL ? (Skep__ServiceSpec *)client_clone(&k->arena, &r->spec->base) : NULL;
    k->sent_version = r->spec_version;
    k->sent_rollback = r->rollback;
    answer(f, &out.base);
}

static void fake_network_create(struct fake *k, const Skep__NetworkCreateRequest *r,
                                struct client_flight *f)
{
    Skep__NetworkCreateResponse out = SKEP__NETWORK_CREATE_RESPONSE__INIT;
    Skep__Network network = SKEP__NETWORK__INIT;

    k->sent_network = (Skep__NetworkSpec *)client_clone(&k->arena, &r->spec->base);
    network.id = (char *)(uintptr_t)FAKE_NET;
    out.network = &network;
    answer(f, &out.base);
}

static void fake_network(struct fake *k, const struct client_wire *w, struct client_flight *f)
{
    if (w->method == SKEP__METHOD__METHOD_NETWORK_CREATE) {
        fake_network_create(k, (const Skep__NetworkCreateRequest *)w->body, f);
    } else if (w->method == SKEP__METHOD__METHOD_NETWORK_REMOVE) {
        k->removed_network =
            arena_strdup(&k->arena, ((const Skep__NetworkRemoveRequest *)w->body)->ref);
        answer(f, &((Skep__InfoRequest)SKEP__INFO_REQUEST__INIT).base);
    } else if (w->method == SKEP__METHOD__METHOD_NETWORK_CHECK && k->check != NULL) {
        answer(f, &k->check->base);
    } else {
        refuse(f, ERR_UNSUPPORTED, "not faked");
    }
}

static void note_request_id(struct fake *k, const struct client_wire *w)
{
    if (w->request_id == NULL)
        return;
    if (k->mutations++ > 0)
        k->ids_differ |= memcmp(k->last_id, w->request_id, sizeof(k->last_id)) != 0;
    memcpy(k->last_id, w->request_id, sizeof(k->last_id));
}

static bool stale_read(const struct client_wire *w)
{
    return (w->method == SKEP__METHOD__METHOD_OBJECT_GET &&
            ((const Skep__ObjectGetRequest *)w->body)->stale) ||
           (w->method == SKEP__METHOD__METHOD_OBJECT_LIST &&
            ((const Skep__ObjectListRequest *)w->body)->stale);
}

static int fake_start(void *ctx, const struct client_wire *w, struct client_flight *f,
                      struct err *e)
{
    struct fake *k = ctx;

    (void)e;
    note_request_id(k, w);
    if (w->method == SKEP__METHOD__METHOD_INFO) {
        fake_info(k, f);
    } else if (k->silent) {
        ASSERT(k->held_count < FAKE_HELD_MAX);
        k->held[k->held_count++] = f;
    } else if ((k->leaderless > 0 || k->no_leader) && !stale_read(w)) {
        k->leaderless--;
        refuse(f, ERR_NOT_LEADER, "not the leader");
    } else if (w->method == SKEP__METHOD__METHOD_OBJECT_GET) {
        fake_get(k, (const Skep__ObjectGetRequest *)w->body, f);
    } else if (w->method == SKEP__METHOD__METHOD_OBJECT_LIST) {
        fake_list(k, (const Skep__ObjectListRequest *)w->body, f);
    } else if (w->method == SKEP__METHOD__METHOD_SERVICE_CREATE) {
        fake_create(k, (const Skep__ServiceCreateRequest *)w->body, f);
    } else if (w->method == SKEP__METHOD__METHOD_SERVICE_UPDATE) {
        fake_update(k, (const Skep__ServiceUpdateRequest *)w->body, f);
    } else if (w->method == SKEP__METHOD__METHOD_SERVICE_REMOVE) {
        answer(f, &((Skep__InfoRequest)SKEP__INFO_REQUEST__INIT).base);
    } else {
        fake_network(k, w, f);
    }
    return 0;
}

static int fake_wait(void *ctx, uint32_t wait_ms, struct err *e)
{
    struct fake *k = ctx;

    (void)e;
    k->now_ms += wait_ms > 0 ? wait_ms : 1;
    return 0;
}

static uint64_t fake_now(void *ctx)
{
    return ((struct fake *)ctx)->now_ms;
}

static Skep__Meta *meta_of(struct fake *k, uint64_t spec_version)
{
    Skep__Meta *m = ARENA_NEW(&k->arena, Skep__Meta);

    skep__meta__init(m);
    m->version = m->spec_version = spec_version;
    m->created_at = m->updated_at = FAKE_NOW_NS - 300 * TEXT_NS_PER_S;
    return m;
}

static Skep__Object *add_object(struct fake *k, Skep__Object__ObjectCase which)
{
    Skep__Object *o = ARENA_NEW(&k->arena, Skep__Object);

    skep__object__init(o);
    o->object_case = which;
    k->objects[k->object_count++] = o;
    return o;
}

static Skep__Service *add_service(struct fake *k, const char *id, const char *name)
{
    Skep__Service *s = ARENA_NEW(&k->arena, Skep__Service);

    skep__service__init(s);
    s->id = arena_strdup(&k->arena, id);
    s->meta = meta_of(k, 7);
    s->spec = ARENA_NEW(&k->arena, Skep__ServiceSpec);
    skep__service_spec__init(s->spec);
    s->spec->annotations = ARENA_NEW(&k->arena, Skep__Annotations);
    skep__annotations__init(s->spec->annotations);
    s->spec->annotations->name = arena_strdup(&k->arena, name);
    s->spec->mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    s->spec->replicated = ARENA_NEW(&k->arena, Skep__ReplicatedMode);
    skep__replicated_mode__init(s->spec->replicated);
    s->spec->replicated->replicas = 2;
    s->spec->task = ARENA_NEW(&k->arena, Skep__TaskSpec);
    skep__task_spec__init(s->spec->task);
    s->spec->task->container = ARENA_NEW(&k->arena, Skep__ContainerSpec);
    skep__container_spec__init(s->spec->task->container);
    s->spec->task->container->image = arena_strdup(&k->arena, "nginx:1");
    LIST_ADD(&k->arena, s->spec->task->container->n_env, s->spec->task->container->env,
             arena_strdup(&k->arena, "A=1"));
    LIST_ADD(&k->arena, s->spec->task->container->n_env, s->spec->task->container->env,
             arena_strdup(&k->arena, "B=2"));
    add_object(k, SKEP__OBJECT__OBJECT_SERVICE)->service = s;
    return s;
}

static void add_port(struct fake *k, Skep__Service *s, uint32_t published, uint32_t target)
{
    Skep__PortConfig *p = ARENA_NEW(&k->arena, Skep__PortConfig);

    if (s->endpoint == NULL) {
        s->endpoint = ARENA_NEW(&k->arena, Skep__Endpoint);
        skep__endpoint__init(s->endpoint);
        s->spec->endpoint = ARENA_NEW(&k->arena, Skep__EndpointSpec);
        skep__endpoint_spec__init(s->spec->endpoint);
    }
    skep__port_config__init(p);
    p->published_port = published;
    p->target_port = target;
    LIST_ADD(&k->arena, s->endpoint->n_ports, s->endpoint->ports, p);
    LIST_ADD(&k->arena, s->spec->endpoint->n_ports, s->spec->endpoint->ports, p);
}

static void add_task(struct fake *k, const char *id, uint64_t slot, Skep__TaskState state,
                     const char *error)
{
    Skep__Task *t = ARENA_NEW(&k->arena, Skep__Task);

    skep__task__init(t);
    t->id = arena_strdup(&k->arena, id);
    t->meta = meta_of(k, 7);
    t->meta->created_at -= state == SKEP__TASK_STATE__TASK_FAILED ? TEXT_NS_PER_S : 0;
    t->service_id = arena_strdup(&k->arena, FAKE_WEB);
    t->spec_version = 7;
    t->slot = slot;
    t->node_id = arena_strdup(&k->arena, FAKE_NODE);
    t->desired_state = state > SKEP__TASK_STATE__TASK_RUNNING ? SKEP__TASK_STATE__TASK_SHUTDOWN
                                                              : SKEP__TASK_STATE__TASK_RUNNING;
    t->status = ARENA_NEW(&k->arena, Skep__TaskStatus);
    skep__task_status__init(t->status);
    t->status->state = state;
    t->status->timestamp = FAKE_NOW_NS - 300 * TEXT_NS_PER_S;
    t->status->error = arena_strdup(&k->arena, error);
    add_object(k, SKEP__OBJECT__OBJECT_TASK)->task = t;
}

static void add_node(struct fake *k)
{
    Skep__Node *n = ARENA_NEW(&k->arena, Skep__Node);

    skep__node__init(n);
    n->id = arena_strdup(&k->arena, FAKE_NODE);
    n->meta = meta_of(k, 3);
    n->spec = ARENA_NEW(&k->arena, Skep__NodeSpec);
    skep__node_spec__init(n->spec);
    n->description = ARENA_NEW(&k->arena, Skep__NodeDescription);
    skep__node_description__init(n->description);
    n->description->hostname = arena_strdup(&k->arena, "host-1");
    n->status = ARENA_NEW(&k->arena, Skep__NodeStatus);
    skep__node_status__init(n->status);
    n->status->state = SKEP__NODE_STATE__NODE_READY;
    n->manager = ARENA_NEW(&k->arena, Skep__ManagerStatus);
    skep__manager_status__init(n->manager);
    n->manager->leader = true;
    add_object(k, SKEP__OBJECT__OBJECT_NODE)->node = n;
}

/* FAKE_WEB and its first task are in it. */
static void add_network(struct fake *k, Skep__Service *s)
{
    Skep__Network *n = ARENA_NEW(&k->arena, Skep__Network);
    Skep__IpamConfig *ipam = ARENA_NEW(&k->arena, Skep__IpamConfig);
    Skep__VirtualIp *vip = ARENA_NEW(&k->arena, Skep__VirtualIp);

    skep__network__init(n);
    n->id = arena_strdup(&k->arena, FAKE_NET);
    n->meta = meta_of(k, 5);
    n->spec = ARENA_NEW(&k->arena, Skep__NetworkSpec);
    skep__network_spec__init(n->spec);
    n->spec->annotations = ARENA_NEW(&k->arena, Skep__Annotations);
    skep__annotations__init(n->spec->annotations);
    n->spec->annotations->name = arena_strdup(&k->arena, "back");
    n->spec->driver = ARENA_NEW(&k->arena, Skep__Driver);
    skep__driver__init(n->spec->driver);
    n->spec->driver->name = arena_strdup(&k->arena, "overlay");
    n->spec->scope = arena_strdup(&k->arena, "swarm");
    n->vni = 4097;
    n->mtu = 1450;
    skep__ipam_config__init(ipam);
    ipam->subnet = arena_strdup(&k->arena, "10.0.16.0/20");
    ipam->gateway = arena_strdup(&k->arena, "10.0.16.1");
    LIST_ADD(&k->arena, n->n_ipam, n->ipam, ipam);
    skep__virtual_ip__init(vip);
    vip->network_id = n->id;
    vip->address = arena_strdup(&k->arena, "10.0.16.2/20");
    LIST_ADD(&k->arena, s->endpoint->n_virtual_ips, s->endpoint->virtual_ips, vip);
    add_object(k, SKEP__OBJECT__OBJECT_NETWORK)->network = n;
}

static void attach_task(struct fake *k, Skep__Task *t)
{
    Skep__NetworkAttachment *at = ARENA_NEW(&k->arena, Skep__NetworkAttachment);

    skep__network_attachment__init(at);
    at->network_id = arena_strdup(&k->arena, FAKE_NET);
    LIST_ADD(&k->arena, at->n_addresses, at->addresses, arena_strdup(&k->arena, "10.0.16.3/20"));
    LIST_ADD(&k->arena, t->n_networks, t->networks, at);
}

/* Objects in id order, as the manager lists them. */
void fake_fill(struct fake *k)
{
    Skep__Service *web;

    (void)add_service(k, FAKE_API, "api10");
    web = add_service(k, FAKE_WEB, "api9");
    add_port(k, web, 8081, 81);
    add_port(k, web, 8080, 80);
    add_node(k);
    add_network(k, web);
    add_task(k, "task100000000000000000000", 1, SKEP__TASK_STATE__TASK_RUNNING, "");
    attach_task(k, k->objects[k->object_count - 1]->task);
    add_task(k, "task200000000000000000000", 1, SKEP__TASK_STATE__TASK_FAILED,
             "task: non-zero exit (137): out of memory");
}

/* ---- running ---- */

struct result fake_run(struct fake *k, const char *const args[])
{
    struct client_transport t = {
        .start = fake_start, .wait = fake_wait, .now_ms = fake_now, .ctx = k, .name = "fake"
    };
    struct result r = { 0 };
    size_t out_size = 0;
    size_t err_size = 0;
    struct ctl c = { .now_ns = FAKE_NOW_NS };
    int count = 0;

    c.out = open_memstream(&r.out, &out_size);
    c.err = open_memstream(&r.err, &err_size);
    c.client = k != NULL ? client_new(&t, 20000) : NULL;
    while (args[count] != NULL)
        count++;
    r.status = cmd_main(&c, count, (char *const *)(uintptr_t)args);
    (void)fclose(c.out);
    (void)fclose(c.err);
    return r;
}

void result_free(struct result *r)
{
    free(r->out);
    free(r->err);
}

void fake_deinit(struct fake *k)
{
    for (size_t i = 0; i < k->held_count; i++)
        free(k->held[i]); /* the real transport frees what was abandoned */
    arena_deinit(&k->arena);
}

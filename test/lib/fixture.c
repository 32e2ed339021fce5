#include "test/lib/fixture.h"

#include "common/assert.h"
#include "common/message.h"

void fixture_init(struct fixture *f, uint64_t seed)
{
    *f = (struct fixture){ .s = store_new(), .tx = store_tx_new() };
    f->wall_ns = 1700000000000000000;
    prng_init(&f->prng, seed);
}

void fixture_deinit(struct fixture *f)
{
    store_free(f->s);
    store_tx_free(f->tx);
    arena_deinit(&f->arena);
}

int fixture_apply(struct fixture *f, store_event_fn *fn, void *ctx)
{
    uint8_t *data;
    size_t size;

    f->wall_ns += 1000000000;
    f->e = (struct err){ 0 };
    store_tx_pack(f->tx, f->wall_ns, NULL, &data, &size);
    const struct store_listener to = { fn, ctx };
    int rc = store_apply_packed(f->s, ++f->index, (ProtobufCBinaryData){ size, data },
                                fn != NULL ? &to : NULL, &f->e);
    free(data);
    store_tx_clear(f->tx);
    return rc;
}

char *fixture_str(struct fixture *f, const char *s)
{
    return arena_strdup(&f->arena, s);
}

static Skep__Annotations *annotations(struct fixture *f, const char *name)
{
    Skep__Annotations *a = ARENA_NEW(&f->arena, Skep__Annotations);

    skep__annotations__init(a);
    a->name = fixture_str(f, name);
    return a;
}

Skep__Node *fixture_node(struct fixture *f, const char *id, const char *hostname)
{
    Skep__Node *n = ARENA_NEW(&f->arena, Skep__Node);

    skep__node__init(n);
    n->id = fixture_str(f, id);
    n->spec = ARENA_NEW(&f->arena, Skep__NodeSpec);
    skep__node_spec__init(n->spec);
    n->spec->annotations = annotations(f, "");
    n->description = ARENA_NEW(&f->arena, Skep__NodeDescription);
    skep__node_description__init(n->description);
    n->description->hostname = fixture_str(f, hostname);
    n->description->platform = ARENA_NEW(&f->arena, Skep__Platform);
    skep__platform__init(n->description->platform);
    n->description->platform->architecture = fixture_str(f, "x86_64");
    n->description->platform->os = fixture_str(f, "linux");
    n->description->resources = ARENA_NEW(&f->arena, Skep__Resources);
    skep__resources__init(n->description->resources);
    n->description->resources->nano_cpus = 8000000000;
    n->description->resources->memory_bytes = (int64_t)16 << 30;
    n->status = ARENA_NEW(&f->arena, Skep__NodeStatus);
    skep__node_status__init(n->status);
    n->status->state = SKEP__NODE_STATE__NODE_READY;
    n->status->address = fixture_str(f, "10.0.0.1");
    return n;
}

Skep__Service *fixture_service(struct fixture *f, const char *id, const char *name,
                               uint64_t replicas)
{
    Skep__Service *s = ARENA_NEW(&f->arena, Skep__Service);

    skep__service__init(s);
    s->id = fixture_str(f, id);
    s->spec = ARENA_NEW(&f->arena, Skep__ServiceSpec);
    skep__service_spec__init(s->spec);
    s->spec->annotations = annotations(f, name);
    s->spec->mode_case = SKEP__SERVICE_SPEC__MODE_REPLICATED;
    s->spec->replicated = ARENA_NEW(&f->arena, Skep__ReplicatedMode);
    skep__replicated_mode__init(s->spec->replicated);
    s->spec->replicated->replicas = replicas;
    s->spec->task = ARENA_NEW(&f->arena, Skep__TaskSpec);
    skep__task_spec__init(s->spec->task);
    s->spec->task->container = ARENA_NEW(&f->arena, Skep__ContainerSpec);
    skep__container_spec__init(s->spec->task->container);
    s->spec->task->container->image = fixture_str(f, "nginx:1");
    s->spec->task->container->stop_grace_period = 10000000000;
    s->spec->task->restart = ARENA_NEW(&f->arena, Skep__RestartPolicy);
    skep__restart_policy__init(s->spec->task->restart);
    s->spec->task->placement = ARENA_NEW(&f->arena, Skep__Placement);
    skep__placement__init(s->spec->task->placement);
    s->spec->task->resources = ARENA_NEW(&f->arena, Skep__ResourceRequirements);
    skep__resource_requirements__init(s->spec->task->resources);
    s->spec->task->resources->reservations = ARENA_NEW(&f->arena, Skep__Resources);
    skep__resources__init(s->spec->task->resources->reservations);
    s->spec->endpoint = ARENA_NEW(&f->arena, Skep__EndpointSpec);
    skep__endpoint_spec__init(s->spec->endpoint);
    s->spec->update = ARENA_NEW(&f->arena, Skep__UpdateConfig);
    skep__update_config__init(s->spec->update);
    s->spec->update->parallelism = 1;
    return s;
}

Skep__Task *fixture_task(struct fixture *f, const char *id, const char *service_id, uint64_t slot)
{
    Skep__Task *t = ARENA_NEW(&f->arena, Skep__Task);
    const Skep__Service *service = store_service(f->s, service_id);

    skep__task__init(t);
    t->id = fixture_str(f, id);
    t->service_id = fixture_str(f, service_id);
    t->spec_version = service != NULL ? service->meta->spec_version : 0;
    t->slot = slot;
    t->desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    t->status = ARENA_NEW(&f->arena, Skep__TaskStatus);
    skep__task_status__init(t->status);
    t->status->state = SKEP__TASK_STATE__TASK_PENDING;
    return t;
}

Skep__Secret *fixture_secret(struct fixture *f, const char *id, const char *name)
{
    Skep__Secret *s = ARENA_NEW(&f->arena, Skep__Secret);

    skep__secret__init(s);
    s->id = fixture_str(f, id);
    s->spec = ARENA_NEW(&f->arena, Skep__SecretSpec);
    skep__secret_spec__init(s->spec);
    s->spec->annotations = annotations(f, name);
    return s;
}

Skep__Cluster *fixture_cluster(struct fixture *f, const char *id)
{
    Skep__Cluster *c = ARENA_NEW(&f->arena, Skep__Cluster);

    skep__cluster__init(c);
    c->id = fixture_str(f, id);
    c->spec = ARENA_NEW(&f->arena, Skep__ClusterSpec);
    skep__cluster_spec__init(c->spec);
    c->spec->annotations = annotations(f, "default");
    c->spec->task_history_limit = 5;
    return c;
}

void *fixture_edit(struct fixture *f, Skep__Kind kind, const char *id)
{
    const ProtobufCMessage *object = store_get(f->s, kind, id);

    ASSERT(object != NULL);
    return message_clone_arena(&f->arena, object);
}

int fixture_add(struct fixture *f, const void *object)
{
    store_tx_create(f->tx, object);
    return fixture_apply(f, NULL, NULL);
}

int fixture_update(struct fixture *f, const void *object)
{
    store_tx_update(f->tx, object, 0, 0);
    return fixture_apply(f, NULL, NULL);
}

int fixture_remove(struct fixture *f, Skep__Kind kind, const char *id)
{
    store_tx_remove(f->tx, kind, id, 0);
    return fixture_apply(f, NULL, NULL);
}

int fixture_task_delta(struct fixture *f, const char *id, Skep__TaskState desired,
                       const char *node_id, int state)
{
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;

    d.task_id = (char *)(uintptr_t)id;
    d.desired_state = desired;
    d.node_id = (char *)(uintptr_t)node_id;
    status.state = (Skep__TaskState)state;
    if (state >= 0)
        d.status = &status;
    store_tx_task(f->tx, &d);
    return fixture_apply(f, NULL, NULL);
}

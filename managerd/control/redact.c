/* What leaves a manager: objects without secret data, private keys and registry credentials. */
#include "managerd/control/control.h"

static Skep__ServiceSpec *spec_without_auth(struct arena *a, const Skep__ServiceSpec *spec)
{
    if (spec == NULL || spec->task == NULL || spec->task->container == NULL ||
        spec->task->container->registry_auth[0] == '\0')
        return (Skep__ServiceSpec *)spec;
    Skep__ServiceSpec *copy = arena_dup(a, spec, sizeof(*spec));

    copy->task = arena_dup(a, spec->task, sizeof(*spec->task));
    copy->task->container = arena_dup(a, spec->task->container, sizeof(*spec->task->container));
    copy->task->container->registry_auth = (char *)protobuf_c_empty_string;
    return copy;
}

static Skep__Service *service_redacted(struct arena *a, const Skep__Service *service)
{
    Skep__Service *copy = arena_dup(a, service, sizeof(*service));

    copy->spec = spec_without_auth(a, service->spec);
    copy->previous_spec = spec_without_auth(a, service->previous_spec);
    return copy;
}

static Skep__Revision *revision_redacted(struct arena *a, const Skep__Revision *revision)
{
    Skep__Revision *copy = arena_dup(a, revision, sizeof(*revision));

    copy->spec = spec_without_auth(a, revision->spec);
    return copy;
}

static Skep__Secret *secret_redacted(struct arena *a, const Skep__Secret *secret)
{
    Skep__Secret *copy = arena_dup(a, secret, sizeof(*secret));

    if (secret->spec != NULL) {
        copy->spec = arena_dup(a, secret->spec, sizeof(*secret->spec));
        copy->spec->data = (ProtobufCBinaryData){ 0 };
    }
    return copy;
}

static Skep__Network *network_redacted(struct arena *a, const Skep__Network *network)
{
    Skep__Network *copy = arena_dup(a, network, sizeof(*network));

    copy->n_keys = 0;
    copy->keys = NULL;
    return copy;
}

static Skep__Cluster *cluster_redacted(struct arena *a, const Skep__Cluster *cluster)
{
    Skep__Cluster *copy = arena_dup(a, cluster, sizeof(*cluster));

    if (cluster->root_ca != NULL) {
        copy->root_ca = arena_dup(a, cluster->root_ca, sizeof(*cluster->root_ca));
        copy->root_ca->key_pem = (ProtobufCBinaryData){ 0 };
    }
    return copy;
}

/* A dedicated manager has no agent whose heartbeats could say how it is: Raft knows. */
static void complete_status(struct arena *a, Skep__Node *node)
{
    bool described = node->description != NULL && node->description->resources != NULL;

    if (described || node->manager->reachability == SKEP__REACHABILITY__REACHABILITY_UNKNOWN)
        return;
    Skep__NodeStatus *status = ARENA_NEW(a, Skep__NodeStatus);

    skep__node_status__init(status);
    if (node->status != NULL)
        *status = *node->status;
    status->state = node->manager->reachability == SKEP__REACHABILITY__REACHABILITY_REACHABLE
                        ? SKEP__NODE_STATE__NODE_READY
                        : SKEP__NODE_STATE__NODE_DOWN;
    node->status = status;
}

static Skep__Node *node_completed(const struct control_env *env, const Skep__Node *node)
{
    if (node->manager == NULL)
        return (Skep__Node *)node;
    Skep__Node *copy = arena_dup(env->arena, node, sizeof(*node));

    copy->manager = arena_dup(env->arena, node->manager, sizeof(*node->manager));
    for (size_t i = 0; i < env->member_count; i++) {
        const struct control_member *m = &env->members[i];

        if (m->raft_id != node->manager->raft_id)
            continue;
        copy->manager->leader = m->leader;
        copy->manager->reachability = m->reachable ? SKEP__REACHABILITY__REACHABILITY_REACHABLE
                                                   : SKEP__REACHABILITY__REACHABILITY_UNREACHABLE;
    }
    complete_status(env->arena, copy);
    return copy;
}

Skep__Object *control_redacted(const struct control_env *env, const ProtobufCMessage *object)
{
    struct arena *a = env->arena;
    Skep__Object *o = ARENA_NEW(a, Skep__Object);

    skep__object__init(o);
    switch (object_kind(object)) {
    case SKEP__KIND__KIND_NODE:
        o->object_case = SKEP__OBJECT__OBJECT_NODE;
        o->node = node_completed(env, (const Skep__Node *)object);
        break;
    case SKEP__KIND__KIND_SERVICE:
        o->object_case = SKEP__OBJECT__OBJECT_SERVICE;
        o->service = service_redacted(a, (const Skep__Service *)object);
        break;
    case SKEP__KIND__KIND_TASK:
        o->object_case = SKEP__OBJECT__OBJECT_TASK;
        o->task = (Skep__Task *)object;
        break;
    case SKEP__KIND__KIND_NETWORK:
        o->object_case = SKEP__OBJECT__OBJECT_NETWORK;
        o->network = network_redacted(a, (const Skep__Network *)object);
        break;
    case SKEP__KIND__KIND_CLUSTER:
        o->object_case = SKEP__OBJECT__OBJECT_CLUSTER;
        o->cluster = cluster_redacted(a, (const Skep__Cluster *)object);
        break;
    case SKEP__KIND__KIND_SECRET:
        o->object_case = SKEP__OBJECT__OBJECT_SECRET;
        o->secret = secret_redacted(a, (const Skep__Secret *)object);
        break;
    case SKEP__KIND__KIND_CONFIG:
        o->object_case = SKEP__OBJECT__OBJECT_CONFIG;
        o->config = (Skep__Config *)object;
        break;
    case SKEP__KIND__KIND_REVISION:
        o->object_case = SKEP__OBJECT__OBJECT_REVISION;
        o->revision = revision_redacted(a, (const Skep__Revision *)object);
        break;
    case SKEP__KIND__KIND_NONE:
    case _SKEP__KIND_IS_INT_SIZE:
    default:
        break;
    }
    return o;
}

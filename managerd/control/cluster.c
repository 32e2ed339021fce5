/* swarm update, token rotation, and the defaults of a new cluster. */
#include "managerd/control/control.h"
#include "managerd/control/validate.h"

#define SECOND_NS ((int64_t)1000000000)

Skep__ClusterSpec *control_cluster_defaults(struct arena *a)
{
    Skep__ClusterSpec *spec = ARENA_NEW(a, Skep__ClusterSpec);

    skep__cluster_spec__init(spec);
    spec->annotations = ARENA_NEW(a, Skep__Annotations);
    skep__annotations__init(spec->annotations);
    spec->annotations->name = (char *)"default";
    spec->task_history_limit = 5;
    spec->heartbeat_period = 5 * SECOND_NS;
    spec->certificate_expiry = 2160 * 3600 * SECOND_NS;
    spec->snapshot_interval = 10000;
    spec->n_address_pools = 1;
    spec->address_pools = arena_array(a, 1, sizeof(char *));
    spec->address_pools[0] = (char *)"10.0.0.0/8";
    spec->subnet_size = 20;
    spec->data_path_port = 4789;
    return spec;
}

int control_cluster_update(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__ClusterUpdateRequest *req = (const Skep__ClusterUpdateRequest *)request;
    const Skep__Cluster *old = store_cluster(env->core->store);

    if (old == NULL)
        return err_set(e, ERR_NOT_FOUND, "no cluster yet");
    Skep__Cluster cluster = *old;

    if (req->spec_version != 0 && req->spec_version != old->meta->spec_version)
        return err_set(e, ERR_CONFLICT,
                       "update out of sequence: the cluster was changed meanwhile");
    if (req->spec != NULL) {
        int rc = control_validate_cluster(req->spec, env->arena, &cluster.spec, e);

        if (rc < 0)
            return rc;
    }
    if (req->rotate_worker_token)
        cluster.join_token_worker = env->fresh_tokens[0];
    if (req->rotate_manager_token)
        cluster.join_token_manager = env->fresh_tokens[1];
    store_tx_update(tx, &cluster.base, old->meta->version, 0);
    subject->kind = SKEP__KIND__KIND_CLUSTER;
    subject->id = id_from_str(old->id);
    return 0;
}

int control_cluster_updated(const struct control_env *env, const ProtobufCMessage *request,
                            const struct control_subject *subject, ProtobufCMessage **ret_answer,
                            struct err *e)
{
    const Skep__Cluster *cluster = store_cluster(env->core->store);
    Skep__ClusterUpdateResponse *answer = ARENA_NEW(env->arena, Skep__ClusterUpdateResponse);

    (void)request; /* everything is in the store */
    (void)subject;
    if (cluster == NULL)
        return err_set(e, ERR_NOT_FOUND, "no cluster yet");
    skep__cluster_update_response__init(answer);
    answer->cluster = control_redacted(env, &cluster->base)->cluster;
    *ret_answer = &answer->base;
    return 0;
}

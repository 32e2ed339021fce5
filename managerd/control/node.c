/* node update (availability, labels, promote, demote) and rm, with the guards that keep a cluster
 * governable: never the last manager, never the quorum. features.md 3.12, 3.16. */
#include <string.h>

#include "managerd/control/control.h"
#include "managerd/control/validate.h"

static size_t managers_wanted(const struct store *s)
{
    const ProtobufCMessage *o;
    size_t count = 0;

    for (o = store_first(s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o)))
        count += ((const Skep__Node *)o)->spec->desired_role == SKEP__NODE_ROLE__ROLE_MANAGER;
    return count;
}

static int check_demotion(const struct store *s, const Skep__Node *old, const Skep__NodeSpec *spec,
                          struct err *e)
{
    if (old->spec->desired_role != SKEP__NODE_ROLE__ROLE_MANAGER ||
        spec->desired_role == SKEP__NODE_ROLE__ROLE_MANAGER)
        return 0;
    if (managers_wanted(s) <= 1)
        return err_set(e, ERR_PRECONDITION, "attempting to demote the last manager of the swarm");
    return 0;
}

int control_node_update(const struct control_env *env, const ProtobufCMessage *request,
                        struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__NodeUpdateRequest *req = (const Skep__NodeUpdateRequest *)request;
    const ProtobufCMessage *found = NULL;
    int rc = store_resolve(env->core->store, SKEP__KIND__KIND_NODE, req->id, &found, e);

    if (rc < 0)
        return rc;
    const Skep__Node *old = (const Skep__Node *)found;
    Skep__Node node = *old;

    if (req->spec == NULL)
        return err_set(e, ERR_INVALID, "spec: missing");
    if (req->spec_version != 0 && req->spec_version != old->meta->spec_version)
        return err_set(e, ERR_CONFLICT, "update out of sequence: node %s was changed meanwhile",
                       old->id);
    rc = control_validate_node(req->spec, env->arena, &node.spec, e);
    if (rc == 0)
        rc = check_demotion(env->core->store, old, node.spec, e);
    if (rc < 0)
        return rc;
    store_tx_update(tx, &node.base, old->meta->version, 0);
    subject->kind = SKEP__KIND__KIND_NODE;
    subject->id = id_from_str(old->id);
    return 0;
}

int control_node_updated(const struct control_env *env, const ProtobufCMessage *request,
                         const struct control_subject *subject, ProtobufCMessage **ret_answer,
                         struct err *e)
{
    const Skep__Node *node = store_node(env->core->store, subject->id.s);
    Skep__NodeUpdateResponse *answer = ARENA_NEW(env->arena, Skep__NodeUpdateResponse);

    (void)request; /* everything is in the subject */
    if (node == NULL)
        return err_set(e, ERR_NOT_FOUND, "node %s was removed meanwhile", subject->id.s);
    skep__node_update_response__init(answer);
    answer->node = (Skep__Node *)node;
    *ret_answer = &answer->base;
    return 0;
}

static int check_removal(const Skep__Node *node, bool force, struct err *e)
{
    bool down = node->status != NULL && node->status->state == SKEP__NODE_STATE__NODE_DOWN;

    if (node->spec->desired_role == SKEP__NODE_ROLE__ROLE_MANAGER || node->manager != NULL)
        return err_set(e, ERR_PRECONDITION,
                       "node %s is a cluster manager and is a member of the raft cluster. "
                       "It must be demoted to worker before removal",
                       node->id);
    if (!down && !force)
        return err_set(e, ERR_PRECONDITION,
                       "node %s is not down and can't be removed; run 'ctl swarm leave' there, or "
                       "use --force",
                       node->id);
    return 0;
}

/* Its certificate stays valid, so the id is refused until that has expired. */
static void refuse_certificate(const struct control_env *env, const Skep__Node *node,
                               struct store_tx *tx)
{
    const Skep__Cluster *old = store_cluster(env->core->store);
    Skep__Cluster cluster = *old;
    Skep__RemovedNode *removed = ARENA_NEW(env->arena, Skep__RemovedNode);
    size_t kept = 0;

    skep__removed_node__init(removed);
    removed->node_id = node->id;
    removed->expires_at = node->certificate_expires_at;
    cluster.removed_nodes =
        arena_array(env->arena, old->n_removed_nodes + 1, sizeof(*cluster.removed_nodes));
    for (size_t i = 0; i < old->n_removed_nodes; i++) {
        if (old->removed_nodes[i]->expires_at > env->core->wall_ns)
            cluster.removed_nodes[kept++] = old->removed_nodes[i];
    }
    cluster.removed_nodes[kept++] = removed;
    cluster.n_removed_nodes = kept;
    store_tx_update(tx, &cluster.base, old->meta->version, 0);
}

int control_node_remove(const struct control_env *env, const ProtobufCMessage *request,
                        struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__NodeRemoveRequest *req = (const Skep__NodeRemoveRequest *)request;
    const ProtobufCMessage *found = NULL;
    int rc = store_resolve(env->core->store, SKEP__KIND__KIND_NODE, req->ref, &found, e);

    if (rc < 0)
        return rc;
    const Skep__Node *node = (const Skep__Node *)found;

    rc = check_removal(node, req->force, e);
    if (rc < 0)
        return rc;
    store_tx_remove(tx, SKEP__KIND__KIND_NODE, node->id, node->meta->version);
    refuse_certificate(env, node, tx);
    subject->kind = SKEP__KIND__KIND_NODE;
    subject->id = id_from_str(node->id);
    return 0;
}

/* Calls among managers: Raft's messages, joining and leaving. */
#include <string.h>

#include "common/log.h"
#include "managerd/manager.h"
#include "managerd/raft/codec.h"
#include "proto/raft_control.pb-c.h"

/* Nobody sends to a member that was taken out, so it may not know: its messages are answered. */
static int check_still_manager(const struct incoming *in, struct err *e)
{
    const Skep__Node *node = store_node(in->manager->store, in->caller.node_id);

    if (node == NULL || node->role == SKEP__NODE_ROLE__ROLE_MANAGER)
        return 0;
    return err_set(e, ERR_PERMISSION, "node %s is no longer a manager", in->caller.node_id);
}

/* The leader's configuration is the newest: who speaks with a raft id that is not in it was taken
 * out, perhaps without ever hearing so. */
static int check_member(const struct manager *m, const struct raft_message *message, struct err *e)
{
    if (!m->leading || raft_config_find(raft_node_config(m->raft), message->from) != NULL)
        return 0;
    return err_set(e, ERR_NOT_FOUND, "raft id %lx is not, or no longer, a member",
                   (unsigned long)message->from);
}

void raft_call(struct incoming *in)
{
    struct manager *m = in->manager;
    struct raft_message *message = NULL;
    struct err e = { 0 };
    int rc = check_still_manager(in, &e);

    if (rc == 0)
        rc = raft_message_unpack(in->raw->data, in->raw->len, &message, &e);
    if (rc == 0)
        rc = check_member(m, message, &e);
    if (rc == 0)
        rc = raft_node_receive(m->raft, in->caller.node_id, message, &e);
    if (rc == 0)
        manager_note_contact(m, message->from);
    raft_message_free(message);
    if (rc < 0)
        incoming_fail(in, rc, &e);
    else
        incoming_reply(in, NULL);
}

static void on_chunk_stored(void *ctx, int rc, const uint8_t *reply, size_t size,
                            const struct err *e)
{
    struct incoming *in = ctx;

    if (rc < 0) {
        incoming_fail(in, rc, e);
        return;
    }
    Skep__Response response = SKEP__RESPONSE__INIT;

    response.body = (ProtobufCBinaryData){ .len = size, .data = (uint8_t *)reply };
    rpc_reply_raw(in->call, &response);
    incoming_free(in);
}

void raft_snapshot_call(struct incoming *in)
{
    raft_node_receive_chunk(in->manager->raft, in->caller.node_id, in->raw->data, in->raw->len,
                            on_chunk_stored, in);
}

/* ---- membership ---------------------------------------------------------------------------------
 */

static const struct raft_member *member_of_node(const struct manager *m, const char *node_id)
{
    const struct raft_config *config = raft_node_config(m->raft);

    for (uint32_t i = 0; i < config->member_count; i++) {
        if (strcmp(config->members[i].node_id.s, node_id) == 0)
            return &config->members[i];
    }
    return NULL;
}

static void join_answer(struct incoming *in)
{
    Skep__RaftJoinResponse answer = SKEP__RAFT_JOIN_RESPONSE__INIT;

    answer.raft_id = ((const Skep__RaftJoinRequest *)in->request)->raft_id;
    answer.generation = raft_node_generation(in->manager->raft);
    answer.n_managers = peers_addresses(in->manager, &in->arena, &answer.managers);
    incoming_reply(in, &answer.base);
}

static void on_joined(void *ctx, int rc, uint64_t index)
{
    struct incoming *in = ctx;
    struct err e = { 0 };

    (void)index; /* the joiner learns it from the log */
    if (rc < 0) {
        (void)err_set(&e, (enum err_code) - rc,
                      "the cluster could not add this manager: %s; it tries again", err_str(rc));
        incoming_fail(in, rc, &e);
        return;
    }
    join_answer(in);
}

static int join_check(const struct incoming *in, const Skep__RaftJoinRequest *req, struct err *e)
{
    const struct manager *m = in->manager;
    const Skep__Node *node = store_node(m->store, in->caller.node_id);

    if (node == NULL)
        return err_set(e, ERR_PERMISSION, "node %s was removed from this cluster",
                       in->caller.node_id);
    if (node->spec->desired_role != SKEP__NODE_ROLE__ROLE_MANAGER)
        return err_set(e, ERR_PERMISSION, "node %s is not to be a manager; promote it first",
                       in->caller.node_id);
    if (req->raft_id == 0)
        return err_set(e, ERR_INVALID, "raft_id: must not be 0");
    if (req->address[0] == '\0' || strlen(req->address) >= RAFT_ADDRESS_BYTES_MAX ||
        strchr(req->address, ':') == NULL)
        return err_set(e, ERR_INVALID, "address: \"%.64s\" is not host:port", req->address);
    return 0;
}

/* A manager with an empty log asks to be added. Its former membership, if any, is replaced: the
 * old log is gone, so the old member can never speak again. */
void raft_join_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__RaftJoinRequest *req = (const Skep__RaftJoinRequest *)in->request;
    const struct raft_member *old = member_of_node(m, in->caller.node_id);
    struct raft_ev_config_change change = { .change = RAFT_CHANGE_ADD_LEARNER,
                                            .raft_id = req->raft_id,
                                            .incarnation = req->incarnation,
                                            .address = req->address };
    struct err e = { 0 };
    int rc = join_check(in, req, &e);

    if (rc < 0) {
        incoming_fail(in, rc, &e);
        return;
    }
    if (old != NULL && old->raft_id == req->raft_id) {
        join_answer(in);
        return;
    }
    if (old != NULL) {
        change =
            (struct raft_ev_config_change){ .change = RAFT_CHANGE_REMOVE, .raft_id = old->raft_id };
        log_info("raft.rejoin", "node=%s old_raft_id=%lx", in->caller.node_id,
                 (unsigned long)old->raft_id);
        raft_node_change_config(m->raft, &change, NULL, NULL);
        (void)err_set(&e, ERR_BUSY, "the former membership of this node is being removed");
        incoming_fail(in, -ERR_BUSY, &e);
        return;
    }
    change.node_id = id_from_str(in->caller.node_id);
    log_info("raft.join", "node=%s address=%s raft_id=%lx", in->caller.node_id, req->address,
             (unsigned long)req->raft_id);
    raft_node_change_config(m->raft, &change, on_joined, in);
}

static void on_left(void *ctx, int rc, const struct err *e)
{
    struct incoming *in = ctx;

    if (rc < 0)
        incoming_fail(in, rc, e);
    else
        incoming_reply(in, NULL);
}

/* A manager that wants to leave is demoted first; members.c then takes it out of Raft. */
void raft_leave_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__Node *old = store_node(m->store, in->caller.node_id);
    struct err e = { 0 };

    if (old == NULL) {
        incoming_reply(in, NULL);
        return;
    }
    Skep__Node node = *old;
    Skep__NodeSpec spec = *old->spec;
    struct store_tx *tx = store_tx_new();

    if (raft_config_voter_count(raft_node_config(m->raft)) <= 1) {
        (void)err_set(&e, ERR_PRECONDITION, "this is the last manager of the swarm");
        incoming_fail(in, -ERR_PRECONDITION, &e);
    } else {
        spec.desired_role = SKEP__NODE_ROLE__ROLE_WORKER;
        node.spec = &spec;
        store_tx_update(tx, &node.base, old->meta->version, 0);
        leader_propose(m, tx, NULL, on_left, in);
    }
    store_tx_free(tx);
}

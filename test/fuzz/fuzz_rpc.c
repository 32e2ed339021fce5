/* Decoding of requests and answers (common/rpc.h): nothing crashes, memory stays within the budget,
 * and what decodes is equal to what its own bytes decode to. The first byte chooses the type, so
 * new types go to the end. */
#include <string.h>

#include "common/assert.h"
#include "common/mem.h"
#include "common/message.h"
#include "common/rpc.h"
#include "proto/ca.pb-c.h"
#include "proto/control.pb-c.h"
#include "proto/dispatcher.pb-c.h"
#include "proto/objects.pb-c.h"
#include "proto/raft.pb-c.h"
#include "proto/raft_control.pb-c.h"

static const ProtobufCMessageDescriptor *const types[] = {
    &skep__root_ca_request__descriptor,
    &skep__root_ca_response__descriptor,
    &skep__enrol_request__descriptor,
    &skep__enrol_response__descriptor,
    &skep__certificate_renew_request__descriptor,
    &skep__certificate_renew_response__descriptor,
    &skep__object_get_request__descriptor,
    &skep__object_get_response__descriptor,
    &skep__object_list_request__descriptor,
    &skep__object_list_response__descriptor,
    &skep__watch_request__descriptor,
    &skep__watch_response__descriptor,
    &skep__service_create_request__descriptor,
    &skep__service_update_request__descriptor,
    &skep__service_remove_request__descriptor,
    &skep__node_update_request__descriptor,
    &skep__node_remove_request__descriptor,
    &skep__cluster_update_request__descriptor,
    &skep__network_create_request__descriptor,
    &skep__network_remove_request__descriptor,
    &skep__secret_create_request__descriptor,
    &skep__secret_remove_request__descriptor,
    &skep__config_create_request__descriptor,
    &skep__config_remove_request__descriptor,
    &skep__info_request__descriptor,
    &skep__info_response__descriptor,
    &skep__swarm_init_request__descriptor,
    &skep__swarm_join_request__descriptor,
    &skep__swarm_leave_request__descriptor,
    &skep__logs_open_request__descriptor,
    &skep__logs_read_request__descriptor,
    &skep__logs_read_response__descriptor,
    &skep__session_request__descriptor,
    &skep__session_response__descriptor,
    &skep__heartbeat_request__descriptor,
    &skep__heartbeat_response__descriptor,
    &skep__assignments_request__descriptor,
    &skep__assignments_response__descriptor,
    &skep__task_status_request__descriptor,
    &skep__log_subscriptions_request__descriptor,
    &skep__log_subscriptions_response__descriptor,
    &skep__log_publish_request__descriptor,
    &skep__transaction__descriptor,
    &skep__raft_message__descriptor,
    &skep__raft_snapshot_meta__descriptor,
    &skep__raft_snapshot_chunk__descriptor,
    &skep__raft_join_request__descriptor,
    &skep__raft_join_response__descriptor,
    &skep__raft_leave_request__descriptor,
    &skep__request__descriptor,
    &skep__response__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *message, *again;
    struct err e;

    if (size == 0 || data[0] >= ARRAY_LEN(types))
        return 0;
    const ProtobufCMessageDescriptor *type = types[data[0]];
    ProtobufCBinaryData body = { .len = size - 1, .data = (uint8_t *)data + 1 };
    if (rpc_decode(&body, type, &message, &e) < 0) {
        ASSERT(e.code == ERR_PROTO || e.code == ERR_TOO_BIG);
        ASSERT(e.message[0] != '\0');
        return 0;
    }
    body.len = protobuf_c_message_get_packed_size(message);
    body.data = xmalloc(body.len);
    ASSERT(protobuf_c_message_pack(message, body.data) == body.len);
    ASSERT(rpc_decode(&body, type, &again, &e) == 0);
    ASSERT(message_equal(message, again));
    protobuf_c_message_free_unpacked(message, NULL);
    protobuf_c_message_free_unpacked(again, NULL);
    free(body.data);
    return 0;
}

/* From an assignment, as it comes off the wire, to the body that the engine is asked for:
 * templates, image references, mounts, ports, networks. Whatever is accepted is JSON. */
#include <jansson.h>
#include <stdlib.h>

#include "agentd/worker/container.h"
#include "common/assert.h"
#include "common/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *argv[] = { (char *)"/x" };
    static const char *const nameservers[] = { "10.0.0.1" };
    static const struct container_overlay overlay = {
        .gate_program = "/gate",
        .entrypoint = argv,
        .entrypoint_count = 1,
        .nameservers = nameservers,
        .nameserver_count = 1,
    };
    static const struct container_node node = {
        .cluster_id = "c",
        .node_id = "n",
        .hostname = "h",
        .architecture = "x86_64",
        .os = "linux",
        .files_dir = "/run/x",
        .overlay = &overlay,
    };
    ProtobufCBinaryData body = { size, (uint8_t *)data };
    struct container_plan plan;
    ProtobufCMessage *m;
    struct err e;

    if (rpc_decode(&body, &skep__task_assignment__descriptor, &m, &e) < 0)
        return 0;
    if (container_plan_make((const Skep__TaskAssignment *)m, &node, &plan, &e) == 0) {
        json_t *o = json_loads(plan.body, 0, NULL);

        ASSERT(json_is_object(o));
        json_decref(o);
        for (size_t i = 0; i < plan.bind_count; i++)
            ASSERT(plan.binds[i].source[0] == '/');
        container_plan_deinit(&plan);
    }
    protobuf_c_message_free_unpacked(m, NULL);
    return 0;
}

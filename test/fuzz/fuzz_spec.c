/* Specs as operators and workers send them (managerd/control/validate.h): nothing crashes; a
 * refusal says why; what passes is complete and normal, so that validating it again changes
 * nothing. The first byte chooses the kind of spec. */
#include "common/assert.h"
#include "common/message.h"
#include "common/rpc.h"
#include "managerd/control/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef int validate_fn(const ProtobufCMessage *in, struct arena *a, ProtobufCMessage **ret_spec,
                        struct err *e);

#define VALIDATOR(name, Type)                                                                      \
    static int name(const ProtobufCMessage *in, struct arena *a, ProtobufCMessage **ret_spec,      \
                    struct err *e)                                                                 \
    {                                                                                              \
        Type *spec = NULL;                                                                         \
        int rc = control_validate_##name((const Type *)in, a, &spec, e);                           \
                                                                                                   \
        *ret_spec = spec != NULL ? &spec->base : NULL;                                             \
        return rc;                                                                                 \
    }

VALIDATOR(service, Skep__ServiceSpec)
VALIDATOR(node, Skep__NodeSpec)
VALIDATOR(cluster, Skep__ClusterSpec)
VALIDATOR(secret, Skep__SecretSpec)
VALIDATOR(config, Skep__ConfigSpec)
VALIDATOR(network, Skep__NetworkSpec)

static int description(const ProtobufCMessage *in, struct arena *a, ProtobufCMessage **ret_spec,
                       struct err *e)
{
    (void)a; /* nothing is filled in */
    *ret_spec = (ProtobufCMessage *)in;
    return control_validate_description((const Skep__NodeDescription *)in, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const ProtobufCMessageDescriptor *type;
        validate_fn *validate;
    } kinds[] = {
        { &skep__service_spec__descriptor, service },
        { &skep__node_spec__descriptor, node },
        { &skep__cluster_spec__descriptor, cluster },
        { &skep__secret_spec__descriptor, secret },
        { &skep__config_spec__descriptor, config },
        { &skep__network_spec__descriptor, network },
        { &skep__node_description__descriptor, description },
    };
    CLEANUP_ARENA struct arena a = { 0 };
    ProtobufCMessage *in = NULL, *spec = NULL, *again = NULL;
    struct err e = { 0 };

    if (size == 0 || data[0] >= ARRAY_LEN(kinds))
        return 0;
    ProtobufCBinaryData body = { size - 1, (uint8_t *)(uintptr_t)(data + 1) };
    if (rpc_decode(&body, kinds[data[0]].type, &in, &e) < 0)
        return 0;
    if (kinds[data[0]].validate(in, &a, &spec, &e) == 0) {
        ASSERT(kinds[data[0]].validate(spec, &a, &again, &e) == 0);
        ASSERT(message_equal(spec, again));
    } else {
        ASSERT(e.code == ERR_INVALID && e.message[0] != '\0');
    }
    protobuf_c_message_free_unpacked(in, NULL);
    return 0;
}

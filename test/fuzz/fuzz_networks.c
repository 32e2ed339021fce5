/* Answers of NETWORKS as an agent takes them in: the input is a list of packed answers, each behind
 * two bytes of length. After each, every index must agree with the records. */
#include <string.h>

#include "agentd/netplan/tables.h"
#include "common/assert.h"
#include "common/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_endpoints(const struct tables *t, const char *network_id)
{
    const Skep__NetworkEndpoint *const *list;
    size_t count = tables_network_endpoints(t, network_id, &list);

    for (size_t i = 0; i < count; i++) {
        const Skep__NetworkEndpoint *ep = list[i];
        const Skep__NetworkEndpoint *const *named;
        struct ip ip;
        size_t same, found = 0;

        ASSERT(tables_endpoint(t, ep->task_id) == ep);
        ASSERT(i == 0 || strcmp(list[i - 1]->task_id, ep->task_id) < 0);
        same = tables_named_endpoints(t, network_id, ep->name, &named);
        for (size_t j = 0; j < same; j++)
            found += named[j] == ep;
        ASSERT(found == 1);
        for (uint8_t family = IP_V4; family <= IP_V6; family += IP_V6 - IP_V4) {
            if (tables_address(ep->networks, ep->n_networks, network_id, family, &ip))
                ASSERT(tables_find_address(t, network_id, &ip) != NULL);
        }
    }
}

static void check_services(const struct tables *t, const char *network_id)
{
    const Skep__NetworkService *const *list;
    size_t count = tables_network_services(t, network_id, &list);
    struct ip ip;

    for (size_t i = 0; i < count; i++) {
        ASSERT(tables_service(t, list[i]->id) == list[i]);
        ASSERT(tables_find_service(t, network_id, list[i]->name) != NULL);
        if (tables_vip(list[i], network_id, &ip))
            ASSERT(tables_find_vip(t, network_id, &ip) != NULL);
    }
}

static void check(const struct tables *t)
{
    const char *after = "";

    for (const Skep__NetworkHead *h; (h = tables_network_after(t, after)) != NULL; after = h->id) {
        ASSERT(tables_network(t, h->id) == h);
        ASSERT(tables_network_version(t, h->id) > 0);
        check_endpoints(t, h->id);
        check_services(t, h->id);
    }
    after = "";
    for (const Skep__NetworkPeer *p; (p = tables_peer_after(t, after)) != NULL; after = p->node_id)
        ASSERT(tables_peer(t, p->node_id) == p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tables *t = tables_new();
    struct arena a = { 0 };
    ProtobufCAllocator allocator = message_arena_allocator(&a);

    for (size_t at = 0; size - at > 2;) {
        size_t want = (size_t)data[at] << 8 | data[at + 1];
        size_t bytes = MIN(want, size - at - 2);
        Skep__NetworksResponse *resp =
            skep__networks_response__unpack(&allocator, bytes, data + at + 2);

        if (resp != NULL) {
            uint64_t before = tables_version(t);

            ASSERT(tables_apply(t, resp) == (tables_version(t) != before));
            check(t);
        }
        at += 2 + bytes;
    }
    tables_free(t);
    arena_deinit(&a);
    return 0;
}

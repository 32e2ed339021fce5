#include "agentd/net/place.h"

#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "common/hash.h"

struct place_link place_link(uint32_t index)
{
    struct place_link l = { { 0 }, { 0 }, { 0 } };
    const uint8_t first[4] = { 169, 254, 64, 0 };

    ASSERT(index <= PLACE_INDEX_MAX);
    (void)snprintf(l.host_device, sizeof(l.host_device), PLACE_HOST_LINK "%u", index);
    struct ip base = ip_from_v4(first);
    l.host = ip_add(&base, (uint64_t)index * 4 + 1);
    l.router = ip_add(&base, (uint64_t)index * 4 + 2);
    return l;
}

/* The MAC of an IPv6 address is a digest of it: no 40 bits of an address tell nodes apart in every
 * numbering plan. The two kinds differ in their first byte. */
void place_mac(const struct ip *vtep, uint8_t ret[6])
{
    ret[0] = 0x02;
    ret[1] = 0x43;
    if (vtep->family == IP_V4) {
        memcpy(ret + 2, vtep->bytes, 4);
        return;
    }
    uint64_t h = hash_bytes(vtep->bytes, sizeof(vtep->bytes), 0);
    ret[0] = 0x06;
    for (int i = 1; i < 6; i++)
        ret[i] = (uint8_t)(h >> (8 * i));
}

struct ip place_label(const struct ip *vtep, uint8_t family)
{
    struct ip label = { .family = IP_V6, .bytes = { 0xfe, 0x80 } };

    if (vtep->family == IP_V4 && family == IP_V4)
        return *vtep;
    if (vtep->family == IP_V4) {
        label.bytes[8] = 0x02; /* not fe80::1, which is every router's own */
        memcpy(label.bytes + 12, vtep->bytes, 4);
        return label;
    }
    uint64_t h = hash_bytes(vtep->bytes, sizeof(vtep->bytes), 1);
    for (int i = 0; i < 8; i++)
        label.bytes[8 + i] = (uint8_t)(h >> (8 * i));
    return label;
}

void place_task_link(const char *task_id, char ret[PLACE_NAME_BYTES])
{
    (void)snprintf(ret, PLACE_NAME_BYTES, "%c%.14s", PLACE_TASK_LINK, task_id);
}

void place_task_mac(const struct ip *address, uint8_t ret[6])
{
    uint64_t h = hash_bytes(address->bytes, sizeof(address->bytes), 2);

    ret[0] = 0x02;
    ret[1] = 0x42;
    if (address->family == IP_V4) {
        memcpy(ret + 2, address->bytes, 4);
        return;
    }
    ret[0] = 0x0a;
    for (int i = 1; i < 6; i++)
        ret[i] = (uint8_t)(h >> (8 * i));
}

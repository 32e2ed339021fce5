/* VNIs, and the UDP ports of encrypted networks. */
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "managerd/allocator/internal.h"

#define VNI_OPTION "com.docker.network.driver.overlay.vxlanid_list"

/* As libnetwork, the option may list several, for several subnets; a network has one subnet here
 * and takes the first. 0: it is not given. */
static uint64_t wanted_vni(const Skep__NetworkSpec *spec)
{
    const char *list = net_option(spec, VNI_OPTION);
    char first[16];
    uint64_t vni = 0;

    if (list == NULL)
        return 0;
    (void)snprintf(first, sizeof(first), "%.*s", (int)strcspn(list, ","), list);
    return text_parse_u64(first, &vni, NULL) == 0 ? vni : 0; /* validated when it came */
}

uint32_t vni_choose(struct allocator *a, const Skep__NetworkSpec *spec, char *reason)
{
    uint64_t vni = wanted_vni(spec);

    if (vni != 0 && claim(a, &a->vnis, vni))
        return (uint32_t)vni;
    if (vni != 0)
        (void)snprintf(reason, TEXT_BYTES_MAX, "VNI %u is used by another network", (unsigned)vni);
    else if (claim_next(a, &a->vnis, &vni))
        return (uint32_t)vni;
    else
        (void)snprintf(reason, TEXT_BYTES_MAX, "all VNIs from %d to %d are in use",
                       ALLOCATOR_VNI_FIRST, ALLOCATOR_VNI_LAST);
    return 0;
}

uint32_t encryption_port_choose(struct allocator *a, char *reason)
{
    uint64_t group;

    if (claim_next(a, &a->encryption_ports, &group))
        return (uint32_t)(ALLOCATOR_ENCRYPTION_PORT_FIRST + ALLOCATOR_ENCRYPTION_PORTS * group);
    (void)snprintf(reason, TEXT_BYTES_MAX,
                   "all UDP ports from %d on are in use by other encrypted networks",
                   ALLOCATOR_ENCRYPTION_PORT_FIRST);
    return 0;
}

static uint64_t group_of(uint32_t port)
{
    return (port - ALLOCATOR_ENCRYPTION_PORT_FIRST) / ALLOCATOR_ENCRYPTION_PORTS;
}

void vni_take(struct allocator *a, const struct net *n)
{
    if (n->vni != 0)
        numbers_take(&a->vnis, n->vni);
    if (n->encryption_port >= ALLOCATOR_ENCRYPTION_PORT_FIRST)
        numbers_take(&a->encryption_ports, group_of(n->encryption_port));
}

void vni_give(struct allocator *a, const struct net *n)
{
    if (n->vni != 0)
        numbers_give(&a->vnis, n->vni);
    if (n->encryption_port >= ALLOCATOR_ENCRYPTION_PORT_FIRST)
        numbers_give(&a->encryption_ports, group_of(n->encryption_port));
}

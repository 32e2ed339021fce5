#include "agentd/net/layout.h"

#include <endian.h>
#include <string.h>

#include "common/hash.h"

void layout_router_mac(const struct ip *vtep, uint8_t ret[LAYOUT_MAC_BYTES])
{
    uint64_t h = htole64(hash_bytes(vtep->bytes, sizeof(vtep->bytes), 0));

    ret[0] = 0x02; /* locally administered */
    ret[1] = vtep->family == IP_V4 ? 0x43 : 0x46;
    memcpy(ret + 2, vtep->family == IP_V4 ? (const void *)vtep->bytes : &h, 4);
}

/* The parts of overlay.c: devices (overlay_devices.c) and wanted entries (overlay_entries.c). */
#ifndef SKEP_AGENTD_NET_OVERLAY_INTERNAL_H
#define SKEP_AGENTD_NET_OVERLAY_INTERNAL_H

#include "agentd/net/overlay.h"

/* What a look at the kernel is for. */
struct overlay_look {
    bool repair;
    struct differences *d; /* NULL = nobody asks */
    uint32_t found;
};
void overlay_tell(struct overlay_look *look, const char *what, const char *object,
                  const char *problem);

/* Devices and settings of R, and the link to the host. Loads o->links and the indices; makes what
 * is missing when look->repair. */
int overlay_devices(struct overlay *o, const struct net_plan *p, struct overlay_look *look,
                    struct err *e) MUST_CHECK;

/* Fills o->wanted, sorted. */
void overlay_want(struct overlay *o, const struct net_plan *p);

#endif

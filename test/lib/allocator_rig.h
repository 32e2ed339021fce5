/* A cluster around the allocator: objects from short texts, one call per change, and an audit
 * whenever the core has come to rest. */
#ifndef SKEP_TEST_LIB_ALLOCATOR_RIG_H
#define SKEP_TEST_LIB_ALLOCATOR_RIG_H

#include "managerd/allocator/allocator.h"
#include "test/lib/core_rig.h"

struct allocator_rig {
    struct core_rig core;
    struct allocator *a;
};

/* A cluster with one pool (NULL: 10.0.0.0/8 cut to /20) and nothing else. */
void allocator_rig_init(struct allocator_rig *r, const char *pool, uint32_t subnet_size);
void allocator_rig_deinit(struct allocator_rig *r);
/* Runs until there is nothing to do, then audits; what it finds fails the test. */
uint64_t allocator_rig_run(struct allocator_rig *r);
/* Another manager leads. */
void allocator_rig_restart(struct allocator_rig *r);

/* Assignments as of spec_text.h, on the Network, Service or Node: "spec.driver.name=overlay". The
 * id is the name. Allocated by the next run. */
void rig_network(struct allocator_rig *r, const char *name, const char *assignments);
/* networks: "front,back"; ports: "8080:80,:53/udp". */
void rig_service(struct allocator_rig *r, const char *name, const char *networks,
                 const char *ports);
/* The same with another spec. */
void rig_service_update(struct allocator_rig *r, const char *name, const char *networks,
                        const char *ports);
/* NEW, of the service's current version. */
void rig_task(struct allocator_rig *r, const char *id, const char *service);
void rig_node(struct allocator_rig *r, const char *id, const char *assignments);
void rig_task_state(struct allocator_rig *r, const char *id, Skep__TaskState state);

const Skep__Network *rig_net(struct allocator_rig *r, const char *name);
/* "10.0.1.2/24,10.0.0.5/24": all addresses in order, "" for none; "-": no such object. */
const char *rig_addresses(struct allocator_rig *r, const char *task);
const char *rig_vips(struct allocator_rig *r, const char *service);
/* "30000:80/tcp,8080:80/tcp!error" */
const char *rig_ports(struct allocator_rig *r, const char *service);

#endif

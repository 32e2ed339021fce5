/* What the engine says about one container, reduced to what decisions need. A value; the ports are
 * owned by whoever holds it. Pure. */
#ifndef SKEP_AGENTD_WORKER_FACTS_H
#define SKEP_AGENTD_WORKER_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONTAINER_ID_CHARS = 64, CONTAINER_ERROR_BYTES_MAX = 200, CONTAINER_PORTS_MAX = 256 };

enum container_phase {
    CONTAINER_UNKNOWN, /* not asked yet, or the answer was lost */
    CONTAINER_ABSENT,
    CONTAINER_CREATED, /* never started */
    CONTAINER_RUNNING, /* also paused and restarting: there is a process */
    CONTAINER_EXITED,  /* also dead */
    CONTAINER_REMOVING,
};

enum container_health { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct container_port { /* a port of the container as the engine bound it on the host */
    uint16_t target, published;
    uint8_t protocol; /* Skep__Protocol */
};

struct container_facts {
    enum container_phase phase;
    enum container_health health;
    char id[CONTAINER_ID_CHARS + 1];
    int32_t pid;
    int32_t exit_code;
    bool oom_killed;
    bool tty;
    char error[CONTAINER_ERROR_BYTES_MAX]; /* State.Error */
    struct container_port *ports;
    uint32_t port_count;
};

#endif

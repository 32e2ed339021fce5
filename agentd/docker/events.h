/* The engine's event stream: hints that something happened to a container. Listing is the truth:
 * `up` is called after every (re)connect, and the owner then lists. Reconnects by itself with
 * back-off; a line or a flood beyond the limits is a reason to reconnect. Loop thread. */
#ifndef SKEP_AGENTD_DOCKER_EVENTS_H
#define SKEP_AGENTD_DOCKER_EVENTS_H

#include "agentd/docker/container.h"

enum {
    EVENTS_LINE_BYTES_MAX = 128 << 10,
    EVENTS_PER_WINDOW_MAX = 20000, /* more within EVENTS_WINDOW_MS ends the stream */
    EVENTS_WINDOW_MS = 1000,
    EVENTS_RETRY_MS_MIN = 250,
    EVENTS_RETRY_MS_MAX = 8000,
};

struct events;

struct events_options {
    struct engine *engine;
    struct loop *loop;
    const char *cluster_id, *node_id; /* copied */
    void (*up)(void *ctx);            /* the engine accepted the stream: list now */
    void (*down)(void *ctx, const struct err *why);
    /* Something changed: look at the container. task_id is "" when its label is no id. */
    void (*hint)(void *ctx, const char *container_id, const char *task_id);
    void *ctx;
};
struct events *events_new(const struct events_options *o);
void events_free(struct events *ev);
/* Tries at once instead of waiting for the back-off. */
void events_kick(struct events *ev);

/* One event, for tests and fuzzing. False: nothing in it that matters here. */
bool events_parse(const char *line, size_t size, char ret_id[CONTAINER_ID_CHARS + 1],
                  char ret_task_id[ID_CHARS + 1]);

#endif

#include <stdio.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/scheduler/internal.h"

enum { TEXT_BYTES_MAX = 1024 };

/* SwarmKit's words: <before>N node(s)<after>. */
static const struct {
    const char *name, *before, *after;
} words[SCHEDULER_FILTER_COUNT] = {
    [SCHEDULER_PASS] = { "", "", "" },
    [SCHEDULER_READY] = { "ready", "", " not available for new tasks" },
    [SCHEDULER_RESOURCE] = { "resource", "insufficient resources on ", "" },
    [SCHEDULER_PLUGIN] = { "plugin", "missing plugin on ", "" },
    [SCHEDULER_CONSTRAINT] = { "constraint", "scheduling constraints not satisfied on ", "" },
    [SCHEDULER_PLATFORM] = { "platform", "unsupported platform on ", "" },
    [SCHEDULER_NETWORK] = { "network", "no overlay networks on ", "" },
    [SCHEDULER_HOST_PORT] = { "host port", "host-mode port already in use on ", "" },
    [SCHEDULER_MAX_REPLICAS] = { "max replicas", "max replicas per node limit exceed", "" },
};

const char *scheduler_filter_str(enum scheduler_filter filter)
{
    ASSERT(filter < SCHEDULER_FILTER_COUNT);
    return words[filter].name;
}

static void append(char *text, const char *piece)
{
    size_t used = strlen(text);

    (void)snprintf(text + used, TEXT_BYTES_MAX - used, "%s", piece);
}

static void append_filter(char *text, enum scheduler_filter filter, size_t count,
                          const char *network_error)
{
    char nodes[32];

    (void)snprintf(nodes, sizeof(nodes), "%zu %s", count, count == 1 ? "node" : "nodes");
    append(text, words[filter].before);
    if (filter != SCHEDULER_MAX_REPLICAS)
        append(text, nodes);
    append(text, words[filter].after);
    if (filter == SCHEDULER_NETWORK && network_error != NULL && network_error[0] != '\0') {
        append(text, ": ");
        append(text, network_error);
    }
}

char *explain_one(enum scheduler_filter filter, const char *network_error)
{
    char *text = xcalloc(1, TEXT_BYTES_MAX);

    ASSERT(filter > SCHEDULER_PASS && filter < SCHEDULER_FILTER_COUNT);
    append_filter(text, filter, 1, network_error);
    return text;
}

/* Parts in order of decreasing count; equal counts in the order of the filters. */
char *explain_text(const size_t nodes[SCHEDULER_FILTER_COUNT], const char *network_error)
{
    char *text = xcalloc(1, TEXT_BYTES_MAX);
    size_t left[SCHEDULER_FILTER_COUNT], parts = 0;

    memcpy(left, nodes, sizeof(left));
    append(text, "no suitable node");
    for (;;) {
        int most = SCHEDULER_PASS;

        for (int filter = SCHEDULER_READY; filter < SCHEDULER_FILTER_COUNT; filter++) {
            if (left[filter] > (most == SCHEDULER_PASS ? 0 : left[most]))
                most = filter;
        }
        if (most == SCHEDULER_PASS)
            break;
        append(text, parts++ == 0 ? " (" : "; ");
        append_filter(text, (enum scheduler_filter)most, left[most], network_error);
        left[most] = 0;
    }
    if (parts > 0)
        append(text, ")");
    return text;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t s = ((const struct scheduler_explanation *)a)->spec_version;
    uint64_t t = ((const struct scheduler_explanation *)b)->spec_version;

    return s > t ? -1 : s < t;
}

size_t scheduler_explain(const struct scheduler *s, const char *service_id,
                         struct scheduler_explanation *ret, size_t max)
{
    const struct list *queues[] = { &s->blocked, &s->fresh };
    size_t count = 0;

    for (size_t q = 0; q < ARRAY_LEN(queues); q++) {
        for (struct list *l = queues[q]->next; l != queues[q] && count < max; l = l->next) {
            const struct group *g = CONTAINER_OF(l, struct group, queue);

            if (strcmp(g->service->id, service_id) != 0)
                continue;
            ret[count].spec_version = g->spec_version;
            ret[count].pending = g->waiting_count;
            filter_count(s, g, ret[count++].nodes);
        }
    }
    qsort(ret, count, sizeof(*ret), newest_first);
    return count;
}

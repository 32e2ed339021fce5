/* Everything that the agent reads from a Docker Engine: the first byte chooses the parser, for the
 * streams the second one how the rest is cut into pieces. */
#include <stdlib.h>
#include <string.h>

#include "agentd/docker/container.h"
#include "agentd/docker/events.h"
#include "agentd/docker/image.h"
#include "agentd/docker/info.h"
#include "agentd/docker/logs.h"
#include "agentd/docker/network.h"
#include "agentd/worker/container.h"
#include "agentd/worker/plain.h"
#include "common/assert.h"
#include "common/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_line(void *ctx, const struct log_line *l)
{
    ASSERT(l->size <= LOGS_LINE_BYTES_MAX);
    *(size_t *)ctx += l->size;
}

static void feed_logs(const char *text, size_t size, bool tty)
{
    size_t total = 0, step = size == 0 ? 1 : (uint8_t)text[0] + 1u;
    struct log_demux d;

    log_demux_init(&d, tty, on_line, &total);
    for (size_t at = 1; at < size; at += step)
        if (log_demux_feed(&d, text + at, MIN(step, size - at)) < 0)
            break;
    log_demux_end(&d);
    log_demux_deinit(&d);
    ASSERT(total <= size);
}

static void feed_pull(const char *text, size_t size)
{
    size_t step = size == 0 ? 1 : (uint8_t)text[0] + 1u;
    struct pull_stream s;
    int rc = 0;

    pull_stream_init(&s);
    for (size_t at = 1; at < size && rc == 0; at += step)
        rc = pull_stream_feed(&s, text + at, MIN(step, size - at));
    if (rc == 0)
        rc = pull_stream_end(&s);
    ASSERT(rc <= 0);
    pull_stream_deinit(&s);
}

static void parse_network_answers(const struct engine_response *r)
{
    struct image_config image = { .entrypoint = NULL };
    struct container_place place;
    struct network_entry *list, one;
    size_t count;
    struct err e;

    if (image_parse_config(r, &image, &e) == 0)
        ASSERT(image.entrypoint_count + image.cmd_count <= (size_t)2 * CONTAINER_ARGS_MAX);
    image_config_deinit(&image);
    if (container_parse_place(r, &place, &e) == 0)
        free(place.hosts_path);
    if (network_parse_inspect(r, &one, &e) == 0)
        ASSERT(container_id_valid(one.id));
    if (network_parse_list(r, &list, &count, &e) == 0)
        free(list);
}

static void parse_answers(const struct engine_response *r)
{
    struct container_facts f = { .ports = NULL };
    struct container_identity who;
    struct container_entry *list;
    char id[CONTAINER_ID_CHARS + 1], task[ID_CHARS + 1];
    size_t count;
    struct err e;

    if (container_parse_inspect(r, "name", &f, &who, &e) == 0) {
        ASSERT(f.port_count <= CONTAINER_PORTS_MAX && container_id_valid(f.id));
        ASSERT(text_printable(f.error));
        free(f.ports);
    }
    if (container_parse_list(r, &list, &count, &e) == 0)
        free(list);
    if (container_parse_created(r, id, &e) == 0)
        ASSERT(container_id_valid(id));
    parse_network_answers(r);
    if (events_parse(r->body, r->size, id, task))
        ASSERT(container_id_valid(id));
}

static void parse_info(const char *text, size_t size)
{
    struct arena a = { 0 };
    Skep__NodeDescription *d;
    struct err e;

    if (info_parse(text, size, &a, &d, &e) == 0)
        ASSERT(d->resources->nano_cpus > 0 && d->engine != NULL);
    arena_deinit(&a);
}

static void clean(const char *text)
{
    char copy[64];

    plain_format(copy, sizeof(copy), "%s", text);
    plain_clean(copy);
    ASSERT(text_printable(copy));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 5) {
    case 0:
        parse_answers(&(struct engine_response){ .status = 200, .body = text, .size = size - 1 });
        break;
    case 1:
        parse_info(text, size - 1);
        break;
    case 2:
        feed_pull(text, size - 1);
        break;
    case 3:
        feed_logs(text, size - 1, (data[0] & 8) != 0);
        break;
    default:
        clean(text);
        break;
    }
    free(text);
    return 0;
}

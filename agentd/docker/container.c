#include "agentd/docker/container.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/docker/json.h"
#include "agentd/worker/container.h"
#include "agentd/worker/plain.h"
#include "proto/types.pb-c.h"

int url_append(struct buf *b, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    int rc = 0;

    for (; *text != '\0' && rc == 0; text++)
        rc = strchr(plain, *text) != NULL ? buf_append(b, text, 1)
                                          : buf_printf(b, "%%%02X", (unsigned char)*text);
    return rc;
}

bool container_id_valid(const char *text)
{
    return strlen(text) == CONTAINER_ID_CHARS &&
           strspn(text, "0123456789abcdef") == CONTAINER_ID_CHARS;
}

/* ---- requests ---- */

struct engine_call *docker_send(struct engine *en, struct engine_request *q, const char *parts[3],
                                struct docker_reply to, struct err *e)
{
    CLEANUP_BUF struct buf path = BUF_INIT(ENGINE_PATH_BYTES_MAX);

    if (buf_append_str(&path, parts[0]) < 0 || url_append(&path, parts[1]) < 0 ||
        buf_append_str(&path, parts[2]) < 0) {
        (void)err_set(e, ERR_TOO_BIG, "engine path is too long");
        return NULL;
    }
    q->path = buf_str(&path);
    q->done = to.done;
    q->ctx = to.ctx;
    return engine_call_start(en, q, e);
}

struct engine_call *container_create(struct engine *en, const char *name, const char *body,
                                     struct docker_reply to, struct err *e)
{
    struct engine_request q = { .method = "POST",
                                .body = body,
                                .deadline_ms = CONTAINER_CREATE_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/containers/create?name=", name, "" }, to, e);
}

struct engine_call *container_start(struct engine *en, const char *id, struct docker_reply to,
                                    struct err *e)
{
    struct engine_request q = { .method = "POST",
                                .deadline_ms = CONTAINER_START_MS_MAX,
                                .once = true };

    return docker_send(en, &q, (const char *[]){ "/containers/", id, "/start" }, to, e);
}

struct engine_call *container_inspect(struct engine *en, const char *ref, struct docker_reply to,
                                      struct err *e)
{
    struct engine_request q = { .method = "GET",
                                .deadline_ms = CONTAINER_LOOK_MS_MAX,
                                .body_bytes_max = CONTAINER_INSPECT_BYTES_MAX };

    return docker_send(en, &q, (const char *[]){ "/containers/", ref, "/json" }, to, e);
}

struct engine_call *container_stop(struct engine *en, const char *id, uint32_t grace_s,
                                   struct docker_reply to, struct err *e)
{
    struct engine_request q = { .method = "POST",
                                .deadline_ms = grace_s * 1000 + CONTAINER_STOP_MS_MARGIN };
    char tail[32];

    plain_format(tail, sizeof(tail), "/stop?t=%" PRIu32, grace_s);
    return docker_send(en, &q, (const char *[]){ "/containers/", id, tail }, to, e);
}

struct engine_call *container_kill(struct engine *en, const char *id, struct docker_reply to,
                                   struct err *e)
{
    struct engine_request q = { .method = "POST", .deadline_ms = CONTAINER_LOOK_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/containers/", id, "/kill?signal=SIGKILL" }, to,
                       e);
}

struct engine_call *container_wait(struct engine *en, const char *id, struct docker_reply to,
                                   struct err *e)
{
    struct engine_request q = { .method = "POST", .deadline_ms = CONTAINER_WAIT_MS_MAX };

    return docker_send(
        en, &q, (const char *[]){ "/containers/", id, "/wait?condition=not-running" }, to, e);
}

struct engine_call *container_remove(struct engine *en, const char *ref, struct docker_reply to,
                                     struct err *e)
{
    struct engine_request q = { .method = "DELETE", .deadline_ms = CONTAINER_REMOVE_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/containers/", ref, "?v=1&force=1" }, to, e);
}

struct engine_call *container_list(struct engine *en, const char *cluster_id, const char *node_id,
                                   struct docker_reply to, struct err *e)
{
    struct engine_request q = { .method = "GET",
                                .deadline_ms = CONTAINER_LOOK_MS_MAX,
                                .body_bytes_max = CONTAINER_LIST_BYTES_MAX };
    char filters[256];

    plain_format(filters, sizeof(filters), "{\"label\":[\"%s=%s\",\"%s=%s\"]}", LABEL_CLUSTER,
                 cluster_id, LABEL_NODE_ID, node_id);
    return docker_send(en, &q, (const char *[]){ "/containers/json?all=1&filters=", filters, "" },
                       to, e);
}

struct engine_call *volume_create(struct engine *en, const char *body, struct docker_reply to,
                                  struct err *e)
{
    struct engine_request q = { .method = "POST",
                                .body = body,
                                .deadline_ms = CONTAINER_CREATE_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/volumes/create", "", "" }, to, e);
}

/* ---- answers ---- */

static void copy_id(char *ret, const char *id)
{
    plain_format(ret, CONTAINER_ID_CHARS + 1, "%s", container_id_valid(id) ? id : "");
}

int container_parse_created(const struct engine_response *r, char ret_id[CONTAINER_ID_CHARS + 1],
                            struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e);
    const char *id = docker_json_str(o, "Id");
    int rc = 0;

    if (o == NULL)
        return -ERR_PROTO;
    if (container_id_valid(id))
        copy_id(ret_id, id);
    else
        rc = err_set(e, ERR_PROTO, "engine's answer to create has no container id");
    json_decref(o);
    return rc;
}

static enum container_phase phase_of(const char *status)
{
    static const struct {
        const char *status;
        enum container_phase phase;
    } phases[] = {
        { "created", CONTAINER_CREATED },   { "running", CONTAINER_RUNNING },
        { "paused", CONTAINER_RUNNING },    { "restarting", CONTAINER_RUNNING },
        { "removing", CONTAINER_REMOVING }, { "exited", CONTAINER_EXITED },
        { "dead", CONTAINER_EXITED },
    };

    for (size_t i = 0; i < ARRAY_LEN(phases); i++)
        if (strcmp(status, phases[i].status) == 0)
            return phases[i].phase;
    return CONTAINER_UNKNOWN;
}

static enum container_health health_of(const json_t *state)
{
    const char *status = docker_json_str(docker_json_get(state, "Health"), "Status");

    if (strcmp(status, "starting") == 0)
        return HEALTH_STARTING;
    if (strcmp(status, "healthy") == 0)
        return HEALTH_HEALTHY;
    return strcmp(status, "unhealthy") == 0 ? HEALTH_UNHEALTHY : HEALTH_NONE;
}

/* "80/tcp" */
static bool parse_port_key(const char *key, struct container_port *ret)
{
    char *end;
    unsigned long target = strtoul(key, &end, 10);

    if (end == key || target == 0 || target > 65535)
        return false;
    ret->target = (uint16_t)target;
    if (strcmp(end, "/tcp") == 0)
        ret->protocol = SKEP__PROTOCOL__PROTOCOL_TCP;
    else if (strcmp(end, "/udp") == 0)
        ret->protocol = SKEP__PROTOCOL__PROTOCOL_UDP;
    else if (strcmp(end, "/sctp") == 0)
        ret->protocol = SKEP__PROTOCOL__PROTOCOL_SCTP;
    else
        return false;
    return true;
}

/* A port is listed once per host address family; the same number counts once. */
static void add_port(struct container_facts *f, const struct container_port *p)
{
    for (uint32_t i = 0; i < f->port_count; i++)
        if (f->ports[i].target == p->target && f->ports[i].published == p->published &&
            f->ports[i].protocol == p->protocol)
            return;
    if (f->port_count >= CONTAINER_PORTS_MAX)
        return;
    f->ports = xrealloc_array(f->ports, f->port_count + 1, sizeof(f->ports[0]));
    f->ports[f->port_count++] = *p;
}

static int compare_ports(const void *a, const void *b)
{
    const struct container_port *x = a, *y = b;

    if (x->protocol != y->protocol)
        return (int)x->protocol - (int)y->protocol;
    if (x->target != y->target)
        return (int)x->target - (int)y->target;
    return (int)x->published - (int)y->published;
}

static void parse_ports(const json_t *o, struct container_facts *f)
{
    json_t *ports = (json_t *)docker_json_get(docker_json_get(o, "NetworkSettings"), "Ports");
    const char *key;
    json_t *list, *binding;
    size_t i;

    json_object_foreach(ports, key, list)
    {
        struct container_port p;

        if (!parse_port_key(key, &p))
            continue;
        json_array_foreach(list, i, binding)
        {
            unsigned long published = strtoul(docker_json_str(binding, "HostPort"), NULL, 10);

            if (published == 0 || published > 65535)
                continue;
            p.published = (uint16_t)published;
            add_port(f, &p);
        }
    }
    if (f->port_count > 1)
        qsort(f->ports, f->port_count, sizeof(f->ports[0]), compare_ports);
}

static int32_t clamp_int32(int64_t v)
{
    return v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : (int32_t)v;
}

static void copy_label(const json_t *labels, const char *key, char ret[ID_CHARS + 1])
{
    const char *value = docker_json_str(labels, key);

    plain_format(ret, ID_CHARS + 1, "%s", id_valid(value) ? value : "");
}

int container_parse_inspect(const struct engine_response *r, const char *ref,
                            struct container_facts *ret_facts,
                            struct container_identity *ret_identity, struct err *e)
{
    struct container_facts f = { .phase = CONTAINER_ABSENT };
    const json_t *state, *config, *labels;
    json_t *o;
    int rc = 0;

    memset(ret_identity, 0, sizeof(*ret_identity));
    if (r->status == 404) {
        *ret_facts = f;
        return 0;
    }
    o = docker_json_parse(r->body, r->size, e);
    if (o == NULL)
        return -ERR_PROTO;
    state = docker_json_get(o, "State");
    config = docker_json_get(o, "Config");
    labels = docker_json_get(config, "Labels");
    copy_id(f.id, docker_json_str(o, "Id"));
    f.phase = phase_of(docker_json_str(state, "Status"));
    f.health = health_of(state);
    f.pid = clamp_int32(docker_json_int(state, "Pid"));
    f.exit_code = clamp_int32(docker_json_int(state, "ExitCode"));
    f.oom_killed = docker_json_bool(state, "OOMKilled");
    f.tty = docker_json_bool(config, "Tty");
    plain_format(f.error, sizeof(f.error), "%s", docker_json_str(state, "Error"));
    plain_clean(f.error);
    copy_label(labels, LABEL_TASK_ID, ret_identity->task_id);
    copy_label(labels, LABEL_CLUSTER, ret_identity->cluster_id);
    if (f.id[0] == '\0' || f.phase == CONTAINER_UNKNOWN)
        rc = err_set(e, ERR_PROTO, "engine's answer to inspect has no id or state");
    else if (container_id_valid(ref) && strcmp(ref, f.id) != 0)
        rc = err_set(e, ERR_PROTO, "engine answered about another container");
    if (rc == 0) {
        parse_ports(o, &f);
        *ret_facts = f;
    }
    json_decref(o);
    return rc;
}

int container_parse_place(const struct engine_response *r, struct container_place *ret,
                          struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e);

    if (o == NULL)
        return -ERR_PROTO;
    ret->hosts_path = xstrdup(docker_json_str(o, "HostsPath"));
    plain_format(ret->hostname, sizeof(ret->hostname), "%s",
                 docker_json_str(docker_json_get(o, "Config"), "Hostname"));
    json_decref(o);
    return 0;
}

int container_parse_list(const struct engine_response *r, struct container_entry **ret,
                         size_t *ret_count, struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e), *item;
    struct container_entry *list;
    size_t i, count = 0;

    if (o == NULL)
        return -ERR_PROTO;
    if (!json_is_array(o) || json_array_size(o) > CONTAINER_LIST_MAX) {
        json_decref(o);
        return err_set(e, ERR_PROTO, "engine's list of containers is no list or too long");
    }
    list = xcalloc(json_array_size(o) + 1, sizeof(*list));
    json_array_foreach(o, i, item)
    {
        copy_id(list[count].id, docker_json_str(item, "Id"));
        copy_label(docker_json_get(item, "Labels"), LABEL_TASK_ID, list[count].task_id);
        list[count].phase = phase_of(docker_json_str(item, "State"));
        count += list[count].id[0] != '\0';
    }
    json_decref(o);
    *ret = list;
    *ret_count = count;
    return 0;
}

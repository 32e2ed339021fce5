/* Containers as far as the agent can see them. */
#include "test/lib/fake_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/mem.h"

void fake_engine_model(struct fake_engine *f)
{
    f->model = true;
}

void fake_engine_chaos(struct fake_engine *f, struct prng *p, uint32_t ppm)
{
    f->chaos = p;
    f->chaos_ppm = ppm;
}

void fake_model_free(struct fake_engine *f)
{
    for (unsigned i = 0; i < f->container_count; i++)
        free(f->containers[i].create_body);
}

/* ---- containers ---- */

static struct fake_container *find(struct fake_engine *f, const char *ref, size_t size)
{
    for (unsigned i = f->container_count; i-- > 0;) {
        struct fake_container *c = &f->containers[i];

        if (!c->removed && ((strlen(c->id) == size && strncmp(c->id, ref, size) == 0) ||
                            (strlen(c->name) == size && strncmp(c->name, ref, size) == 0)))
            return c;
    }
    return NULL;
}

struct fake_container *fake_engine_container(struct fake_engine *f, const char *task_id)
{
    for (unsigned i = f->container_count; i-- > 0;)
        if (strcmp(f->containers[i].task_id, task_id) == 0)
            return &f->containers[i];
    return NULL;
}

unsigned fake_engine_created(const struct fake_engine *f, const char *task_id)
{
    unsigned count = 0;

    for (unsigned i = 0; i < f->container_count; i++)
        count += strcmp(f->containers[i].task_id, task_id) == 0;
    return count;
}

unsigned fake_engine_existing(const struct fake_engine *f)
{
    unsigned count = 0;

    for (unsigned i = 0; i < f->container_count; i++)
        count += !f->containers[i].removed;
    return count;
}

const struct fake_container *fake_engine_container_at(const struct fake_engine *f, unsigned i)
{
    return i < f->container_count ? &f->containers[i] : NULL;
}

static struct fake_container *add(struct fake_engine *f, const char *name, const char *body)
{
    struct fake_container *c = &f->containers[f->container_count];
    json_t *o = json_loads(body, 0, NULL);
    const char *task = json_string_value(
        json_object_get(json_object_get(o, "Labels"), "com.docker.swarm.task.id"));

    ASSERT(f->container_count < FAKE_CONTAINERS_MAX);
    memset(c, 0, sizeof(*c));
    (void)snprintf(c->id, sizeof(c->id), "%064x", ++f->container_count);
    (void)snprintf(c->name, sizeof(c->name), "%s", name);
    (void)snprintf(c->task_id, sizeof(c->task_id), "%s", task == NULL ? "" : task);
    c->create_body = xstrdup(body);
    json_decref(o);
    return c;
}

struct fake_container *fake_engine_leftover(struct fake_engine *f, const char *task_id,
                                            const char *cluster_id, const char *node_id)
{
    CLEANUP_FREE char *body = xasprintf("{\"Labels\":{\"com.docker.swarm.task.id\":\"%s\","
                                        "\"com.docker.swarm.node.id\":\"%s\","
                                        "\"io.skep.cluster\":\"%s\"}}",
                                        task_id, node_id, cluster_id);
    struct fake_container *c = add(f, task_id, body);

    c->running = true;
    c->starts = 1;
    return c;
}

static void emit(struct fake_engine *f, const struct fake_container *c, const char *action)
{
    CLEANUP_FREE char *line =
        xasprintf("{\"Type\":\"container\",\"Action\":\"%s\",\"Actor\":{\"ID\":\"%s\","
                  "\"Attributes\":{\"com.docker.swarm.task.id\":\"%s\"}}}\n",
                  action, c->id, c->task_id);

    fake_engine_push(f, "GET /events", line);
}

void fake_engine_exit(struct fake_engine *f, struct fake_container *c, int exit_code)
{
    c->running = false;
    c->exit_code = exit_code;
    emit(f, c, "die");
}

void fake_engine_health(struct fake_engine *f, struct fake_container *c, const char *health)
{
    c->health = health;
    emit(f, c, "health_status");
}

/* ---- requests ---- */

static const char *status_of(const struct fake_container *c)
{
    return c->running ? "running" : c->starts > 0 ? "exited" : "created";
}

static void inspect(struct connection *conn, const struct fake_container *c)
{
    json_t *o = json_loads(c->create_body, 0, NULL);
    CLEANUP_FREE char *labels =
        json_dumps(json_object_get(o, "Labels"), JSON_COMPACT | JSON_ENCODE_ANY);
    CLEANUP_FREE char *health =
        c->health == NULL ? xstrdup("null") : xasprintf("{\"Status\":\"%s\"}", c->health);
    CLEANUP_FREE char *body = xasprintf(
        "{\"Id\":\"%s\",\"Name\":\"/%s\",\"State\":{\"Status\":\"%s\",\"Pid\":%d,\"ExitCode\":%d,"
        "\"Health\":%s},\"HostsPath\":\"%s\",\"Config\":{\"Hostname\":\"h%.8s\",\"Labels\":%s},"
        "\"NetworkSettings\":{\"Ports\":{\"80/tcp\":"
        "[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"32768\"}]}}}",
        c->id, c->name, status_of(c), c->running ? FAKE_PID : 0, c->exit_code, health,
        c->hosts_path == NULL ? "" : c->hosts_path, c->id + 56, labels);

    json_decref(o);
    fake_reply(conn, 200, body);
}

static void list(struct connection *conn)
{
    struct fake_engine *f = conn->f;
    struct buf b = BUF_INIT(8 << 20);

    ASSERT(buf_append_str(&b, "[") == 0);
    for (unsigned i = 0; i < f->container_count; i++) {
        const struct fake_container *c = &f->containers[i];

        if (!c->removed)
            ASSERT(buf_printf(&b,
                              "%s{\"Id\":\"%s\",\"State\":\"%s\",\"Labels\":{"
                              "\"com.docker.swarm.task.id\":\"%s\"}}",
                              b.size > 1 ? "," : "", c->id, status_of(c), c->task_id) == 0);
    }
    ASSERT(buf_append_str(&b, "]") == 0);
    fake_reply(conn, 200, buf_str(&b));
    buf_deinit(&b);
}

static void create(struct connection *conn, const char *name, const char *body)
{
    char answer[128];

    if (find(conn->f, name, strlen(name)) != NULL) {
        fake_reply(conn, 409, "{\"message\":\"Conflict. The container name is already in use\"}");
        return;
    }
    (void)snprintf(answer, sizeof(answer), "{\"Id\":\"%s\"}", add(conn->f, name, body)->id);
    fake_reply(conn, 201, answer);
}

static void stop(struct connection *conn, struct fake_container *c, int code, unsigned idle_status)
{
    if (!c->running) {
        fake_reply(conn, idle_status, "{\"message\":\"is not running\"}");
        return;
    }
    fake_engine_exit(conn->f, c, code);
    fake_reply(conn, 204, "");
}

/* /containers/<ref><action> */
static void on_container(struct connection *conn, const char *method, const char *ref)
{
    size_t size = strcspn(ref, "/?");
    const char *action = ref + size;
    struct fake_container *c = find(conn->f, ref, size);

    if (c == NULL)
        fake_reply(conn, 404, "{\"message\":\"No such container\"}");
    else if (strcmp(method, "DELETE") == 0) {
        c->removed = true;
        c->running = false;
        emit(conn->f, c, "destroy");
        fake_reply(conn, 204, "");
    } else if (strncmp(action, "/json", 5) == 0)
        inspect(conn, c);
    else if (strncmp(action, "/start", 6) == 0) {
        if (c->running) {
            fake_reply(conn, 304, "");
            return;
        }
        c->running = true;
        c->starts++;
        emit(conn->f, c, "start");
        fake_reply(conn, 204, "");
    } else if (strncmp(action, "/stop", 5) == 0)
        stop(conn, c, 143, 304);
    else if (strncmp(action, "/kill", 5) == 0)
        stop(conn, c, 137, 409);
    else
        fake_reply(conn, 200, "{\"StatusCode\":0}"); /* wait */
}

/* ---- networks ---- */

struct fake_network *fake_engine_network(struct fake_engine *f, const char *name)
{
    for (unsigned i = f->network_count; i-- > 0;)
        if (!f->networks[i].removed &&
            (strcmp(f->networks[i].name, name) == 0 || strcmp(f->networks[i].id, name) == 0))
            return &f->networks[i];
    return NULL;
}

static struct fake_network *network_add(struct fake_engine *f, const char *name)
{
    struct fake_network *n = &f->networks[f->network_count];

    ASSERT(f->network_count < FAKE_NETWORKS_MAX);
    memset(n, 0, sizeof(*n));
    (void)snprintf(n->id, sizeof(n->id), "%064x", 0xf00 + ++f->network_count);
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
    return n;
}

void fake_engine_foreign_network(struct fake_engine *f, const char *name)
{
    (void)network_add(f, name);
}

static char *network_json(const struct fake_network *n)
{
    return xasprintf("{\"Id\":\"%s\",\"Name\":\"%s\",\"Labels\":{\"io.skep.network\":\"%s\","
                     "\"io.skep.cluster\":\"%s\"}}",
                     n->id, n->name, n->network_id, n->cluster_id);
}

static void networks_list(struct connection *conn)
{
    struct fake_engine *f = conn->f;
    struct buf b = BUF_INIT(1 << 20);

    ASSERT(buf_append_str(&b, "[") == 0);
    for (unsigned i = 0; i < f->network_count; i++) {
        CLEANUP_FREE char *text = network_json(&f->networks[i]);

        if (!f->networks[i].removed)
            ASSERT(buf_printf(&b, "%s%s", b.size > 1 ? "," : "", text) == 0);
    }
    ASSERT(buf_append_str(&b, "]") == 0);
    fake_reply(conn, 200, buf_str(&b));
    buf_deinit(&b);
}

static void network_create(struct connection *conn, const char *body)
{
    json_t *o = json_loads(body, 0, NULL), *labels = json_object_get(o, "Labels");
    const char *name = json_string_value(json_object_get(o, "Name"));
    const char *ours = json_string_value(json_object_get(labels, "io.skep.network"));
    const char *cluster = json_string_value(json_object_get(labels, "io.skep.cluster"));
    struct fake_network *n;

    ASSERT(name != NULL && ours != NULL && cluster != NULL);
    if (fake_engine_network(conn->f, name) != NULL) {
        fake_reply(conn, 409, "{\"message\":\"network with name already exists\"}");
    } else {
        n = network_add(conn->f, name);
        (void)snprintf(n->network_id, sizeof(n->network_id), "%s", ours);
        (void)snprintf(n->cluster_id, sizeof(n->cluster_id), "%s", cluster);
        fake_reply(conn, 201, "{}");
    }
    json_decref(o);
}

static void network_connect(struct connection *conn, const struct fake_network *n, const char *body)
{
    json_t *o = json_loads(body, 0, NULL);
    const char *ref = json_string_value(json_object_get(o, "Container"));
    struct fake_container *c = ref == NULL ? NULL : find(conn->f, ref, strlen(ref));
    size_t size;

    if (c == NULL || c->starts > 0) {
        fake_reply(conn, 404, "{\"message\":\"no such container, or it was started\"}");
    } else if (strstr(c->connected, n->name) != NULL) {
        fake_reply(conn, 403, "{\"message\":\"endpoint already exists in network\"}");
    } else {
        size = strlen(c->connected);
        (void)snprintf(c->connected + size, sizeof(c->connected) - size, ",%s", n->name);
        fake_reply(conn, 200, "");
    }
    json_decref(o);
}

/* /networks/<name><action> */
static void on_network(struct connection *conn, const char *method, const char *ref,
                       const char *body)
{
    CLEANUP_FREE char *name = xstrndup(ref, strcspn(ref, "/?"));
    struct fake_network *n = fake_engine_network(conn->f, name);
    CLEANUP_FREE char *text = n == NULL ? NULL : network_json(n);

    if (n == NULL) {
        fake_reply(conn, 404, "{\"message\":\"network not found\"}");
    } else if (strcmp(method, "DELETE") == 0) {
        n->removed = true;
        fake_reply(conn, 204, "");
    } else if (strcmp(method, "POST") == 0) {
        network_connect(conn, n, body);
    } else {
        fake_reply(conn, 200, text);
    }
}

static void act(struct connection *conn, const char *body)
{
    const char *path = strchr(conn->request, ' ') + 1;
    char method[16];

    (void)snprintf(method, sizeof(method), "%.*s", (int)(path - conn->request - 1), conn->request);
    if (strncmp(path, "/events", 7) == 0)
        fake_open(conn);
    else if (strncmp(path, "/info", 5) == 0)
        fake_reply(conn, 200,
                   "{\"Name\":\"host\",\"NCPU\":4,\"MemTotal\":1024,\"OSType\":\"linux\","
                   "\"Architecture\":\"x86_64\",\"ServerVersion\":\"20.10\"}");
    else if (strncmp(path, "/images/create", 14) == 0)
        fake_reply(conn, 200, "{\"error\":\"no registry here\"}\n");
    else if (strncmp(path, "/images/boxempty", 16) == 0)
        fake_reply(conn, 200, "{\"Config\":{\"Entrypoint\":null,\"Cmd\":null}}");
    else if (strncmp(path, "/images/box", 11) == 0)
        fake_reply(conn, 200, "{\"Config\":{\"Cmd\":[\"serve\"]}}");
    else if (strncmp(path, "/networks?", 10) == 0)
        networks_list(conn);
    else if (strncmp(path, "/networks/create", 16) == 0)
        network_create(conn, body);
    else if (strncmp(path, "/networks/", 10) == 0)
        on_network(conn, method, path + 10, body);
    else if (strncmp(path, "/containers/json", 16) == 0)
        list(conn);
    else if (strncmp(path, "/containers/create?name=", 24) == 0)
        create(conn, path + 24, body);
    else if (strncmp(path, "/containers/", 12) == 0)
        on_container(conn, method, path + 12);
    else if (strncmp(path, "/volumes/create", 15) == 0)
        fake_reply(conn, 201, "{}");
    else
        fake_reply(conn, 404, "{\"message\":\"no such image\"}");
}

void fake_model_answer(struct connection *conn, const char *body)
{
    struct fake_engine *f = conn->f;

    if (f->chaos_ppm == 0 || !prng_chance_ppm(f->chaos, f->chaos_ppm)) {
        act(conn, body);
        return;
    }
    switch (prng_below(f->chaos, 4)) {
    case 0:
        fake_close(conn);
        break;
    case 1:
        fake_reply(conn, 500, "{\"message\":\"chaos\"}");
        break;
    default: /* takes effect, and nobody hears of it */
        conn->muted = true;
        act(conn, body);
        fake_close(conn);
        break;
    }
}

#include "agentd/docker/network.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/json.h"
#include "agentd/worker/container.h"
#include "agentd/worker/networks.h"
#include "agentd/worker/plain.h"

/* ---- requests ---- */

struct engine_call *network_inspect(struct engine *en, const char *name, struct docker_reply to,
                                    struct err *e)
{
    struct engine_request q = { .method = "GET",
                                .deadline_ms = CONTAINER_LOOK_MS_MAX,
                                .body_bytes_max = NETWORK_BYTES_MAX };

    return docker_send(en, &q, (const char *[]){ "/networks/", name, "" }, to, e);
}

struct engine_call *network_create(struct engine *en, const char *body, struct docker_reply to,
                                   struct err *e)
{
    struct engine_request q = { .method = "POST",
                                .body = body,
                                .deadline_ms = NETWORK_CREATE_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/networks/create", "", "" }, to, e);
}

struct engine_call *network_connect(struct engine *en, const char *name, const char *container,
                                    const char *body, struct docker_reply to, struct err *e)
{
    struct engine_request q = { .method = "POST", .deadline_ms = NETWORK_CREATE_MS_MAX };
    json_t *o = docker_json_parse(body, strlen(body), e);
    CLEANUP_FREE char *text = NULL;

    if (o == NULL)
        return NULL;
    (void)json_object_set_new(o, "Container", json_string(container)); /* fails with dumps */
    text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    if (text == NULL) {
        (void)err_set(e, ERR_INVALID, "network %s: not valid text", name);
        return NULL;
    }
    q.body = text; /* copied by the call */
    return docker_send(en, &q, (const char *[]){ "/networks/", name, "/connect" }, to, e);
}

struct engine_call *network_remove(struct engine *en, const char *ref, struct docker_reply to,
                                   struct err *e)
{
    struct engine_request q = { .method = "DELETE", .deadline_ms = NETWORK_CREATE_MS_MAX };

    return docker_send(en, &q, (const char *[]){ "/networks/", ref, "" }, to, e);
}

struct engine_call *network_list(struct engine *en, const char *cluster_id, struct docker_reply to,
                                 struct err *e)
{
    struct engine_request q = { .method = "GET",
                                .deadline_ms = CONTAINER_LOOK_MS_MAX,
                                .body_bytes_max = NETWORK_BYTES_MAX };
    char filters[128];

    plain_format(filters, sizeof(filters), "{\"label\":[\"%s=%s\"]}", LABEL_CLUSTER, cluster_id);
    return docker_send(en, &q, (const char *[]){ "/networks?filters=", filters, "" }, to, e);
}

/* ---- answers ---- */

static void take_entry(const json_t *o, struct network_entry *ret)
{
    const json_t *labels = docker_json_get(o, "Labels");
    const char *id = docker_json_str(o, "Id"), *ours = docker_json_str(labels, LABEL_NETWORK_ID),
               *cluster = docker_json_str(labels, LABEL_CLUSTER);

    plain_format(ret->id, sizeof(ret->id), "%s", container_id_valid(id) ? id : "");
    plain_format(ret->network_id, sizeof(ret->network_id), "%s", id_valid(ours) ? ours : "");
    plain_format(ret->cluster_id, sizeof(ret->cluster_id), "%s", id_valid(cluster) ? cluster : "");
}

int network_parse_inspect(const struct engine_response *r, struct network_entry *ret, struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e);
    struct network_entry entry;

    if (o == NULL)
        return -ERR_PROTO;
    take_entry(o, &entry);
    json_decref(o);
    if (entry.id[0] == '\0')
        return err_set(e, ERR_PROTO, "engine's answer about a network has no id");
    *ret = entry;
    return 0;
}

int network_parse_list(const struct engine_response *r, struct network_entry **ret,
                       size_t *ret_count, struct err *e)
{
    json_t *o = docker_json_parse(r->body, r->size, e), *item;
    struct network_entry *list;
    size_t i, count = 0;

    if (o == NULL)
        return -ERR_PROTO;
    if (!json_is_array(o) || json_array_size(o) > NETWORK_LIST_MAX) {
        json_decref(o);
        return err_set(e, ERR_PROTO, "engine's list of networks is no list or too long");
    }
    list = xcalloc(json_array_size(o) + 1, sizeof(*list));
    json_array_foreach(o, i, item)
    {
        take_entry(item, &list[count]);
        count += list[count].id[0] != '\0';
    }
    json_decref(o);
    *ret = list;
    *ret_count = count;
    return 0;
}

bool network_is_connected(const struct engine_response *r)
{
    return (r->status == 403 || r->status == 409) && strstr(r->err.message, "already") != NULL;
}

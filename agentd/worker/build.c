#include "agentd/worker/build.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agentd/worker/plain.h"

void build_init(struct build *b, const Skep__TaskAssignment *a, const struct container_node *n,
                struct container_plan *plan, struct err *e)
{
    const Skep__Task *t = a->task;

    memset(b, 0, sizeof(*b));
    b->assignment = a;
    b->spec = a->spec->task->container;
    b->node = n;
    b->plan = plan;
    b->e = e;
    buf_init(&b->scratch, TEMPLATE_BYTES_MAX);
    if (t->slot == 0)
        plain_format(b->slot, sizeof(b->slot), "%s", n->node_id);
    else
        plain_format(b->slot, sizeof(b->slot), "%" PRIu64, t->slot);
    b->context = (struct template_context){
        .service_id = t->service_id,
        .service_name = a->service_name,
        .service_labels = a->service_labels,
        .service_label_count = a->n_service_labels,
        .node_id = n->node_id,
        .node_hostname = n->hostname,
        .node_architecture = n->architecture,
        .node_os = n->os,
        .task_id = t->id,
        .task_name = plan->name,
        .task_slot = b->slot,
    };
}

void build_deinit(struct build *b)
{
    buf_deinit(&b->scratch);
}

void build_fail(struct build *b, const char *format, ...)
{
    char text[ERR_MESSAGE_BYTES_MAX];
    va_list args;

    if (b->rc < 0)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    plain_cut(text);
    b->rc = err_set(b->e, ERR_INVALID, "%s", text);
}

const char *build_expand(struct build *b, const char *what, const char *text)
{
    struct err why;

    if (b->rc == 0 && template_expand(text, &b->context, &b->scratch, &why) < 0)
        build_fail(b, "%s: %s", what, why.message);
    return b->rc < 0 ? "" : buf_str(&b->scratch);
}

/* jansson refuses text that is not UTF-8; the decoder of assignments has done so before. */
static void put(struct build *b, json_t *o, const char *key, json_t *value)
{
    if (json_object_set_new(o, key, value) < 0)
        build_fail(b, "%s: not valid text", key);
}

void build_str(struct build *b, json_t *o, const char *key, const char *value)
{
    put(b, o, key, json_string(value));
}

void build_str_if(struct build *b, json_t *o, const char *key, const char *value)
{
    if (value[0] != '\0')
        build_str(b, o, key, value);
}

void build_int(struct build *b, json_t *o, const char *key, int64_t value)
{
    put(b, o, key, json_integer(value));
}

void build_int_if(struct build *b, json_t *o, const char *key, int64_t value)
{
    if (value != 0)
        build_int(b, o, key, value);
}

void build_bool(struct build *b, json_t *o, const char *key, bool value)
{
    put(b, o, key, json_boolean(value));
}

void build_map(struct build *b, json_t *o, const char *key, Skep__KeyValue **kv, size_t count)
{
    json_t *map = build_object(b, o, key);

    for (size_t i = 0; i < count; i++)
        build_str(b, map, kv[i]->key, kv[i]->value);
}

void build_strings(struct build *b, json_t *o, const char *key, char **s, size_t count)
{
    json_t *list = build_array(b, o, key);

    for (size_t i = 0; i < count; i++)
        build_append_str(b, list, s[i]);
}

void build_strings_if(struct build *b, json_t *o, const char *key, char **s, size_t count)
{
    if (count > 0)
        build_strings(b, o, key, s, count);
}

json_t *build_object(struct build *b, json_t *o, const char *key)
{
    json_t *member = json_object();

    put(b, o, key, member);
    return member;
}

json_t *build_array(struct build *b, json_t *o, const char *key)
{
    json_t *member = json_array();

    put(b, o, key, member);
    return member;
}

json_t *build_append_object(struct build *b, json_t *list)
{
    json_t *member = json_object();

    if (json_array_append_new(list, member) < 0)
        build_fail(b, "list does not take another member");
    return member;
}

void build_append_str(struct build *b, json_t *list, const char *value)
{
    if (json_array_append_new(list, json_string(value)) < 0)
        build_fail(b, "not valid text");
}

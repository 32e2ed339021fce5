#include "test/lib/spec_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"

static _Noreturn void wrong(const char *text, const char *why)
{
    fprintf(stderr, "spec_text: \"%s\": %s\n", text, why);
    abort();
}

static ProtobufCMessage *new_message(const ProtobufCMessageDescriptor *type, struct arena *a)
{
    ProtobufCMessage *m = arena_alloc(a, type->sizeof_message);

    type->message_init(m);
    return m;
}

static bool is_long(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_INT64 || type == PROTOBUF_C_TYPE_UINT64;
}

static bool is_int(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_INT32 || type == PROTOBUF_C_TYPE_UINT32;
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
    return is_int(f->type) || f->type == PROTOBUF_C_TYPE_ENUM ? 4 : 8;
}

/* Where element `index` of list f of m lives; the list grows to hold it. */
static void *list_at(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct arena *a,
                     size_t index)
{
    size_t *count = (size_t *)(void *)((uint8_t *)m + f->quantifier_offset);
    void **list = (void **)(void *)((uint8_t *)m + f->offset);
    size_t size = element_size(f);

    if (index >= *count) {
        uint8_t *bigger = arena_array(a, index + 1, size);

        if (*count > 0)
            memcpy(bigger, *list, *count * size);
        for (size_t i = *count; i <= index; i++) {
            void *at = bigger + i * size;

            if (f->type == PROTOBUF_C_TYPE_STRING)
                *(char **)at = (char *)"";
            else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                *(ProtobufCMessage **)at = new_message(f->descriptor, a);
        }
        *list = bigger;
        *count = index + 1;
    }
    return (uint8_t *)*list + index * size;
}

static int64_t number(const char *text, const char *whole)
{
    int64_t value;
    uint64_t big;
    struct err e;

    if (text_parse_i64(text, &value, &e) == 0 || text_parse_duration(text, &value, &e) == 0 ||
        text_parse_bytes(text, &value, &e) == 0)
        return value;
    if (text_parse_u64(text, &big, &e) == 0)
        return (int64_t)big;
    wrong(whole, "not a number");
}

static void set_value(void *at, const ProtobufCFieldDescriptor *f, struct arena *a,
                      const char *value, const char *whole)
{
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        *(char **)at = arena_strdup(a, value);
    } else if (f->type == PROTOBUF_C_TYPE_BOOL) {
        *(protobuf_c_boolean *)at = strcmp(value, "true") == 0;
    } else if (f->type == PROTOBUF_C_TYPE_ENUM) {
        const ProtobufCEnumValue *named =
            protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, value);

        *(int *)at = named != NULL ? named->value : (int)number(value, whole);
    } else if (is_int(f->type)) {
        *(uint32_t *)at = (uint32_t)number(value, whole);
    } else if (is_long(f->type)) {
        *(uint64_t *)at = (uint64_t)number(value, whole);
    } else {
        wrong(whole, "fields of this type cannot be set");
    }
}

/* Cuts the next part off a path: "mounts[2]" gives name and index (SIZE_MAX: none). */
static const char *next_part(char **path, size_t *ret_index, const char *whole)
{
    char *part = *path, *end = part + strcspn(part, "."), *bracket;

    *path = *end == '.' ? end + 1 : NULL;
    *end = '\0';
    *ret_index = SIZE_MAX;
    bracket = strchr(part, '[');
    if (bracket != NULL) {
        *ret_index = (size_t)strtoul(bracket + 1, NULL, 10);
        *bracket = '\0';
    }
    if (*part == '\0')
        wrong(whole, "empty part of a path");
    return part;
}

void spec_set(ProtobufCMessage *m, struct arena *a, const char *assignment)
{
    const char *equals = strchr(assignment, '=');

    if (equals == NULL)
        wrong(assignment, "no '='");
    char *path = arena_strdup(a, assignment);
    path[equals - assignment] = '\0';
    while (path != NULL) {
        size_t index;
        const char *name = next_part(&path, &index, assignment);
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);

        if (f == NULL)
            wrong(assignment, "no such field");
        void *at = (uint8_t *)m + f->offset;
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            at = list_at(m, f, a, index != SIZE_MAX ? index : 0);
        else if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t *chosen = (uint32_t *)(void *)((uint8_t *)m + f->quantifier_offset);

            if (*chosen != f->id)
                *(void **)at = NULL;
            *chosen = f->id;
        }
        if (f->type != PROTOBUF_C_TYPE_MESSAGE) {
            if (path != NULL)
                wrong(assignment, "the path goes on behind a value");
            set_value(at, f, a, equals + 1, assignment);
            return;
        }
        ProtobufCMessage **sub = at;
        if (*sub == NULL)
            *sub = new_message(f->descriptor, a);
        m = *sub;
    }
    if (equals[1] != '\0')
        wrong(assignment, "a message takes no value");
}

void spec_set_all(ProtobufCMessage *m, struct arena *a, const char *assignments)
{
    char *text = arena_strdup(a, assignments), *save = NULL;

    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        spec_set(m, a, word);
}

Skep__ServiceSpec *spec_service(struct arena *a, const char *name, const char *assignments)
{
    Skep__ServiceSpec *spec = ARENA_NEW(a, Skep__ServiceSpec);

    skep__service_spec__init(spec);
    spec->annotations = ARENA_NEW(a, Skep__Annotations);
    skep__annotations__init(spec->annotations);
    spec->annotations->name = arena_strdup(a, name);
    spec_set(&spec->base, a, "task.container.image=nginx:1");
    spec_set_all(&spec->base, a, assignments);
    return spec;
}

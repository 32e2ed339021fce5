#include <string.h>

#include "common/assert.h"
#include "managerd/store/internal.h"

/* In front of every object. Counts are plain: only the loop thread changes them. */
struct header {
    uint32_t refs;
    uint32_t size; /* of the block */
};
static_assert(sizeof(struct header) % 8 == 0, "objects are aligned to 8");

#define SAME_START(type)                                                                           \
    static_assert(offsetof(type, id) == offsetof(struct any_object, id) &&                         \
                      offsetof(type, meta) == offsetof(struct any_object, meta),                   \
                  "objects begin with id and meta")
SAME_START(Skep__Node);
SAME_START(Skep__Service);
SAME_START(Skep__Task);
SAME_START(Skep__Network);
SAME_START(Skep__Cluster);
SAME_START(Skep__Secret);
SAME_START(Skep__Config);
SAME_START(Skep__Revision);

/* clang-format off */
#define OBJECT(CASE) SKEP__OBJECT__OBJECT_##CASE
static const struct kind_info kinds[STORE_KIND_COUNT] = {
    [SKEP__KIND__KIND_NODE] = { "node", &skep__node__descriptor, OBJECT(NODE),
                                offsetof(Skep__Node, spec), false },
    [SKEP__KIND__KIND_SERVICE] = { "service", &skep__service__descriptor, OBJECT(SERVICE),
                                   offsetof(Skep__Service, spec), true },
    [SKEP__KIND__KIND_TASK] = { "task", &skep__task__descriptor, OBJECT(TASK), 0, false },
    [SKEP__KIND__KIND_NETWORK] = { "network", &skep__network__descriptor, OBJECT(NETWORK),
                                   offsetof(Skep__Network, spec), true },
    [SKEP__KIND__KIND_CLUSTER] = { "cluster", &skep__cluster__descriptor, OBJECT(CLUSTER),
                                   offsetof(Skep__Cluster, spec), true },
    [SKEP__KIND__KIND_SECRET] = { "secret", &skep__secret__descriptor, OBJECT(SECRET),
                                  offsetof(Skep__Secret, spec), true },
    [SKEP__KIND__KIND_CONFIG] = { "config", &skep__config__descriptor, OBJECT(CONFIG),
                                  offsetof(Skep__Config, spec), true },
    [SKEP__KIND__KIND_REVISION] = { "revision", &skep__revision__descriptor, OBJECT(REVISION), 0,
                                    false },
};
/* clang-format on */

bool kind_valid(int kind)
{
    return kind > 0 && kind < STORE_KIND_COUNT;
}

const struct kind_info *kind_info(Skep__Kind kind)
{
    ASSERT(kind_valid((int)kind));
    return &kinds[kind];
}

static struct header *header_of(const void *object)
{
    return (struct header *)(uintptr_t)object - 1;
}

const ProtobufCMessage *object_new(const ProtobufCMessage *m, const struct message_size *size)
{
    size_t block = sizeof(struct header) + size->structs + size->bytes;
    struct header *h = xmalloc(block);

    ASSERT(block <= UINT32_MAX);
    *h = (struct header){ .refs = 1, .size = (uint32_t)block };
    return message_clone_at(h + 1, m, size);
}

const void *object_ref(const void *object)
{
    struct header *h = header_of(object);

    ASSERT(h->refs > 0 && h->refs < UINT32_MAX);
    h->refs++;
    return object;
}

void object_unref(const void *object)
{
    if (object == NULL)
        return;
    struct header *h = header_of(object);

    ASSERT(h->refs > 0);
    if (--h->refs == 0)
        free(h);
}

size_t object_size(const ProtobufCMessage *object)
{
    return header_of(object)->size;
}

Skep__Kind object_kind(const ProtobufCMessage *object)
{
    for (int kind = 1; kind < STORE_KIND_COUNT; kind++) {
        if (kinds[kind].descriptor == object->descriptor)
            return (Skep__Kind)kind;
    }
    return SKEP__KIND__KIND_NONE;
}

const char *object_id(const ProtobufCMessage *object)
{
    return ((const struct any_object *)object)->id;
}

const Skep__Meta *object_meta(const ProtobufCMessage *object)
{
    return ((const struct any_object *)object)->meta;
}

const ProtobufCMessage *object_spec(const ProtobufCMessage *object, Skep__Kind kind)
{
    uint32_t offset = kind_info(kind)->spec_offset;

    if (offset == 0)
        return NULL;
    return *(const ProtobufCMessage *const *)(const void *)((const uint8_t *)object + offset);
}

/* Every spec begins with its annotations. */
struct any_spec {
    ProtobufCMessage base;
    Skep__Annotations *annotations;
};
static_assert(
    offsetof(Skep__ServiceSpec, annotations) == offsetof(struct any_spec, annotations) &&
        offsetof(Skep__NetworkSpec, annotations) == offsetof(struct any_spec, annotations) &&
        offsetof(Skep__ClusterSpec, annotations) == offsetof(struct any_spec, annotations) &&
        offsetof(Skep__SecretSpec, annotations) == offsetof(struct any_spec, annotations) &&
        offsetof(Skep__ConfigSpec, annotations) == offsetof(struct any_spec, annotations),
    "specs begin with annotations");

const char *object_name(const ProtobufCMessage *object)
{
    Skep__Kind kind = object_kind(object);

    if (kind == SKEP__KIND__KIND_NODE) {
        const Skep__Node *node = (const Skep__Node *)object;

        return node->description != NULL ? node->description->hostname : "";
    }
    if (kind == SKEP__KIND__KIND_NONE)
        return "";
    const struct any_spec *spec = (const struct any_spec *)object_spec(object, kind);
    return spec != NULL && spec->annotations != NULL ? spec->annotations->name : "";
}

const ProtobufCMessage *object_unwrap(const Skep__Object *wrapped, Skep__Kind *ret_kind)
{
    /* All members of the union are pointers to messages. */
    const ProtobufCMessage *object =
        wrapped != NULL ? (const ProtobufCMessage *)wrapped->node : NULL;

    if (wrapped == NULL || wrapped->object_case == SKEP__OBJECT__OBJECT__NOT_SET || object == NULL)
        return NULL;
    *ret_kind = object_kind(object);
    return object;
}

void object_wrap(const ProtobufCMessage *object, Skep__Kind kind, Skep__Object *ret_wrapped)
{
    skep__object__init(ret_wrapped);
    ret_wrapped->object_case = kind_info(kind)->object_case;
    ret_wrapped->node = (Skep__Node *)(uintptr_t)object;
}

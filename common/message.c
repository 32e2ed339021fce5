#include "common/message.h"

#include <string.h>

#include "common/assert.h"

/* Where the parts of a copy go: structs and arrays first, then strings, so nothing is padded. */
struct cursor {
    uint8_t *structs;
    uint8_t *bytes;
};

static size_t round_up(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static size_t varint_size(uint64_t value)
{
    return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
}

static size_t tag_size(const ProtobufCFieldDescriptor *f)
{
    return f->id < 16 ? 1 : varint_size((uint64_t)f->id << 3);
}

static const void *member(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return (const uint8_t *)m + f->offset;
}

static size_t repeated_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return *(const size_t *)(const void *)((const uint8_t *)m + f->quantifier_offset);
}

/* False for the members of a oneof that are not the chosen one. */
static bool chosen(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0)
        return true;
    return *(const uint32_t *)(const void *)((const uint8_t *)m + f->quantifier_offset) == f->id;
}

/* Bytes of one value in a struct or array. */
static size_t element_size(ProtobufCType type)
{
    static const uint8_t sizes[] = {
        [PROTOBUF_C_TYPE_INT32] = 4,
        [PROTOBUF_C_TYPE_SINT32] = 4,
        [PROTOBUF_C_TYPE_SFIXED32] = 4,
        [PROTOBUF_C_TYPE_INT64] = 8,
        [PROTOBUF_C_TYPE_SINT64] = 8,
        [PROTOBUF_C_TYPE_SFIXED64] = 8,
        [PROTOBUF_C_TYPE_UINT32] = 4,
        [PROTOBUF_C_TYPE_FIXED32] = 4,
        [PROTOBUF_C_TYPE_UINT64] = 8,
        [PROTOBUF_C_TYPE_FIXED64] = 8,
        [PROTOBUF_C_TYPE_FLOAT] = 4,
        [PROTOBUF_C_TYPE_DOUBLE] = 8,
        [PROTOBUF_C_TYPE_BOOL] = sizeof(protobuf_c_boolean),
        [PROTOBUF_C_TYPE_ENUM] = 4,
        [PROTOBUF_C_TYPE_STRING] = sizeof(char *),
        [PROTOBUF_C_TYPE_BYTES] = sizeof(ProtobufCBinaryData),
        [PROTOBUF_C_TYPE_MESSAGE] = sizeof(void *),
    };

    ASSERT((size_t)type < sizeof(sizes));
    return sizes[type];
}

/* Strings, bytes and messages: what lies outside the struct. */
static_assert(PROTOBUF_C_TYPE_STRING > PROTOBUF_C_TYPE_ENUM &&
                  PROTOBUF_C_TYPE_BYTES > PROTOBUF_C_TYPE_ENUM &&
                  PROTOBUF_C_TYPE_MESSAGE > PROTOBUF_C_TYPE_ENUM,
              "numbers come first");
static bool has_length(ProtobufCType type)
{
    return type > PROTOBUF_C_TYPE_ENUM;
}

/* ---- measuring ---- */

/* Packed size of a number without its tag. */
static size_t scalar_packed(const void *at, ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        return varint_size((uint64_t)(int64_t) * (const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
        return varint_size(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_SINT32: {
        int32_t v = *(const int32_t *)at;

        return varint_size(((uint32_t)v << 1) ^ (uint32_t)(v >> 31));
    }
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        return varint_size(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_SINT64: {
        int64_t v = *(const int64_t *)at;

        return varint_size(((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
    }
    case PROTOBUF_C_TYPE_BOOL:
        return 1;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return 4;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    UNREACHABLE();
}

static bool scalar_zero(const void *at, size_t size)
{
    return size == 4 ? *(const uint32_t *)at == 0 : *(const uint64_t *)at == 0;
}

static void measure(const ProtobufCMessage *m, struct message_size *sum);

/* One element (or the single value) of a field that has a length: string, bytes, message. */
static void measure_element(const ProtobufCFieldDescriptor *f, const void *at, bool single,
                            struct message_size *sum)
{
    size_t inner;

    if (f->type == PROTOBUF_C_TYPE_STRING) {
        const char *s = *(const char *const *)at;

        inner = s != NULL ? strlen(s) : 0;
        if (single && inner == 0)
            return; /* becomes the shared "" */
        sum->bytes += inner + 1;
    } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
        inner = ((const ProtobufCBinaryData *)at)->len;
        if (single && inner == 0)
            return;
        sum->bytes += inner;
    } else {
        const ProtobufCMessage *sub = *(const ProtobufCMessage *const *)at;

        if (sub == NULL)
            return;
        size_t before = sum->packed;
        measure(sub, sum);
        inner = sum->packed - before;
        sum->packed += tag_size(f) + varint_size(inner);
        return;
    }
    sum->packed += tag_size(f) + varint_size(inner) + inner;
}

static void measure_repeated(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                             struct message_size *sum)
{
    size_t count = repeated_count(m, f), size = element_size(f->type);
    const uint8_t *at = *(const uint8_t *const *)member(m, f);
    size_t values = 0;

    if (count == 0)
        return;
    sum->structs += round_up(count * size);
    for (size_t i = 0; i < count; i++, at += size) {
        if (has_length(f->type))
            measure_element(f, at, false, sum);
        else
            values += scalar_packed(at, f->type);
    }
    if (has_length(f->type))
        return;
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_PACKED) != 0)
        sum->packed += tag_size(f) + varint_size(values) + values;
    else
        sum->packed += count * tag_size(f) + values;
}

static void measure(const ProtobufCMessage *m, struct message_size *sum)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;

    sum->structs += round_up(d->sizeof_message);
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];

        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            measure_repeated(m, f, sum);
        } else if (chosen(m, f)) {
            bool oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;

            if (has_length(f->type))
                measure_element(f, member(m, f), !oneof, sum);
            else if (oneof || !scalar_zero(member(m, f), element_size(f->type)))
                sum->packed += tag_size(f) + scalar_packed(member(m, f), f->type);
        }
    }
    if (m->n_unknown_fields == 0)
        return;
    sum->structs += m->n_unknown_fields * round_up(sizeof(*m->unknown_fields));
    for (unsigned i = 0; i < m->n_unknown_fields; i++) {
        sum->bytes += m->unknown_fields[i].len;
        sum->packed +=
            varint_size((uint64_t)m->unknown_fields[i].tag << 3) + m->unknown_fields[i].len;
    }
}

struct message_size message_measure(const ProtobufCMessage *m)
{
    struct message_size sum = { 0 };

    measure(m, &sum);
    return sum;
}

/* ---- copying ---- */

static void *take_struct(struct cursor *c, const void *from, size_t size)
{
    void *to = c->structs;

    c->structs += round_up(size);
    memcpy(to, from, size);
    return to;
}

static void *take_bytes(struct cursor *c, const void *from, size_t size)
{
    void *to = c->bytes;

    c->bytes += size;
    memcpy(to, from, size);
    return to;
}

static ProtobufCMessage *copy(struct cursor *c, const ProtobufCMessage *m);

/* `at` lies in the copy and still points into the original. */
static void copy_element(struct cursor *c, ProtobufCType type, void *at, bool single)
{
    if (type == PROTOBUF_C_TYPE_STRING) {
        char **s = at;
        size_t size = *s != NULL ? strlen(*s) : 0;

        if (size == 0 && single)
            *s = (char *)(uintptr_t)protobuf_c_empty_string;
        else
            *s = take_bytes(c, *s != NULL ? *s : "", size + 1);
    } else if (type == PROTOBUF_C_TYPE_BYTES) {
        ProtobufCBinaryData *b = at;

        b->data = b->len > 0 ? take_bytes(c, b->data, b->len) : NULL;
    } else {
        ProtobufCMessage **sub = at;

        if (*sub != NULL)
            *sub = copy(c, *sub);
    }
}

static void copy_repeated(struct cursor *c, ProtobufCMessage *to, const ProtobufCFieldDescriptor *f)
{
    size_t count = repeated_count(to, f), size = element_size(f->type);
    uint8_t **array = (void *)((uint8_t *)to + f->offset);

    if (count == 0) {
        *array = NULL;
        return;
    }
    *array = take_struct(c, *array, count * size);
    if (!has_length(f->type))
        return;
    for (size_t i = 0; i < count; i++)
        copy_element(c, f->type, *array + i * size, false);
}

static void copy_unknown(struct cursor *c, ProtobufCMessage *to)
{
    if (to->n_unknown_fields == 0) {
        to->unknown_fields = NULL;
        return;
    }
    to->unknown_fields =
        take_struct(c, to->unknown_fields, to->n_unknown_fields * sizeof(*to->unknown_fields));
    for (unsigned i = 0; i < to->n_unknown_fields; i++) {
        ProtobufCMessageUnknownField *u = &to->unknown_fields[i];

        u->data = u->len > 0 ? take_bytes(c, u->data, u->len) : NULL;
    }
}

static ProtobufCMessage *copy(struct cursor *c, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    ProtobufCMessage *to = take_struct(c, m, d->sizeof_message);

    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];

        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            copy_repeated(c, to, f);
        else if (has_length(f->type) && chosen(to, f))
            copy_element(c, f->type, (uint8_t *)to + f->offset,
                         (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0);
    }
    copy_unknown(c, to);
    return to;
}

ProtobufCMessage *message_clone_at(void *mem, const ProtobufCMessage *m,
                                   const struct message_size *size)
{
    struct cursor c = { .structs = mem, .bytes = (uint8_t *)mem + size->structs };
    ProtobufCMessage *to = copy(&c, m);

    ASSERT(c.structs == (uint8_t *)mem + size->structs);
    ASSERT(c.bytes == (uint8_t *)mem + size->structs + size->bytes);
    return to;
}

ProtobufCMessage *message_clone(const ProtobufCMessage *m)
{
    struct message_size size = message_measure(m);

    return message_clone_at(xmalloc(size.structs + size.bytes), m, &size);
}

ProtobufCMessage *message_clone_arena(struct arena *a, const ProtobufCMessage *m)
{
    struct message_size size = message_measure(m);

    return message_clone_at(arena_alloc(a, size.structs + size.bytes), m, &size);
}

/* ---- comparing ---- */

static bool element_equal(ProtobufCType type, const void *a, const void *b)
{
    if (type == PROTOBUF_C_TYPE_STRING) {
        const char *s = *(const char *const *)a, *t = *(const char *const *)b;

        return s == t || strcmp(s != NULL ? s : "", t != NULL ? t : "") == 0;
    }
    if (type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *s = a, *t = b;

        return s->len == t->len && (s->len == 0 || memcmp(s->data, t->data, s->len) == 0);
    }
    if (type == PROTOBUF_C_TYPE_MESSAGE)
        return message_equal(*(const ProtobufCMessage *const *)a,
                             *(const ProtobufCMessage *const *)b);
    return memcmp(a, b, element_size(type)) == 0;
}

static bool field_equal(const ProtobufCMessage *a, const ProtobufCMessage *b,
                        const ProtobufCFieldDescriptor *f)
{
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        if (chosen(a, f) != chosen(b, f))
            return false;
        return !chosen(a, f) || element_equal(f->type, member(a, f), member(b, f));
    }
    size_t count = repeated_count(a, f), size = element_size(f->type);
    const uint8_t *s = *(const uint8_t *const *)member(a, f);
    const uint8_t *t = *(const uint8_t *const *)member(b, f);

    if (count != repeated_count(b, f))
        return false;
    for (size_t i = 0; i < count && s != t; i++) {
        if (!element_equal(f->type, s + i * size, t + i * size))
            return false;
    }
    return true;
}

static bool unknown_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    if (a->n_unknown_fields != b->n_unknown_fields)
        return false;
    for (unsigned i = 0; i < a->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *s = &a->unknown_fields[i], *t = &b->unknown_fields[i];

        if (s->tag != t->tag || s->wire_type != t->wire_type || s->len != t->len ||
            (s->len > 0 && memcmp(s->data, t->data, s->len) != 0))
            return false;
    }
    return true;
}

bool message_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    if (a == b)
        return true;
    if (a == NULL || b == NULL || a->descriptor != b->descriptor)
        return false;
    for (unsigned i = 0; i < a->descriptor->n_fields; i++) {
        if (!field_equal(a, b, &a->descriptor->fields[i]))
            return false;
    }
    return unknown_equal(a, b);
}

/* ---- unpacking ---- */

static void *arena_alloc_raw(void *ctx, size_t size)
{
    return arena_alloc(ctx, size);
}

static void arena_free_nothing(void *ctx, void *mem)
{
    (void)ctx;
    (void)mem;
}

ProtobufCAllocator message_arena_allocator(struct arena *a)
{
    return (ProtobufCAllocator){ arena_alloc_raw, arena_free_nothing, a };
}

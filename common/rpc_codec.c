/* Strict decoding. protobuf-c believes what it reads: it allocates whatever a count times a size
 * says, keeps unknown fields, lets a field come a million times and takes any bytes for a string.
 * So a walk over the wire format by the message's descriptor comes first and refuses all of that;
 * what passes is unpacked with a budget on memory. */
#include "common/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

enum { DEPTH_MAX = 16, BUDGET_BASE_BYTES = 64 << 10, BUDGET_FACTOR = 32, SINGULAR_FIELDS_MAX = 64 };

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct reader {
    const uint8_t *at, *end;
};

static bool read_varint(struct reader *r, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (r->at == r->end)
            return false;
        uint8_t byte = *r->at++;

        if (shift == 63 && byte > 1)
            return false; /* beyond 64 bits */
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool read_bytes(struct reader *r, uint64_t size, struct reader *ret)
{
    if (size > (uint64_t)(r->end - r->at))
        return false;
    *ret = (struct reader){ r->at, r->at + size };
    r->at += size;
    return true;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF; and no NUL, since strings
 * are C strings here. */
static bool utf8_valid(const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        uint8_t first = *at++;

        if (first == 0)
            return false;
        if (first < 0x80)
            continue;
        unsigned more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || (size_t)(end - at) < more)
            return false;
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        for (unsigned i = 0; i < more; i++) {
            if (*at < low || *at > high)
                return false;
            low = 0x80;
            high = 0xbf;
            at++;
        }
    }
    return true;
}

static enum wire_type wire_type_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return WIRE_VARINT;
}

static int refuse(struct err *e, const ProtobufCMessageDescriptor *type, const char *field,
                  const char *why)
{
    return err_set(e, ERR_PROTO, "%s%s%s: %s", type->short_name, field[0] != '\0' ? "." : "", field,
                   why);
}

static int check_scalar(struct reader *r, const ProtobufCFieldDescriptor *f,
                        const ProtobufCMessageDescriptor *type, struct err *e)
{
    struct reader skipped;
    uint64_t value;

    switch (wire_type_of(f->type)) {
    case WIRE_VARINT:
        if (!read_varint(r, &value))
            return refuse(e, type, f->name, "not a number");
        if (f->type == PROTOBUF_C_TYPE_ENUM &&
            (value > INT32_MAX ||
             protobuf_c_enum_descriptor_get_value(f->descriptor, (int)value) == NULL))
            return refuse(e, type, f->name, "unknown value");
        return 0;
    case WIRE_64:
        return read_bytes(r, 8, &skipped) ? 0 : refuse(e, type, f->name, "cut short");
    case WIRE_32:
        return read_bytes(r, 4, &skipped) ? 0 : refuse(e, type, f->name, "cut short");
    case WIRE_BYTES:
        break;
    }
    UNREACHABLE();
}

static int check_message(struct reader r, const ProtobufCMessageDescriptor *type, unsigned depth,
                         struct err *e);

/* Strings, bytes, messages and packed scalars. */
static int check_bytes(struct reader body, const ProtobufCFieldDescriptor *f,
                       const ProtobufCMessageDescriptor *type, unsigned depth, struct err *e)
{
    int rc = 0;

    if (f->type == PROTOBUF_C_TYPE_STRING)
        return utf8_valid(body.at, body.end) ? 0 : refuse(e, type, f->name, "not UTF-8 text");
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return 0;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return check_message(body, f->descriptor, depth + 1, e);
    while (rc == 0 && body.at < body.end)
        rc = check_scalar(&body, f, type, e);
    return rc;
}

/* Fields of later versions are skipped, and cost nothing since the budget covers them. */
static int skip_unknown(struct reader *r, unsigned wire_type,
                        const ProtobufCMessageDescriptor *type, struct err *e)
{
    struct reader skipped;
    uint64_t value;
    bool ok = false;

    if (wire_type == WIRE_VARINT)
        ok = read_varint(r, &value);
    else if (wire_type == WIRE_64)
        ok = read_bytes(r, 8, &skipped);
    else if (wire_type == WIRE_32)
        ok = read_bytes(r, 4, &skipped);
    else if (wire_type == WIRE_BYTES)
        ok = read_varint(r, &value) && read_bytes(r, value, &skipped);
    return ok ? 0 : refuse(e, type, "", "malformed");
}

static int check_field(struct reader *r, uint64_t key, const ProtobufCFieldDescriptor *f,
                       const ProtobufCMessageDescriptor *type, unsigned depth, struct err *e)
{
    unsigned wire_type = key & 7;
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    struct reader body;
    uint64_t size;

    if (wire_type == WIRE_BYTES && (repeated || wire_type_of(f->type) == WIRE_BYTES)) {
        if (!read_varint(r, &size) || !read_bytes(r, size, &body))
            return refuse(e, type, f->name, "cut short");
        return check_bytes(body, f, type, depth, e);
    }
    if (wire_type != wire_type_of(f->type))
        return refuse(e, type, f->name, "of another type");
    return check_scalar(r, f, type, e);
}

static int check_message(struct reader r, const ProtobufCMessageDescriptor *type, unsigned depth,
                         struct err *e)
{
    uint64_t seen = 0; /* singular fields, by index */
    uint64_t key;
    int rc = 0;

    if (depth > DEPTH_MAX)
        return refuse(e, type, "", "nested too deep");
    while (rc == 0 && r.at < r.end) {
        if (!read_varint(&r, &key) || key >> 3 == 0 || key > UINT32_MAX)
            return refuse(e, type, "", "malformed");
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(key >> 3));
        if (f == NULL) {
            rc = skip_unknown(&r, key & 7, type, e);
            continue;
        }
        size_t index = (size_t)(f - type->fields);
        if (f->label != PROTOBUF_C_LABEL_REPEATED && index < SINGULAR_FIELDS_MAX) {
            if (seen & UINT64_C(1) << index)
                return refuse(e, type, f->name, "given twice");
            seen |= UINT64_C(1) << index;
        }
        rc = check_field(&r, key, f, type, depth, e);
    }
    return rc;
}

struct budget {
    size_t left;
    bool exceeded;
};

static void *budget_alloc(void *ctx, size_t size)
{
    struct budget *b = ctx;

    if (size > b->left) {
        b->exceeded = true;
        return NULL;
    }
    b->left -= size;
    return malloc(size); /* protobuf-c handles NULL */
}

static void budget_free(void *ctx, void *mem)
{
    (void)ctx;
    free(mem);
}

int rpc_decode(const ProtobufCBinaryData *body, const ProtobufCMessageDescriptor *type,
               ProtobufCMessage **ret_message, struct err *e)
{
    struct reader r = { body->data, body->data + body->len };
    struct budget budget = { .left = BUDGET_BASE_BYTES + BUDGET_FACTOR * body->len };
    ProtobufCAllocator allocator = { budget_alloc, budget_free, &budget };

    if (body->len > RPC_MESSAGE_BYTES_MAX)
        return err_set(e, ERR_TOO_BIG, "%s: more than %d bytes", type->short_name,
                       RPC_MESSAGE_BYTES_MAX);
    int rc = body->len > 0 ? check_message(r, type, 0, e) : 0;
    if (rc < 0)
        return rc;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, body->len, body->data);
    if (message == NULL)
        return refuse(e, type, "", budget.exceeded ? "too much in it" : "malformed");
    *ret_message = message;
    return 0;
}

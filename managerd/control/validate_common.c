#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "managerd/control/defaults.h"
#include "managerd/control/validate_internal.h"

bool validate_chars(const char *text, const char *set)
{
    return text[strspn(text, set)] == '\0';
}

bool validate_is_ip(const char *text)
{
    unsigned char mem[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, mem) == 1 || inet_pton(AF_INET6, text, mem) == 1;
}

/* Begins and ends with a letter or digit; between them also the characters of `inner`. */
static bool name_valid(const char *name, const char *inner, size_t bytes_max)
{
    size_t size = strnlen(name, bytes_max + 1);

    return size > 0 && size <= bytes_max && validate_chars(name, inner) &&
           strchr(VALIDATE_ALNUM, name[0]) != NULL &&
           strchr(VALIDATE_ALNUM, name[size - 1]) != NULL;
}

int validate_name(const char *at, const char *name, struct err *e)
{
    if (name[0] == '\0')
        return err_set(e, ERR_INVALID, "%s: name must be provided", at);
    if (strlen(name) > VALIDATE_NAME_BYTES_MAX)
        return err_set(e, ERR_INVALID, "%s: name must be %d characters or fewer", at,
                       VALIDATE_NAME_BYTES_MAX);
    if (!name_valid(name, VALIDATE_ALNUM "-_", VALIDATE_NAME_BYTES_MAX))
        return err_set(e, ERR_INVALID,
                       "%s: name \"%s\" must be valid as a DNS name component: letters, digits, "
                       "'-' and '_', beginning and ending with a letter or digit",
                       at, name);
    return 0;
}

int validate_file_object_name(const char *at, const char *name, struct err *e)
{
    if (!name_valid(name, VALIDATE_ALNUM "-_.", VALIDATE_FILE_NAME_BYTES_MAX))
        return err_set(e, ERR_INVALID,
                       "%s: invalid name \"%.70s\", only 1 to %d [a-zA-Z0-9-_.] with a letter or "
                       "digit at both ends are allowed",
                       at, name, VALIDATE_FILE_NAME_BYTES_MAX);
    return 0;
}

int validate_count(const char *at, size_t count, size_t max, struct err *e)
{
    if (count > max)
        return err_set(e, ERR_INVALID, "%s: %zu entries, at most %zu are allowed", at, count, max);
    return 0;
}

int validate_duration(const char *at, int64_t ns, struct err *e)
{
    if (ns < 0)
        return err_set(e, ERR_INVALID, "%s cannot be negative", at);
    if (ns > VALIDATE_DURATION_NS_MAX)
        return err_set(e, ERR_INVALID, "%s: more than ten years", at);
    return 0;
}

int validate_line(const char *at, const char *text, size_t bytes_max, struct err *e)
{
    if (strlen(text) > bytes_max)
        return err_set(e, ERR_INVALID, "%s: longer than %zu bytes", at, bytes_max);
    if (!text_printable(text))
        return err_set(e, ERR_INVALID, "%s: contains a control character", at);
    return 0;
}

static int check_label_key(const char *at, const char *key, struct err *e)
{
    if (key[0] == '\0')
        return err_set(e, ERR_INVALID, "%s: a label has no name", at);
    int rc = validate_line(at, key, VALIDATE_LABEL_KEY_BYTES_MAX, e);
    if (rc < 0)
        return rc;
    if (strpbrk(key, " \t=") != NULL || strstr(key, "../") != NULL)
        return err_set(e, ERR_INVALID,
                       "%s: label name \"%.64s\" contains white space, '=' or '../'", at, key);
    return 0;
}

int validate_labels(const char *at, Skep__KeyValue *const *map, size_t count, struct err *e)
{
    int rc = validate_count(at, count, VALIDATE_LABELS_MAX, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = check_label_key(at, map[i]->key, e);
        if (rc < 0)
            return rc;
        if (i > 0 && strcmp(map[i - 1]->key, map[i]->key) == 0)
            return err_set(e, ERR_INVALID, "%s: label \"%.64s\" is given twice", at, map[i]->key);
        if (strlen(map[i]->value) > VALIDATE_LABEL_VALUE_BYTES_MAX)
            return err_set(e, ERR_INVALID, "%s: value of label \"%.64s\" is longer than %d bytes",
                           at, map[i]->key, VALIDATE_LABEL_VALUE_BYTES_MAX);
    }
    return rc;
}

/* ---- enums, for all messages alike ---- */

static int check_enum(const ProtobufCFieldDescriptor *f, const void *at, struct err *e)
{
    int value = *(const int *)at;

    if (protobuf_c_enum_descriptor_get_value(f->descriptor, value) == NULL)
        return err_set(e, ERR_INVALID, "%s: unknown value %d", f->name, value);
    return 0;
}

static int check_field(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct err *e)
{
    const uint8_t *member = (const uint8_t *)m + f->offset;
    const uint8_t *quantifier = (const uint8_t *)m + f->quantifier_offset;
    size_t count = 1, step = f->type == PROTOBUF_C_TYPE_ENUM ? sizeof(int) : sizeof(void *);
    int rc = 0;

    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        count = *(const size_t *)(const void *)quantifier;
        member = *(const uint8_t *const *)(const void *)member;
    } else if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
               *(const uint32_t *)(const void *)quantifier != f->id) {
        return 0;
    }
    for (size_t i = 0; rc == 0 && i < count; i++, member += step) {
        if (f->type == PROTOBUF_C_TYPE_ENUM) {
            rc = check_enum(f, member, e);
        } else {
            const ProtobufCMessage *sub = *(const ProtobufCMessage *const *)(const void *)member;

            rc = sub != NULL ? validate_enums(sub, e) : 0;
        }
    }
    return rc;
}

int validate_enums(const ProtobufCMessage *m, struct err *e)
{
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];

        if (f->type == PROTOBUF_C_TYPE_ENUM || f->type == PROTOBUF_C_TYPE_MESSAGE)
            rc = check_field(m, f, e);
    }
    return rc;
}

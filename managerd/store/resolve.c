#include <string.h>
#include <strings.h>

#include "managerd/store/internal.h"

/* Hostnames may repeat, so nodes have no name index: a scan is good enough for an operator's call.
 */
static const ProtobufCMessage *find_hostname(const struct store *s, const char *name,
                                             size_t *ret_count)
{
    const ProtobufCMessage *found = NULL;

    *ret_count = 0;
    for (const ProtobufCMessage *o = store_first(s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o))) {
        if (strcasecmp(object_name(o), name) != 0)
            continue;
        if (found == NULL)
            found = o;
        ++*ret_count;
    }
    return found;
}

const ProtobufCMessage *store_find_name(const struct store *s, Skep__Kind kind, const char *name)
{
    size_t count;

    if (!kind_valid((int)kind) || name[0] == '\0')
        return NULL;
    if (kind == SKEP__KIND__KIND_NODE)
        return find_hostname(s, name, &count);
    struct entry *e = index_find_name(s, kind, name);
    return e != NULL ? e->object : NULL;
}

static const ProtobufCMessage *find_prefix(const struct store *s, Skep__Kind kind,
                                           const char *prefix, size_t *ret_count)
{
    const ProtobufCMessage *found = store_get(s, kind, prefix);
    size_t chars = strlen(prefix);

    *ret_count = 0;
    if (found == NULL)
        found = store_after(s, kind, prefix);
    for (const ProtobufCMessage *o = found; o != NULL && strncmp(object_id(o), prefix, chars) == 0;
         o = store_after(s, kind, object_id(o)))
        ++*ret_count;
    return found;
}

int store_resolve(const struct store *s, Skep__Kind kind, const char *ref,
                  const ProtobufCMessage **ret_object, struct err *e)
{
    if (!kind_valid((int)kind))
        return err_set(e, ERR_INVALID, "unknown kind of object");
    const char *text = kind_info(kind)->text;
    const ProtobufCMessage *found = store_get(s, kind, ref);
    size_t count = 1;

    if (ref[0] == '\0')
        return err_set(e, ERR_INVALID, "%s: an id or a name is needed", text);
    if (found == NULL && kind == SKEP__KIND__KIND_NODE)
        found = find_hostname(s, ref, &count);
    else if (found == NULL)
        found = store_find_name(s, kind, ref);
    if (found == NULL)
        found = find_prefix(s, kind, ref, &count);
    if (found == NULL || count == 0)
        return err_set(e, ERR_NOT_FOUND, "%s %s not found", text, ref);
    if (count > 1)
        return err_set(e, ERR_INVALID, "%s %s is ambiguous (%zu matches found)", text, ref, count);
    *ret_object = found;
    return 0;
}

#include "managerd/io/snapfile.h"

#include <string.h>

#include "common/assert.h"
#include "managerd/io/snap_format.h"

static bool parse_name(const char *name, struct snap_name *ret_name)
{
    char again[DISK_NAME_BYTES_MAX];

    if (strncmp(name, "snap-", 5) != 0 || strlen(name) != 5 + 16 + 1 + 16)
        return false;
    ret_name->index = strtoull(name + 5, NULL, 16);
    ret_name->term = strtoull(name + 22, NULL, 16);
    snap_file_name(ret_name->index, ret_name->term, again); /* accepts what we would write */
    return strcmp(again, name) == 0;
}

static bool is_temporary(const char *name)
{
    size_t size = strlen(name);

    return strncmp(name, "snap.", 5) == 0 && size > 4 && strcmp(name + size - 4, ".tmp") == 0;
}

int snap_list(const struct snap_store *s, struct snap_name *ret_names, size_t max,
              size_t *ret_count, struct err *e)
{
    struct disk_names names;
    struct snap_name name;
    size_t count = 0;
    int rc = disk_list(s->disk, &names, e);

    if (rc < 0)
        return rc;
    for (size_t i = names.count; i-- > 0 && count < max;) { /* sorted: newest last */
        if (parse_name(names.names[i], &name))
            ret_names[count++] = name;
    }
    disk_names_free(&names);
    *ret_count = count;
    return 0;
}

int snap_prune(const struct snap_store *s, struct err *e)
{
    struct disk_names names;
    struct snap_name name;
    size_t kept = 0;
    int rc = disk_list(s->disk, &names, e);

    if (rc < 0)
        return rc;
    for (size_t i = names.count; rc == 0 && i-- > 0;) {
        if (parse_name(names.names[i], &name) && ++kept > SNAP_KEEP)
            rc = disk_remove(s->disk, names.names[i], e);
    }
    disk_names_free(&names);
    return rc;
}

int snap_remove_temporaries(const struct snap_store *s, struct err *e)
{
    struct disk_names names;
    int rc = disk_list(s->disk, &names, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        if (is_temporary(names.names[i]))
            rc = disk_remove(s->disk, names.names[i], e);
    }
    disk_names_free(&names);
    return rc;
}

int snap_oldest_key(const struct snap_store *s, uint32_t *ret_key_id, struct err *e)
{
    struct snap_name names[SNAP_KEEP];
    uint32_t oldest = keyring_current(s->keyring);
    size_t count = 0;
    int rc = snap_list(s, names, SNAP_KEEP, &count, e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        char name[DISK_NAME_BYTES_MAX];
        uint8_t mem[SNAP_HEADER_BYTES];
        struct snap_header h;
        struct disk_file f;

        snap_file_name(names[i].index, names[i].term, name);
        rc = disk_file_open(s->disk, name, &f, e);
        if (rc < 0)
            break;
        rc = disk_file_read(&f, 0, mem, sizeof(mem), e);
        disk_file_close(&f);
        if (rc == 0 && snap_header_decode(mem, &h) == 0)
            oldest = MIN(oldest, h.key_id);
    }
    if (rc == 0)
        *ret_key_id = oldest;
    return rc;
}

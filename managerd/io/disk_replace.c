#include "managerd/io/disk.h"

#include <stdio.h>

int disk_replace(struct disk *d, const char *name, const void *data, size_t size, struct err *e)
{
    char temporary[DISK_NAME_BYTES_MAX];
    struct disk_file f;

    (void)snprintf(temporary, sizeof(temporary), "%.48s.tmp", name); /* names are short constants */
    int rc = disk_file_create(d, temporary, &f, e);
    if (rc < 0)
        return rc;
    rc = disk_file_write(&f, 0, data, size, e);
    if (rc == 0)
        rc = disk_file_sync(&f, e);
    disk_file_close(&f);
    if (rc == 0)
        rc = disk_rename(d, temporary, name, e);
    if (rc == 0)
        rc = disk_sync_dir(d, e);
    return rc;
}

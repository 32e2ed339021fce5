/* The snapshot decoder. The first byte chooses:
 *   even: the rest is the file as found on disk, with the header's CRC repaired first if bit 1 is
 *         set;
 *   odd:  a snapshot is written whose body is the rest; then its first bytes say where to damage
 * the file. Whatever verifies must be that body. */
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/buf.h"
#include "common/crc32c.h"
#include "managerd/io/bytes.h"
#include "managerd/io/snap_format.h"
#include "test/lib/tmpdir.h"

enum { INPUT_BYTES_MAX = 1 << 16 };

static struct {
    struct disk *disk;
    struct keyring *keyring;
    struct snap_store store;
    char *dir;
    char path[256];
} fixture;

static void stop(void)
{
    keyring_free(fixture.keyring);
    disk_close(fixture.disk);
    tmpdir_remove(fixture.dir);
}

static void start(void)
{
    struct keyring_options k = { 0 };
    struct disk_options o = { .create = true };
    char name[DISK_NAME_BYTES_MAX];

    if (fixture.disk != NULL)
        return;
    o.path = fixture.dir = tmpdir_new_in_memory();
    ASSERT(atexit(stop) == 0);
    ASSERT(disk_open(&o, &fixture.disk, NULL) == 0);
    ASSERT(keyring_create(fixture.disk, &k, &fixture.keyring, NULL) == 0);
    fixture.store = (struct snap_store){ fixture.disk, fixture.keyring, "c", "n" };
    snap_file_name(1, 1, name);
    (void)snprintf(fixture.path, sizeof(fixture.path), "%s/%s", o.path, name); /* a short path */
}

static void put_file(const uint8_t *mem, size_t size)
{
    CLEANUP_CLOSE int fd = open(fixture.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ASSERT(fd >= 0);
    ASSERT(write(fd, mem, size) == (ssize_t)size);
}

/* body: what it must be if it verifies; NULL: anything. */
static void read_file(const uint8_t *body, size_t size)
{
    static uint8_t mem[SNAP_CHUNK_BYTES];
    struct snap_piece piece = { 0, mem, sizeof(mem) };
    struct snap_reader *r;
    size_t got = 0;

    if (snap_reader_open(&fixture.store, 1, 1, &r, NULL) < 0)
        return;
    if (snap_reader_verify(r, NULL) == 0 && body != NULL) {
        ASSERT(snap_reader_size(r) == size);
        ASSERT(snap_reader_read(r, &piece, &got, NULL) == 0);
        ASSERT(got == size);
        ASSERT(size == 0 || memcmp(mem, body, size) == 0);
    }
    snap_reader_close(r);
}

static void write_and_damage(const uint8_t *body, size_t size)
{
    CLEANUP_BUF struct buf file = BUF_INIT(1 << 20);
    struct snap_meta meta = { .generation = 1, .raft = { .index = 1, .term = 1 } };
    struct snap_writer *w;

    meta.raft.config.member_count = 1;
    meta.raft.config.members[0] = (struct raft_member){ .raft_id = 1 };
    memset(meta.raft.config.members[0].node_id.s, 'n', ID_CHARS);
    memcpy(meta.raft.config.members[0].address, "h:1", 4);
    ASSERT(snap_writer_new(&fixture.store, "taken", &meta, &w, NULL) == 0);
    ASSERT(snap_writer_add(w, body, size, NULL) == 0);
    ASSERT(snap_writer_finish(w, NULL, NULL) == 0);
    ASSERT(snap_writer_commit(w, NULL) == 0);
    ASSERT(buf_read_file(&file, fixture.path, NULL) == 0);
    for (size_t i = 0; i + 3 <= MIN(size, (size_t)9); i += 3)
        file.data[((size_t)body[i] << 8 | body[i + 1]) % file.size] ^= body[i + 2];
    put_file(file.data, file.size);
    read_file(body, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snap_meta meta;

    if (size == 0 || size > INPUT_BYTES_MAX)
        return 0;
    start();
    if (data[0] % 2 == 1) {
        write_and_damage(data + 1, size - 1);
        return 0;
    }
    CLEANUP_FREE uint8_t *mem = xmemdup(data + 1, size - 1);
    if ((data[0] & 2) != 0 && size - 1 >= SNAP_HEADER_BYTES)
        put_u32(mem + SNAP_HEADER_BYTES - 4, crc32c(0, mem, SNAP_HEADER_BYTES - 4));
    put_file(mem, size - 1);
    read_file(NULL, 0);
    (void)snap_meta_unpack(mem, size - 1, &meta); /* sealed in files: reached here only */
    return 0;
}

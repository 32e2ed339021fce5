#include "common/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/text.h"
#include "common/x509.h"

enum {
    MANAGERS_FILE_BYTES_MAX = IDENTITY_MANAGERS_MAX * (IDENTITY_ADDRESS_CHARS_MAX + 1),
    GENERATION_FILE_BYTES_MAX = 32,
};

static char *path_of(const char *state_dir, const char *name)
{
    return xasprintf("%s/identity%s%s", state_dir, name[0] != '\0' ? "/" : "", name);
}

/* A private key lies here: only what is ours and closed to everybody else will do. */
static int check_private(const char *path, const struct stat *st, const char *mode, struct err *e)
{
    if (st->st_uid != geteuid())
        return err_set(e, ERR_PERMISSION, "%s belongs to user %u; chown it to %u", path,
                       (unsigned)st->st_uid, (unsigned)geteuid());
    if ((st->st_mode & 077) != 0)
        return err_set(e, ERR_PERMISSION, "%s is open to others (mode %o); chmod it to %s", path,
                       (unsigned)st->st_mode & 07777, mode);
    return 0;
}

static int check_directory(const char *path, struct err *e)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_errno(e, errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, ERR_PERMISSION, "%s is not a directory; remove it", path);
    return check_private(path, &st, "700", e);
}

static int open_private(const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return err_set(e, ERR_PERMISSION, "%s is a symbolic link; remove it", path);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_PERMISSION, "%s is not a file; remove it", path);
    int rc = check_private(path, &st, "600", e);
    return rc < 0 ? rc : TAKE_FD(fd);
}

static int read_text(const char *state_dir, const char *name, size_t size_max, char **ret,
                     struct err *e)
{
    CLEANUP_FREE char *path = path_of(state_dir, name);
    CLEANUP_BUF struct buf b = BUF_INIT(size_max);
    CLEANUP_CLOSE int fd = open_private(path, e);

    if (fd < 0)
        return fd;
    int rc = buf_read_all(&b, fd, e);
    if (rc < 0)
        return err_wrap(e, rc, "%s", path);
    *ret = xstrdup(buf_str(&b));
    if (b.data != NULL)
        explicit_bzero(b.data, b.size);
    return 0;
}

static void load_managers(const char *state_dir, struct identity *id)
{
    CLEANUP_FREE char *text = NULL;

    if (read_text(state_dir, "managers", MANAGERS_FILE_BYTES_MAX, &text, NULL) < 0)
        return; /* none are known yet */
    for (const char *line = text; *line != '\0';) {
        size_t size = strcspn(line, "\n");

        if (size > 0 && size <= IDENTITY_ADDRESS_CHARS_MAX &&
            id->manager_count < IDENTITY_MANAGERS_MAX)
            id->managers[id->manager_count++] = xstrndup(line, size);
        line += size + (line[size] == '\n');
    }
}

static int load_generation(const char *state_dir, uint64_t *ret_generation, struct err *e)
{
    CLEANUP_FREE char *text = NULL;
    int rc = read_text(state_dir, "generation", GENERATION_FILE_BYTES_MAX, &text, e);

    if (rc == -ERR_NOT_FOUND) {
        *ret_generation = 0;
        return 0;
    }
    if (rc < 0)
        return rc;
    text[strcspn(text, "\n")] = '\0';
    rc = text_parse_u64(text, ret_generation, e);
    return rc < 0 ? err_wrap(e, rc, "file generation") : 0;
}

int identity_load(const char *state_dir, struct identity **ret, struct err *e)
{
    CLEANUP_FREE char *directory = path_of(state_dir, "");
    struct identity *id = xcalloc(1, sizeof(*id));
    int64_t not_after_ns;
    int rc = check_directory(directory, e);

    if (rc == 0)
        rc = read_text(state_dir, "node.pem", X509_PEM_BYTES_MAX, &id->node_pem, e);
    if (rc == 0)
        rc = read_text(state_dir, "ca.pem", X509_PEM_BYTES_MAX, &id->root_ca_pem, e);
    if (rc == 0)
        rc = x509_identity(id->node_pem, &id->tls, e);
    if (rc == 0)
        rc = x509_validity(id->node_pem, &id->not_before_ns, &not_after_ns, e);
    if (rc == 0)
        rc = load_generation(state_dir, &id->generation, e);
    if (rc < 0) {
        identity_free(id);
        return rc == -ERR_NOT_FOUND ? rc : err_wrap(e, rc, "%s", directory);
    }
    load_managers(state_dir, id);
    *ret = id;
    return 0;
}

void identity_free(struct identity *id)
{
    if (id == NULL)
        return;
    xfree_secret(id->node_pem, id->node_pem != NULL ? strlen(id->node_pem) : 0);
    free(id->root_ca_pem);
    for (size_t i = 0; i < id->manager_count; i++)
        free(id->managers[i]);
    free(id);
}

static int replace_file(const char *state_dir, const char *name, const char *text, struct err *e)
{
    CLEANUP_FREE char *directory = path_of(state_dir, "");

    return buf_replace_file(directory, name, text, e);
}

/* A folder that is new lasts only once its parent is synced. */
static int sync_folder(const char *path, struct err *e)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? err_errno(e, errno, "fsync %s", path) : 0;
}

static int make_directory(const char *state_dir, struct err *e)
{
    CLEANUP_FREE char *directory = path_of(state_dir, "");

    if (mkdir(directory, 0700) == 0) {
        int rc = sync_folder(state_dir, e);

        if (rc < 0)
            return rc;
    } else if (errno != EEXIST) {
        return err_errno(e, errno, "create %s", directory);
    }
    return check_directory(directory, e);
}

int identity_check(const char *node_pem, const char *root_ca_pem, struct err *e)
{
    struct tls_context_options o = { .check = TLS_CHECK_CLUSTER,
                                     .root_ca_pem = root_ca_pem,
                                     .node_pem = node_pem };
    struct tls_context *t = tls_context_new(&o, e);

    tls_context_free(t);
    return t != NULL ? 0 : -ERR_INVALID;
}

int identity_save(const char *state_dir, const char *node_pem, const char *root_ca_pem,
                  struct err *e)
{
    int rc = make_directory(state_dir, e);

    if (rc == 0)
        rc = replace_file(state_dir, "ca.pem", root_ca_pem, e);
    return rc == 0 ? replace_file(state_dir, "node.pem", node_pem, e) : rc;
}

int identity_save_managers(const char *state_dir, char *const *addresses, size_t count,
                           struct err *e)
{
    CLEANUP_BUF struct buf b = BUF_INIT(MANAGERS_FILE_BYTES_MAX);

    for (size_t i = 0; i < count && i < IDENTITY_MANAGERS_MAX; i++) {
        if (strchr(addresses[i], '\n') != NULL || strlen(addresses[i]) > IDENTITY_ADDRESS_CHARS_MAX)
            return err_set(e, ERR_INVALID, "manager address %zu is malformed", i);
        if (buf_printf(&b, "%s\n", addresses[i]) < 0)
            return err_set(e, ERR_TOO_BIG, "more than %d manager addresses", IDENTITY_MANAGERS_MAX);
    }
    CLEANUP_FREE char *old = NULL;
    if (read_text(state_dir, "managers", MANAGERS_FILE_BYTES_MAX, &old, NULL) == 0 &&
        strcmp(old, buf_str(&b)) == 0)
        return 0; /* heartbeats bring the same list again and again */
    int rc = make_directory(state_dir, e);
    return rc < 0 ? rc : replace_file(state_dir, "managers", buf_str(&b), e);
}

int identity_save_generation(const char *state_dir, uint64_t generation, struct err *e)
{
    CLEANUP_FREE char *text = xasprintf("%" PRIu64 "\n", generation);
    int rc = make_directory(state_dir, e);

    return rc < 0 ? rc : replace_file(state_dir, "generation", text, e);
}

/* Everything, so that no half-written key of a crash stays behind. */
static int remove_entries(const char *directory, struct err *e)
{
    DIR *d = opendir(directory);
    int rc = 0;

    if (d == NULL)
        return errno == ENOENT ? 0 : err_errno(e, errno, "open %s", directory);
    for (const struct dirent *entry; rc == 0 && (entry = readdir(d)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(d), entry->d_name, 0) < 0 && errno != ENOENT)
            rc = err_errno(e, errno, "remove %s/%s", directory, entry->d_name);
    }
    (void)closedir(d); /* only read */
    return rc;
}

int identity_remove(const char *state_dir, struct err *e)
{
    CLEANUP_FREE char *directory = path_of(state_dir, "");
    CLEANUP_FREE char *node = path_of(state_dir, "node.pem");
    struct stat st;

    if (lstat(directory, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_set(e, ERR_PERMISSION, "%s is not a directory; remove it", directory);
    /* node.pem first: without it there is no identity, whatever else a crash leaves. */
    if (unlink(node) < 0 && errno != ENOENT)
        return err_errno(e, errno, "remove %s", node);
    int rc = remove_entries(directory, e);
    if (rc < 0)
        return rc;
    if (rmdir(directory) < 0 && errno != ENOENT)
        return err_errno(e, errno, "remove %s", directory);
    return 0;
}

uint64_t identity_stamp(const char *state_dir)
{
    CLEANUP_FREE char *path = path_of(state_dir, "node.pem");
    struct stat st;

    if (lstat(path, &st) < 0)
        return 0;
    uint64_t parts[] = { st.st_ino, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec,
                         (uint64_t)st.st_size };
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        hash = (hash ^ parts[i]) * 0x100000001b3u;
    return hash | 1;
}

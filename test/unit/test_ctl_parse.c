/* ctl/parse*.c: option values in docker's notation, good and bad. */
#include "ctl/parse.h"

#include <check.h>
#include <inttypes.h>
#include <string.h>

static struct arena arena;

static void teardown(void)
{
    arena_deinit(&arena);
}

/* ---- mounts ---- */

static const struct {
    const char *why, *text;
    const char *error; /* a part of the message; NULL: accepted */
    int type;
    const char *source, *target;
    bool read_only;
} mounts[] = {
    { "volume is the default", "source=v,target=/d", NULL, SKEP__MOUNT__TYPE__VOLUME, "v", "/d",
      false },
    { "bind, short names, readonly", "type=bind,src=/a,dst=/b,ro", NULL, SKEP__MOUNT__TYPE__BIND,
      "/a", "/b", true },
    { "readonly=false", "type=bind,src=/a,dst=/b,readonly=false", NULL, SKEP__MOUNT__TYPE__BIND,
      "/a", "/b", false },
    { "a relative source", "type=bind,src=./x,dst=/b", NULL, SKEP__MOUNT__TYPE__BIND, "/cwd/x",
      "/b", false },
    { "quoted field with a comma", "type=bind,\"src=/a,b\",dst=/b", NULL, SKEP__MOUNT__TYPE__BIND,
      "/a,b", "/b", false },
    { "anonymous volume", "target=/d", NULL, SKEP__MOUNT__TYPE__VOLUME, "", "/d", false },
    { "keys in any case", "TYPE=tmpfs,Target=/t,tmpfs-size=64m,tmpfs-mode=1770", NULL,
      SKEP__MOUNT__TYPE__TMPFS, "", "/t", false },
    { "no target", "type=bind,src=/a", "target is required", 0, "", "", false },
    { "relative target", "type=bind,src=/a,dst=b", "absolute path", 0, "", "", false },
    { "bind without source", "type=bind,dst=/b", "source is required", 0, "", "", false },
    { "volume named like a path", "type=volume,src=/a,dst=/b", "type=bind", 0, "", "", false },
    { "tmpfs with source", "type=tmpfs,src=a,dst=/b", "no source", 0, "", "", false },
    { "unknown type", "type=npipe,src=a,dst=/b", "invalid mount type", 0, "", "", false },
    { "not key=value", "q", "invalid field 'q' must be a key=value pair", 0, "", "", false },
    { "unknown key", "type=bind,src=/a,dst=/b,foo=1", "unexpected key 'foo'", 0, "", "", false },
    { "options of another type", "type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix", 0, "", "",
      false },
    { "bad boolean", "type=bind,src=/a,dst=/b,readonly=maybe", "invalid value for readonly", 0, "",
      "", false },
    { "bad propagation", "type=bind,src=/a,dst=/b,bind-propagation=up", "invalid propagation", 0,
      "", "", false },
    { "bad size", "type=tmpfs,dst=/b,tmpfs-size=1q", "invalid value for tmpfs-size", 0, "", "",
      false },
    { "mode 888", "type=tmpfs,dst=/b,tmpfs-mode=888", "octal", 0, "", "", false },
    { "mode too big", "type=tmpfs,dst=/b,tmpfs-mode=17777777777777777777777", "octal", 0, "", "",
      false },
    { "open quote", "\"type=bind", "\"", 0, "", "", false },
    { "empty", "", "invalid field ''", 0, "", "", false },
};

START_TEST(mount)
{
    Skep__Mount *m = NULL;
    struct err e = { 0 };
    int rc = parse_mount(&arena, mounts[_i].text, "/cwd", &m, &e);

    if (mounts[_i].error != NULL) {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %d", mounts[_i].why, rc);
        ck_assert_msg(strstr(e.message, mounts[_i].error) != NULL, "%s: %s", mounts[_i].why,
                      e.message);
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", mounts[_i].why, e.message);
    ck_assert_msg((int)m->type == mounts[_i].type, "%s", mounts[_i].why);
    ck_assert_str_eq(m->source, mounts[_i].source);
    ck_assert_str_eq(m->target, mounts[_i].target);
    ck_assert_msg(m->read_only == mounts[_i].read_only, "%s", mounts[_i].why);
}
END_TEST

START_TEST(mount_options)
{
    Skep__Mount *m = NULL;

    ck_assert_int_eq(parse_mount(&arena,
                                 "type=volume,src=v,dst=/v,volume-nocopy,volume-label=b=2,"
                                 "volume-label=a=1,volume-driver=nfs,volume-opt=o=x",
                                 "/", &m, NULL),
                     0);
    ck_assert(m->volume_nocopy);
    ck_assert_uint_eq(m->n_volume_labels, 2);
    ck_assert_str_eq(m->volume_labels[0]->key, "a"); /* maps are sorted by key */
    ck_assert_str_eq(m->volume_driver->name, "nfs");
    ck_assert_str_eq(m->volume_driver->options[0]->value, "x");
    ck_assert_int_eq(
        parse_mount(&arena, "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770", "/", &m, NULL), 0);
    ck_assert_int_eq(m->tmpfs_size_bytes, 64 << 20);
    ck_assert_uint_eq(m->tmpfs_mode, 01770);
    ck_assert_int_eq(
        parse_mount(&arena, "type=bind,src=/a,dst=/b,bind-propagation=rslave", "/", &m, NULL), 0);
    ck_assert_int_eq(m->propagation, SKEP__MOUNT__PROPAGATION__RSLAVE);
}
END_TEST

/* ---- ports ---- */

static const struct {
    const char *why, *text;
    const char *error;
    size_t count;
    uint32_t published, target; /* of the last */
    int protocol, mode;
    const char *host_ip;
} ports[] = {
    { "both", "8080:80", NULL, 1, 8080, 80, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "" },
    { "target only", "80", NULL, 1, 0, 80, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "" },
    { "udp", "53:53/udp", NULL, 1, 53, 53, SKEP__PROTOCOL__PROTOCOL_UDP, 0, "" },
    { "range", "8000-8002:80-82", NULL, 3, 8002, 82, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "" },
    { "target range", "80-82", NULL, 3, 0, 82, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "" },
    { "address", "127.0.0.1:8080:80", NULL, 1, 8080, 80, SKEP__PROTOCOL__PROTOCOL_TCP, 0,
      "127.0.0.1" },
    { "IPv6 address", "[::1]:8080:80", NULL, 1, 8080, 80, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "::1" },
    { "address without published port", "127.0.0.1::80", NULL, 1, 0, 80,
      SKEP__PROTOCOL__PROTOCOL_TCP, 0, "127.0.0.1" },
    { "long", "published=8080,target=80,protocol=sctp,mode=host", NULL, 1, 8080, 80,
      SKEP__PROTOCOL__PROTOCOL_SCTP, SKEP__PUBLISH_MODE__PUBLISH_HOST, "" },
    { "long, defaults", "target=80", NULL, 1, 0, 80, SKEP__PROTOCOL__PROTOCOL_TCP, 0, "" },
    { "not a port", "q", "invalid containerPort: q", 0, 0, 0, 0, 0, "" },
    { "port 0", "0", "1 to 65535", 0, 0, 0, 0, 0, "" },
    { "port 65536", "65536:80", "1 to 65535", 0, 0, 0, 0, 0, "" },
    { "negative", "-1:80", "invalid hostPort", 0, 0, 0, 0, 0, "" },
    { "backwards", "82-80", "1 to 65535", 0, 0, 0, 0, 0, "" },
    { "ranges differ", "8000-8001:80-82", "invalid ranges", 0, 0, 0, 0, 0, "" },
    { "huge range", "1-65535", "more than", 0, 0, 0, 0, 0, "" },
    { "protocol", "80/icmp", "invalid proto: icmp", 0, 0, 0, 0, 0, "" },
    { "address", "300.0.0.1:80:80", "invalid IP address", 0, 0, 0, 0, 0, "" },
    { "four parts", "1:2:3:4", "invalid IP address", 0, 0, 0, 0, 0, "" },
    { "empty", "", "invalid containerPort", 0, 0, 0, 0, 0, "" },
    { "long without target", "published=80", "missing mandatory field \"target\"", 0, 0, 0, 0, 0,
      "" },
    { "long, bad mode", "target=80,mode=mesh", "invalid publish mode", 0, 0, 0, 0, 0, "" },
    { "long, bad key", "target=80,foo=1", "invalid field key foo", 0, 0, 0, 0, 0, "" },
    { "long, bare word", "target=80,host", "must be a key=value pair", 0, 0, 0, 0, 0, "" },
    { "long, port too big", "target=70000", "invalid target port", 0, 0, 0, 0, 0, "" },
};

START_TEST(port)
{
    struct ports p = { 0 };
    struct err e = { 0 };
    int rc = parse_ports(&arena, ports[_i].text, &p, &e);

    if (ports[_i].error != NULL) {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %d", ports[_i].why, rc);
        ck_assert_msg(strstr(e.message, ports[_i].error) != NULL, "%s: %s", ports[_i].why,
                      e.message);
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", ports[_i].why, e.message);
    ck_assert_msg(p.count == ports[_i].count, "%s: %zu", ports[_i].why, p.count);
    const Skep__PortConfig *last = p.items[p.count - 1];
    ck_assert_msg(last->published_port == ports[_i].published, "%s", ports[_i].why);
    ck_assert_msg(last->target_port == ports[_i].target, "%s", ports[_i].why);
    ck_assert_msg((int)last->protocol == ports[_i].protocol, "%s", ports[_i].why);
    ck_assert_msg((int)last->publish_mode == ports[_i].mode, "%s", ports[_i].why);
    ck_assert_str_eq(last->host_ip, ports[_i].host_ip);
}
END_TEST

/* ---- environment and labels ---- */

static char *fake_env(const char *name)
{
    static char home[] = "/home/x";

    return strcmp(name, "HOME") == 0 ? home : NULL;
}

static const struct {
    const char *why, *text, *want; /* entries joined by '|', or "!" and a part of the error */
} env_files[] = {
    { "plain", "A=1\nB=2\n", "A=1|B=2" },
    { "no end of line at the end", "A=1", "A=1" },
    { "comments and blank lines", "# c\n\n  \nA=1\n", "A=1" },
    { "leading blanks", "   A=1\n", "A=1" },
    { "CRLF", "A=1\r\nB=2\r\n", "A=1|B=2" },
    { "byte order mark",
      "\xef\xbb\xbf"
      "A=1\n",
      "A=1" },
    { "later ones win in place", "A=1\nB=2\nA=3\n", "A=3|B=2" },
    { "name from the environment", "HOME\nNOPE\n", "HOME=/home/x" },
    { "value with = and blanks", "A=b=c d \n", "A=b=c d " },
    { "quotes stay", "A=\"x\"\n", "A=\"x\"" },
    { "empty value", "A=\n", "A=" },
    { "no name", "=1\n", "!line 1" },
    { "blank in the name", "A=1\nA B=1\n", "!line 2: variable 'A B=1' contains whitespaces" },
    { "not UTF-8", "A=\xff\n", "!line 1: not a line of UTF-8" },
};

START_TEST(env_file)
{
    struct strings env = { 0 };
    struct err e = { 0 };
    int rc = parse_env_file(&arena, env_files[_i].text, fake_env, &env, &e);
    char got[256] = "";

    if (env_files[_i].want[0] == '!') {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %d", env_files[_i].why, rc);
        ck_assert_msg(strstr(e.message, env_files[_i].want + 1) != NULL, "%s: %s",
                      env_files[_i].why, e.message);
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", env_files[_i].why, e.message);
    for (size_t i = 0; i < env.count; i++)
        (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i > 0 ? "|" : "",
                       env.items[i]);
    ck_assert_str_eq(got, env_files[_i].want);
}
END_TEST

START_TEST(env_removes_by_name)
{
    struct strings env = { 0 };

    ck_assert_int_eq(parse_env(&arena, "A=1", fake_env, &env, NULL), 0);
    ck_assert_int_eq(parse_env(&arena, "AB=2", fake_env, &env, NULL), 0);
    env_remove(&env, "A");
    ck_assert_uint_eq(env.count, 1);
    ck_assert_str_eq(env.items[0], "AB=2");
}
END_TEST

START_TEST(labels_are_a_sorted_map)
{
    size_t count = 0;
    Skep__KeyValue **list = NULL;
    struct err e = { 0 };

    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(
            parse_label(&arena, arena_printf(&arena, "k%02d=%d", 19 - i, i), &count, &list, &e), 0);
    ck_assert_int_eq(parse_label(&arena, "k05=new", &count, &list, &e), 0);
    ck_assert_int_eq(parse_label(&arena, "bare", &count, &list, &e), 0);
    ck_assert_uint_eq(count, 21);
    for (size_t i = 1; i < count; i++)
        ck_assert_int_lt(strcmp(list[i - 1]->key, list[i]->key), 0);
    ck_assert_str_eq(kv_get(count, list, "k05"), "new");
    ck_assert_str_eq(kv_get(count, list, "none"), "");
    ck_assert(kv_remove(&count, list, "k05"));
    ck_assert(!kv_remove(&count, list, "k05"));
    ck_assert_int_eq(parse_label(&arena, "=x", &count, &list, &e), -ERR_INVALID);
    ck_assert_int_eq(parse_label(&arena, "", &count, &list, &e), -ERR_INVALID);
    ck_assert_int_eq(parse_label(&arena, "a b=x", &count, &list, &e), -ERR_INVALID);
}
END_TEST

/* ---- words, images ---- */

static const struct {
    const char *why, *text, *want;
} words[] = {
    { "plain", "sh -c ls", "sh|-c|ls" },
    { "double quotes", "sh -c \"echo hi\"", "sh|-c|echo hi" },
    { "single quotes keep all", "'a \"b\\' c", "a \"b\\|c" },
    { "joined", "a\"b c\"d", "ab cd" },
    { "backslash", "a\\ b", "a b" },
    { "backslash in double quotes", "\"a\\\"b\\n\"", "a\"b\\n" },
    { "empty word", "a ''", "a|" },
    { "nothing", "   ", "" },
    { "a vertical tab is no blank", "a\vb \v", "a\vb|\v" },
    { "open quote", "a \"b", "!" },
};

START_TEST(shell_words)
{
    struct strings got = { 0 };
    char text[128] = "";
    int rc = parse_words(&arena, words[_i].text, &got, NULL);

    if (words[_i].want[0] == '!') {
        ck_assert_msg(rc == -ERR_INVALID, "%s", words[_i].why);
        return;
    }
    for (size_t i = 0; i < got.count; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? "|" : "",
                       got.items[i]);
    ck_assert_msg(rc == 0 && strcmp(text, words[_i].want) == 0, "%s: %s", words[_i].why, text);
}
END_TEST

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *why, *text, *want; /* NULL: refused */
} images[] = {
    { "bare", "nginx", "nginx:latest" },
    { "tag", "nginx:1.25-alpine", "nginx:1.25-alpine" },
    { "namespace", "library/nginx", "library/nginx:latest" },
    { "registry with port", "localhost:5000/a/b", "localhost:5000/a/b:latest" },
    { "registry", "ghcr.io/a_b/c-d.e__f:V1", "ghcr.io/a_b/c-d.e__f:V1" },
    { "digest", "nginx@" DIGEST, "nginx@" DIGEST },
    { "tag and digest", "nginx:1@" DIGEST, "nginx:1@" DIGEST },
    { "empty", "", NULL },
    { "upper case", "Nginx", NULL },
    { "blank", "a b", NULL },
    { "shell characters", "nginx;rm -rf /", NULL },
    { "dollar", "nginx$(id)", NULL },
    { "empty tag", "nginx:", NULL },
    { "bad tag", "nginx:-x", NULL },
    { "short digest", "nginx@sha256:abc", NULL },
    { "trailing slash", "a/", NULL },
    { "double slash", "a//b", NULL },
    { "leading dash", "-a", NULL },
    { "three underscores", "a___b", NULL },
    { "newline", "nginx\n", NULL },
};

START_TEST(image)
{
    const char *got = NULL;
    struct err e = { 0 };
    int rc = parse_image(&arena, images[_i].text, &got, &e);

    if (images[_i].want == NULL) {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %s", images[_i].why, got);
        ck_assert_ptr_nonnull(strstr(e.message, "invalid reference format"));
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", images[_i].why, e.message);
    ck_assert_str_eq(got, images[_i].want);
}
END_TEST

START_TEST(image_of_4_kb_is_refused)
{
    char *big = arena_alloc(&arena, 4097);
    const char *got;

    memset(big, 'a', 4096);
    ck_assert_int_eq(parse_image(&arena, big, &got, NULL), -ERR_INVALID);
}
END_TEST

START_TEST(image_for_people)
{
    ck_assert_str_eq(image_familiar(&arena, "docker.io/library/nginx:1@" DIGEST), "nginx:1");
    ck_assert_str_eq(image_familiar(&arena, "localhost:5000/a@" DIGEST),
                     "localhost:5000/a@" DIGEST);
    ck_assert_str_eq(image_registry(&arena, "localhost:5000/a"), "localhost:5000");
    ck_assert_str_eq(image_registry(&arena, "a/b"), "docker.io");
}
END_TEST

/* ---- placement and the rest ---- */

static const struct {
    const char *why, *text, *want; /* NULL: refused */
} constraints[] = {
    { "equal", "node.role==manager", "node.role==manager" },
    { "not equal", "node.role!=manager", "node.role!=manager" },
    { "blanks", " node.labels.zone == east 1 ", "node.labels.zone==east 1" },
    { "== is looked for first", "node.labels.a!=b==c", NULL },
    { "no operator", "node.role", NULL },
    { "one =", "node.role=manager", NULL },
    { "empty key", "==x", NULL },
    { "key of one letter", "a==x", NULL },
    { "empty value", "node.id==", NULL },
    { "key with a blank", "node id==x", NULL },
    { "value with quotes", "node.id=='x'", NULL },
};

START_TEST(constraint)
{
    Skep__Constraint *k = NULL;
    int rc = parse_constraint(&arena, constraints[_i].text, &k, NULL);

    ck_assert_msg((rc == 0) == (constraints[_i].want != NULL), "%s: %d", constraints[_i].why, rc);
    if (rc == 0)
        ck_assert_str_eq(constraint_text(&arena, k), constraints[_i].want);
}
END_TEST

START_TEST(preference)
{
    Skep__SpreadPreference *p = NULL;

    ck_assert_int_eq(parse_preference(&arena, "spread=node.labels.zone", &p, NULL), 0);
    ck_assert_str_eq(p->descriptor, "node.labels.zone");
    ck_assert_int_eq(parse_preference(&arena, "spread", &p, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_preference(&arena, "pack=node.labels.zone", &p, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_preference(&arena, "spread=node.id", &p, NULL), -ERR_INVALID);
}
END_TEST

START_TEST(file_reference)
{
    struct file_ref r;

    ck_assert_int_eq(parse_file_ref(&arena, "key", &r, NULL), 0);
    ck_assert_str_eq(r.source, "key");
    ck_assert_str_eq(r.file->name, "key");
    ck_assert_uint_eq(r.file->mode, 0444);
    ck_assert_int_eq(parse_file_ref(&arena, "source=key,target=/x,uid=1,gid=2,mode=0400", &r, NULL),
                     0);
    ck_assert_str_eq(r.file->name, "/x");
    ck_assert_str_eq(r.file->gid, "2");
    ck_assert_uint_eq(r.file->mode, 0400);
    ck_assert_int_eq(parse_file_ref(&arena, "target=/x", &r, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_file_ref(&arena, "source=a,mode=9", &r, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_file_ref(&arena, "source=a,foo=9", &r, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_file_ref(&arena, "a,b", &r, NULL), -ERR_INVALID);
}
END_TEST

START_TEST(network)
{
    Skep__NetworkAttachmentConfig *n = NULL;

    ck_assert_int_eq(parse_network(&arena, "front", &n, NULL), 0);
    ck_assert_str_eq(n->target, "front");
    ck_assert_int_eq(parse_network(&arena, "name=front,alias=a,alias=b,driver-opt=x=y", &n, NULL),
                     0);
    ck_assert_uint_eq(n->n_aliases, 2);
    ck_assert_str_eq(n->driver_options[0]->value, "y");
    ck_assert_int_eq(parse_network(&arena, "alias=a", &n, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_network(&arena, "name=a,foo=b", &n, NULL), -ERR_INVALID);
    ck_assert_int_eq(parse_network(&arena, "", &n, NULL), -ERR_INVALID);
}
END_TEST

static const struct {
    const char *why;
    int (*parse)(struct arena *a, const char *text, const char **ret, struct err *e);
    const char *text, *want; /* NULL: refused */
} texts[] = {
    { "host", parse_host, "db:10.0.0.1", "10.0.0.1 db" },
    { "IPv6 host", parse_host, "db:::1", "::1 db" },
    { "host without address", parse_host, "db", NULL },
    { "host with a name for an address", parse_host, "db:x", NULL },
    { "host without name", parse_host, ":10.0.0.1", NULL },
    { "ulimit", parse_ulimit, "nofile=1024:2048", "nofile=1024:2048" },
    { "soft for both", parse_ulimit, "nofile=1024", "nofile=1024:1024" },
    { "unlimited", parse_ulimit, "memlock=-1:-1", "memlock=-1:-1" },
    { "soft above hard", parse_ulimit, "nofile=3:2", NULL },
    { "unlimited soft, limited hard", parse_ulimit, "nofile=-1:2", NULL },
    { "unknown ulimit", parse_ulimit, "files=1", NULL },
    { "ulimit without value", parse_ulimit, "nofile", NULL },
    { "ulimit of a word", parse_ulimit, "nofile=x", NULL },
    { "capability", parse_capability, "net_admin", "CAP_NET_ADMIN" },
    { "with prefix", parse_capability, "CAP_SYS_TIME", "CAP_SYS_TIME" },
    { "all", parse_capability, "all", "ALL" },
    { "empty capability", parse_capability, "", NULL },
    { "bad capability", parse_capability, "net-admin", NULL },
};

START_TEST(text_value)
{
    const char *got = NULL;
    int rc = texts[_i].parse(&arena, texts[_i].text, &got, NULL);

    ck_assert_msg((rc == 0) == (texts[_i].want != NULL), "%s: %d", texts[_i].why, rc);
    if (rc == 0)
        ck_assert_str_eq(got, texts[_i].want);
}
END_TEST

static const struct {
    const char *name;
    bool good;
} names[] = {
    { "web", true },
    { "web-1_a", true },
    { "0", true },
    { "", false },
    { "-web", false },
    { "web-", false },
    { "we b", false },
    { "we/b", false },
    { "../x", false },
    { "w\xc3\xa4", false },
    { "a23456789012345678901234567890123456789012345678901234567890123", true },
    { "a234567890123456789012345678901234567890123456789012345678901234", false },
};

START_TEST(service_names)
{
    ck_assert_msg((parse_service_name(names[_i].name, NULL) == 0) == names[_i].good, "\"%s\"",
                  names[_i].name);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_parse");
    TCase *t = tcase_create("parse");

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_loop_test(t, mount, 0, ARRAY_LEN(mounts));
    tcase_add_test(t, mount_options);
    tcase_add_loop_test(t, port, 0, ARRAY_LEN(ports));
    tcase_add_loop_test(t, env_file, 0, ARRAY_LEN(env_files));
    tcase_add_test(t, env_removes_by_name);
    tcase_add_test(t, labels_are_a_sorted_map);
    tcase_add_loop_test(t, shell_words, 0, ARRAY_LEN(words));
    tcase_add_loop_test(t, image, 0, ARRAY_LEN(images));
    tcase_add_test(t, image_of_4_kb_is_refused);
    tcase_add_test(t, image_for_people);
    tcase_add_loop_test(t, constraint, 0, ARRAY_LEN(constraints));
    tcase_add_test(t, preference);
    tcase_add_test(t, file_reference);
    tcase_add_test(t, network);
    tcase_add_loop_test(t, text_value, 0, ARRAY_LEN(texts));
    tcase_add_loop_test(t, service_names, 0, ARRAY_LEN(names));
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

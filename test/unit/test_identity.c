#include "common/identity.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "test/lib/pki.h"
#include "test/lib/tmpdir.h"

static struct pki cluster;
static char *dir, *node_pem;
static struct err e;

static void make_cluster(void)
{
    cluster = pki_new(1);
    node_pem = pki_node(&cluster, pki_id(2), TLS_ROLE_WORKER);
}

static void drop_cluster(void)
{
    free(node_pem);
    pki_free(&cluster);
}

static void setup(void)
{
    dir = tmpdir_new();
    e = (struct err){ 0 };
}

static void teardown(void)
{
    tmpdir_remove(dir);
}

static char *path(const char *name)
{
    return xasprintf("%s/identity%s", dir, name);
}

static void save(void)
{
    ck_assert_msg(identity_save(dir, node_pem, cluster.root_pem, &e) == 0, "%s", e.message);
}

START_TEST(loads_what_was_saved)
{
    char first[] = "10.0.0.1:2377", second[] = "[fd00::2]:2377";
    char *managers[] = { first, second };
    struct identity *id = NULL;

    ck_assert_int_eq(identity_load(dir, &id, &e), -ERR_NOT_FOUND);
    ck_assert_int_eq(identity_load(dir, &id, NULL), -ERR_NOT_FOUND);
    ck_assert_uint_eq(identity_stamp(dir), 0);
    save();
    ck_assert_int_eq(identity_save_managers(dir, managers, 2, &e), 0);
    ck_assert_msg(identity_load(dir, &id, &e) == 0, "%s", e.message);
    ck_assert_str_eq(id->node_pem, node_pem);
    ck_assert_str_eq(id->root_ca_pem, cluster.root_pem);
    ck_assert_str_eq(id->tls.node.s, pki_id(2).s);
    ck_assert_str_eq(id->tls.cluster.s, cluster.cluster.s);
    ck_assert_int_eq(id->tls.role, TLS_ROLE_WORKER);
    ck_assert_int_lt(id->not_before_ns, clock_wall_ns());
    ck_assert_uint_eq(id->manager_count, 2);
    ck_assert_str_eq(id->managers[1], managers[1]);
    ck_assert_uint_eq(id->generation, 0);
    identity_free(id);
}
END_TEST

/* F20: the highest generation outlives a restart, and goes with the identity. */
START_TEST(generation_is_remembered)
{
    struct identity *id = NULL;

    save();
    ck_assert_int_eq(identity_save_generation(dir, 18446744073709551615u, &e), 0);
    ck_assert_int_eq(identity_save_generation(dir, 3, &e), 0);
    ck_assert_msg(identity_load(dir, &id, &e) == 0, "%s", e.message);
    ck_assert_uint_eq(id->generation, 3);
    identity_free(id);
    ck_assert_int_eq(identity_remove(dir, &e), 0);
    save();
    ck_assert_int_eq(identity_load(dir, &id, &e), 0);
    ck_assert_uint_eq(id->generation, 0);
    identity_free(id);
}
END_TEST

START_TEST(files_are_private)
{
    static const char *const names[] = { "", "/node.pem", "/ca.pem" };
    struct stat st;

    save();
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *p = path(names[i]);

        ck_assert_int_eq(stat(p, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, i == 0 ? 0700 : 0600);
        free(p);
    }
}
END_TEST

START_TEST(stamp_changes_with_every_replacement)
{
    save();
    uint64_t first = identity_stamp(dir);
    ck_assert_uint_ne(first, 0);
    ck_assert_uint_eq(identity_stamp(dir), first);
    save();
    ck_assert_uint_ne(identity_stamp(dir), first);
    ck_assert_int_eq(identity_remove(dir, &e), 0);
    ck_assert_uint_eq(identity_stamp(dir), 0);
}
END_TEST

enum damage { OPEN_DIRECTORY, LINKED_DIRECTORY, OPEN_KEY, LINKED_KEY, FIFO_KEY, NOISE, HUGE, CUT };

/* N45 and damage: refused, and the message names what and how to mend it. */
static const struct damage_case {
    const char *why;
    enum damage damage;
    int want;
    const char *want_text;
} damage_cases[] = {
    { "directory open to others", OPEN_DIRECTORY, -ERR_PERMISSION, "chmod it to 700" },
    { "directory is a link", LINKED_DIRECTORY, -ERR_PERMISSION, "not a directory" },
    { "key readable by others", OPEN_KEY, -ERR_PERMISSION, "chmod it to 600" },
    { "key is a link", LINKED_KEY, -ERR_PERMISSION, "symbolic link" },
    { "key is a pipe", FIFO_KEY, -ERR_PERMISSION, "not a file" },
    { "noise", NOISE, -ERR_INVALID, "certificate" },
    { "too big", HUGE, -ERR_TOO_BIG, "more than" },
    { "empty", CUT, -ERR_INVALID, "certificate" },
};

static void write_file(const char *p, size_t size)
{
    FILE *f = fopen(p, "we");

    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < size; i++)
        ck_assert_int_eq(fputc('x', f), 'x');
    ck_assert_int_eq(fclose(f), 0);
}

static void inflict(enum damage damage)
{
    char *directory = path(""), *aside = path(".aside"), *key = path("/node.pem"),
         *key_aside = path("/aside.pem");

    switch (damage) {
    case OPEN_DIRECTORY:
        ck_assert_int_eq(chmod(directory, 0755), 0);
        break;
    case LINKED_DIRECTORY:
        ck_assert_int_eq(rename(directory, aside), 0);
        ck_assert_int_eq(symlink(aside, directory), 0);
        break;
    case OPEN_KEY:
        ck_assert_int_eq(chmod(key, 0640), 0);
        break;
    case LINKED_KEY:
        ck_assert_int_eq(rename(key, key_aside), 0);
        ck_assert_int_eq(symlink("aside.pem", key), 0);
        break;
    case FIFO_KEY:
        ck_assert_int_eq(unlink(key), 0);
        ck_assert_int_eq(mkfifo(key, 0600), 0);
        break;
    case NOISE:
        write_file(key, 100);
        break;
    case HUGE:
        write_file(key, 1 << 20);
        break;
    case CUT:
        ck_assert_int_eq(truncate(key, 0), 0);
        break;
    }
    free(directory);
    free(aside);
    free(key);
    free(key_aside);
}

START_TEST(refuses_damage_and_open_doors)
{
    const struct damage_case *c = &damage_cases[_i];
    struct identity *id = NULL;

    save();
    inflict(c->damage);
    int rc = identity_load(dir, &id, &e);
    ck_assert_msg(rc == c->want, "%s: %d %s", c->why, rc, e.message);
    ck_assert_msg(strstr(e.message, c->want_text) != NULL, "%s: %s", c->why, e.message);
    ck_assert_msg(strstr(e.message, dir) != NULL, "%s: %s", c->why, e.message);
    if (c->damage == LINKED_DIRECTORY) {
        ck_assert_int_eq(identity_save(dir, node_pem, cluster.root_pem, &e), -ERR_PERMISSION);
        ck_assert_int_eq(identity_remove(dir, &e), -ERR_PERMISSION);
        char *p = path("");
        (void)unlink(p); /* so that the rest can be removed */
        free(p);
    }
}
END_TEST

/* Leaving takes everything, also what a crash in the middle of a write left. */
START_TEST(removal_leaves_nothing)
{
    char *half = path("/node.pem.4711.new"), *directory = path("");

    ck_assert_int_eq(identity_remove(dir, &e), 0); /* nothing there */
    save();
    write_file(half, 10);
    ck_assert_msg(identity_remove(dir, &e) == 0, "%s", e.message);
    ck_assert_int_ne(access(directory, F_OK), 0);
    free(half);
    free(directory);
}
END_TEST

START_TEST(managers_are_bounded)
{
    char two_lines[] = "a\nb:1", *bad[] = { two_lines };
    char *many[IDENTITY_MANAGERS_MAX + 5], address[] = "10.0.0.1:2377";
    struct identity *id = NULL;

    save();
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = address;
    ck_assert_int_eq(identity_save_managers(dir, many, ARRAY_LEN(many), &e), 0);
    ck_assert_int_eq(identity_load(dir, &id, &e), 0);
    ck_assert_uint_eq(id->manager_count, IDENTITY_MANAGERS_MAX);
    identity_free(id);
    ck_assert_int_eq(identity_save_managers(dir, bad, 1, &e), -ERR_INVALID);
}
END_TEST

/* A certificate must serve before it replaces one that does. */
START_TEST(checks_before_replacing)
{
    struct pki other = pki_new(9);
    int64_t now_ns = clock_wall_ns(), day_ns = INT64_C(86400000000000);
    char *expired =
        pki_node_until(&cluster, pki_id(2), TLS_ROLE_WORKER, now_ns - 3 * day_ns, now_ns - day_ns);
    char *future =
        pki_node_until(&cluster, pki_id(2), TLS_ROLE_WORKER, now_ns + day_ns, now_ns + 2 * day_ns);

    ck_assert_int_eq(identity_check(node_pem, cluster.root_pem, &e), 0);
    ck_assert_int_lt(identity_check(node_pem, other.root_pem, &e), 0);
    ck_assert_msg(strstr(e.message, "root CA") != NULL, "%s", e.message);
    ck_assert_int_lt(identity_check(expired, cluster.root_pem, &e), 0);
    ck_assert_msg(strstr(e.message, "expired") != NULL, "%s", e.message);
    ck_assert_int_lt(identity_check(future, cluster.root_pem, &e), 0);
    ck_assert_msg(strstr(e.message, "clock") != NULL, "%s", e.message);
    ck_assert_int_lt(identity_check(cluster.root_pem, cluster.root_pem, &e), 0);
    free(expired);
    free(future);
    pki_free(&other);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("identity");
    TCase *tc = tcase_create("all");

    tcase_add_unchecked_fixture(tc, make_cluster, drop_cluster);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, loads_what_was_saved);
    tcase_add_test(tc, generation_is_remembered);
    tcase_add_test(tc, files_are_private);
    tcase_add_test(tc, stamp_changes_with_every_replacement);
    tcase_add_loop_test(tc, refuses_damage_and_open_doors, 0, ARRAY_LEN(damage_cases));
    tcase_add_test(tc, removal_leaves_nothing);
    tcase_add_test(tc, managers_are_bounded);
    tcase_add_test(tc, checks_before_replacing);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* managerd/store/resolve.c: what an operator's reference means (docker's order: id, name, prefix).
 */
#include <check.h>
#include <string.h>

#include "test/lib/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f, 1);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "abc1", "web", 1)), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "abc2", "db", 1)), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "xyz1", "abc1", 1)), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "xy", "xyz", 1)), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_node(&f, "n1", "alpha")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_node(&f, "n2", "beta")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_node(&f, "n3", "BETA")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_task(&f, "task1", "abc1", 1)), 0);
}

static void teardown(void)
{
    fixture_deinit(&f);
}

#define SERVICE SKEP__KIND__KIND_SERVICE
#define NODE SKEP__KIND__KIND_NODE

static const struct resolve_case {
    const char *why;
    Skep__Kind kind;
    const char *ref;
    int want;
    const char *text; /* the id, or the message */
} cases[] = {
    { "an id", SERVICE, "abc2", 0, "abc2" },
    { "an id before the same name", SERVICE, "abc1", 0, "abc1" },
    { "a name", SERVICE, "DB", 0, "abc2" },
    { "a name before a prefix", SERVICE, "xyz", 0, "xy" },
    { "a whole id that begins another", SERVICE, "xy", 0, "xy" },
    { "a unique prefix", SERVICE, "xyz1", 0, "xyz1" },
    { "an ambiguous prefix", SERVICE, "abc", -ERR_INVALID,
      "service abc is ambiguous (2 matches found)" },
    { "a prefix of ids only, whole ids included", SERVICE, "x", -ERR_INVALID,
      "service x is ambiguous (2 matches found)" },
    { "nothing", SERVICE, "nope", -ERR_NOT_FOUND, "service nope not found" },
    { "beyond the last id", SERVICE, "zzz", -ERR_NOT_FOUND, "service zzz not found" },
    { "an empty reference", SERVICE, "", -ERR_INVALID, "service: an id or a name is needed" },
    { "a hostname", NODE, "Alpha", 0, "n1" },
    { "two nodes with one hostname", NODE, "beta", -ERR_INVALID,
      "node beta is ambiguous (2 matches found)" },
    { "tasks have no names", SKEP__KIND__KIND_TASK, "tas", 0, "task1" },
    { "an unknown kind", (Skep__Kind)42, "x", -ERR_INVALID, "unknown kind of object" },
};

START_TEST(resolves)
{
    const struct resolve_case *c = &cases[_i];
    const ProtobufCMessage *o = NULL;
    struct err e = { 0 };
    int rc = store_resolve(f.s, c->kind, c->ref, &o, &e);

    ck_assert_msg(rc == c->want, "%s: %d %s", c->why, rc, e.message);
    ck_assert_str_eq(rc == 0 ? object_id(o) : e.message, c->text);
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(object_id(store_find_name(f.s, NODE, "beta")), "n2");
    ck_assert_ptr_null(store_find_name(f.s, NODE, ""));
    ck_assert_ptr_null(store_find_name(f.s, SERVICE, ""));
    ck_assert_ptr_null(store_find_name(f.s, SERVICE, "we"));
    ck_assert_ptr_null(store_find_name(f.s, (Skep__Kind)42, "web"));
    ck_assert_ptr_null(store_find_name(f.s, SKEP__KIND__KIND_TASK, "web"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store resolve");
    TCase *tc = tcase_create("resolve");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, resolves, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, names);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

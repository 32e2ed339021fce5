/* managerd/store/constraint.c: constraints and platforms against a node (features.md 3.7, B13). */
#include "managerd/store/constraint.h"

#include <check.h>

#include "test/lib/fixture.h"

static struct fixture f;
static Skep__Node *node;

static Skep__KeyValue **label(const char *key, const char *value)
{
    Skep__KeyValue **list = arena_array(&f.arena, 1, sizeof(*list));

    list[0] = ARENA_NEW(&f.arena, Skep__KeyValue);
    skep__key_value__init(list[0]);
    list[0]->key = fixture_str(&f, key);
    list[0]->value = fixture_str(&f, value);
    return list;
}

static void setup(void)
{
    fixture_init(&f, 1);
    node = fixture_node(&f, "n1", "Alpha");
    node->spec->annotations->n_labels = 1;
    node->spec->annotations->labels = label("Zone", "East");
    node->description->engine = ARENA_NEW(&f.arena, Skep__EngineDescription);
    skep__engine_description__init(node->description->engine);
    node->description->engine->n_labels = 1;
    node->description->engine->labels = label("storage", "ssd");
    node->status->address = fixture_str(&f, "10.77.0.130");
}

static void teardown(void)
{
    fixture_deinit(&f);
}

static const struct match_case {
    const char *why, *key, *value;
    bool equal, not_equal; /* what == and != give */
} cases[] = {
    { "id", "node.id", "n1", true, false },
    { "keys and values have no case", "NODE.ID", "N1", true, false },
    { "hostname", "node.hostname", "alpha", true, false },
    { "role", "node.role", "worker", true, false },
    { "other role", "node.role", "manager", false, true },
    { "os", "node.platform.os", "Linux", true, false },
    { "arch", "node.platform.arch", "x86_64", true, false },
    { "arch under its other name", "node.platform.arch", "amd64", true, false },
    { "other arch", "node.platform.arch", "arm64", false, true },
    { "label", "node.labels.Zone", "east", true, false },
    { "label keys have case", "node.labels.zone", "east", false, true },
    { "a missing label is not equal", "node.labels.rack", "1", false, true },
    { "engine label", "engine.labels.storage", "ssd", true, false },
    { "labels are apart", "engine.labels.Zone", "east", false, true },
    { "an unknown key never matches", "node.zone", "east", false, false },
    { "address", "node.ip", "10.77.0.130", true, false },
    { "other address", "node.ip", "10.77.0.131", false, true },
    { "network", "node.ip", "10.77.0.0/24", true, false },
    { "upper half", "node.ip", "10.77.0.128/25", true, false },
    { "lower half", "node.ip", "10.77.0.0/25", false, true },
    { "everything", "node.ip", "0.0.0.0/0", true, false },
    { "the other family", "node.ip", "fd00::/8", false, true },
    { "no address never matches", "node.ip", "ten", false, false },
    { "no network never matches", "node.ip", "10.0.0.0/33", false, false },
    { "no length never matches", "node.ip", "10.0.0.0/", false, false },
};

START_TEST(constraints)
{
    const struct match_case *c = &cases[_i];
    Skep__Constraint k = SKEP__CONSTRAINT__INIT, *list[1] = { &k };
    Skep__Placement p = SKEP__PLACEMENT__INIT;

    k.key = fixture_str(&f, c->key);
    k.value = fixture_str(&f, c->value);
    p.n_constraints = 1;
    p.constraints = list;
    ck_assert_msg(node_constraints_match(&p, node) == c->equal, "%s", c->why);
    k.not_equal = true;
    ck_assert_msg(node_constraints_match(&p, node) == c->not_equal, "%s !=", c->why);
}
END_TEST

static const struct platform_case {
    const char *why, *arch, *os;
    bool want;
} platforms[] = {
    { "same names", "x86_64", "linux", true },    { "equivalent names", "amd64", "linux", true },
    { "any architecture", "", "linux", true },    { "any system", "amd64", "", true },
    { "other architecture", "arm64", "", false }, { "other system", "amd64", "windows", false },
};

START_TEST(platform)
{
    const struct platform_case *c = &platforms[_i];
    Skep__Platform no = SKEP__PLATFORM__INIT, maybe = SKEP__PLATFORM__INIT;
    Skep__Platform *list[2] = { &no, &maybe };
    Skep__Placement p = SKEP__PLACEMENT__INIT;

    ck_assert(node_platform_match(NULL, node));
    ck_assert(node_platform_match(&p, node));
    no.architecture = fixture_str(&f, "s390x");
    maybe.architecture = fixture_str(&f, c->arch);
    maybe.os = fixture_str(&f, c->os);
    p.n_platforms = 2;
    p.platforms = list;
    ck_assert_msg(node_platform_match(&p, node) == c->want, "%s", c->why);
}
END_TEST

START_TEST(a_bare_node_matches_without_a_crash)
{
    Skep__Node bare = SKEP__NODE__INIT;
    Skep__Constraint k = SKEP__CONSTRAINT__INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        k.key = fixture_str(&f, cases[i].key);
        k.value = fixture_str(&f, "x");
        struct node_rule rule = node_rule_compile(&k);
        ck_assert(!node_rule_match(&rule, &bare));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store constraint");
    TCase *tc = tcase_create("match");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, constraints, 0, ARRAY_LEN(cases));
    tcase_add_loop_test(tc, platform, 0, ARRAY_LEN(platforms));
    tcase_add_test(tc, a_bare_node_matches_without_a_crash);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* common/message.c: copies, comparison and sizes of any protobuf-c message, on the types that the
 * tree has and with every kind of field that they use. */
#include "common/message.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "proto/control.pb-c.h"
#include "test/lib/fixture.h"

static struct fixture f;
static Skep__Service *service;

static void setup(void)
{
    fixture_init(&f, 1);
    service = fixture_service(&f, "s1", "web", 3);
    Skep__ContainerSpec *c = service->spec->task->container;
    c->n_env = 2;
    c->env = arena_array(&f.arena, 2, sizeof(char *));
    c->env[0] = fixture_str(&f, "A=1");
    c->env[1] = fixture_str(&f, "");
    c->tty = 1;
    c->init = SKEP__CONTAINER_SPEC__INIT__INIT_TRUE;
    service->spec->endpoint->n_ports = 2;
    service->spec->endpoint->ports = arena_array(&f.arena, 2, sizeof(Skep__PortConfig *));
    for (uint32_t i = 0; i < 2; i++) {
        Skep__PortConfig *p = service->spec->endpoint->ports[i] =
            ARENA_NEW(&f.arena, Skep__PortConfig);

        skep__port_config__init(p);
        p->target_port = 80 + i;
    }
    service->job_iteration = UINT64_MAX;
    service->spec->task->restart->delay = -1;
}

static void teardown(void)
{
    fixture_deinit(&f);
}

static void check_copy(const ProtobufCMessage *m)
{
    struct message_size size = message_measure(m);
    ProtobufCMessage *copy = message_clone(m);
    size_t packed = protobuf_c_message_get_packed_size(m);
    uint8_t *a = xmalloc(packed), *b = xmalloc(packed);

    ck_assert_uint_eq(size.packed, packed);
    ck_assert(message_equal(m, copy));
    ck_assert_uint_eq(protobuf_c_message_pack(m, a), packed);
    ck_assert_uint_eq(protobuf_c_message_pack(copy, b), packed);
    ck_assert_int_eq(memcmp(a, b, packed), 0);
    free(a);
    free(b);
    free(copy); /* one block: the sanitizer finds what is left over */
}

START_TEST(a_copy_packs_to_the_same_bytes)
{
    check_copy(&service->base);
    check_copy(&fixture_node(&f, "n1", "alpha")->base);
    check_copy(&fixture_cluster(&f, "c1")->base);
    Skep__Secret *secret = fixture_secret(&f, "x1", "key");
    secret->spec->data = (ProtobufCBinaryData){ 3, (uint8_t *)fixture_str(&f, "a\0b") };
    check_copy(&secret->base);
    Skep__ObjectFilter filter = SKEP__OBJECT_FILTER__INIT; /* packed numbers and enums */
    Skep__TaskState states[3] = { 0, 512, 832 };
    uint64_t slots[2] = { 1, 300 };
    filter.n_desired_states = 3;
    filter.desired_states = states;
    filter.n_slots = 2;
    filter.slots = slots;
    check_copy(&filter.base);
    Skep__Node empty = SKEP__NODE__INIT;
    check_copy(&empty.base);
}
END_TEST

START_TEST(a_copy_stands_alone)
{
    Skep__Service *copy = (Skep__Service *)message_clone(&service->base);

    memset(service->spec->annotations->name, 'x', 3);
    service->spec->task->container->env[0][0] = 'x';
    ck_assert_str_eq(copy->spec->annotations->name, "web");
    ck_assert_str_eq(copy->spec->task->container->env[0], "A=1");
    ck_assert_ptr_eq(copy->endpoint, NULL);
    ck_assert_str_eq(copy->spec->task->container->user, "");
    free(copy);
}
END_TEST

START_TEST(unknown_fields_are_kept)
{
    /* Field 1 = "ab", field 99 = 7, field 98 = "cd": the last two come from a newer version. */
    const uint8_t bytes[] = { 0x0a, 2, 'a', 'b', 0x98, 0x06, 7, 0x92, 0x06, 2, 'c', 'd' };
    struct arena arena = { 0 };
    ProtobufCAllocator allocator = message_arena_allocator(&arena);
    Skep__KeyValue *kv = skep__key_value__unpack(&allocator, sizeof(bytes), bytes);

    ck_assert_ptr_nonnull(kv);
    ck_assert_uint_eq(kv->base.n_unknown_fields, 2);
    check_copy(&kv->base);
    Skep__KeyValue *other = (Skep__KeyValue *)message_clone_arena(&arena, &kv->base);
    other->base.unknown_fields[1].data[1] ^= 1;
    ck_assert(!message_equal(&kv->base, &other->base));
    other->base.n_unknown_fields = 1;
    ck_assert(!message_equal(&kv->base, &other->base));
    arena_deinit(&arena);
}
END_TEST

static void no_change(Skep__Service *s)
{
    (void)s;
}
static void scalar(Skep__Service *s)
{
    s->job_iteration++;
}
static void negative(Skep__Service *s)
{
    s->spec->task->restart->delay = -2;
}
static void text(Skep__Service *s)
{
    s->spec->annotations->name[0] = 'W';
}
static void flag(Skep__Service *s)
{
    s->spec->task->container->tty = 0;
}
static void enumeration(Skep__Service *s)
{
    s->spec->task->container->init = SKEP__CONTAINER_SPEC__INIT__INIT_FALSE;
}
static void fewer(Skep__Service *s)
{
    s->spec->task->container->n_env = 1;
}
static void element(Skep__Service *s)
{
    s->spec->endpoint->ports[1]->target_port = 90;
}
static void missing(Skep__Service *s)
{
    s->spec->update = NULL;
}
static void other_mode(Skep__Service *s)
{
    s->spec->mode_case = SKEP__SERVICE_SPEC__MODE__NOT_SET;
}
static void inside_mode(Skep__Service *s)
{
    s->spec->replicated->replicas = 4;
}

static const struct equal_case {
    const char *why;
    void (*change)(Skep__Service *s);
    bool want;
} equal_cases[] = {
    { "nothing", no_change, true },
    { "a number", scalar, false },
    { "a negative number", negative, false },
    { "a text", text, false },
    { "a flag", flag, false },
    { "an enum", enumeration, false },
    { "a shorter list", fewer, false },
    { "an element of a list", element, false },
    { "a message that is not set", missing, false },
    { "another member of a oneof", other_mode, false },
    { "inside a oneof", inside_mode, false },
};

START_TEST(equality)
{
    const struct equal_case *c = &equal_cases[_i];
    Skep__Service *copy = (Skep__Service *)message_clone_arena(&f.arena, &service->base);

    c->change(copy);
    ck_assert_msg(message_equal(&service->base, &copy->base) == c->want, "%s", c->why);
    ck_assert_msg(message_equal(&copy->base, &service->base) == c->want, "%s", c->why);
}
END_TEST

START_TEST(equality_of_nothing)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__Secret secret = SKEP__SECRET__INIT;

    ck_assert(message_equal(NULL, NULL));
    ck_assert(!message_equal(&node.base, NULL));
    ck_assert(!message_equal(NULL, &node.base));
    ck_assert(!message_equal(&node.base, &secret.base));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("message");
    TCase *tc = tcase_create("message");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_copy_packs_to_the_same_bytes);
    tcase_add_test(tc, a_copy_stands_alone);
    tcase_add_test(tc, unknown_fields_are_kept);
    tcase_add_loop_test(tc, equality, 0, ARRAY_LEN(equal_cases));
    tcase_add_test(tc, equality_of_nothing);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* managerd/scheduler/few.c: a few tasks take a short cut, which must lead to the node that a plain
 * search over all of them finds. */
#include "managerd/scheduler/scheduler.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "test/lib/core_rig.h"

#define S(x) SKEP__TASK_STATE__TASK_##x

static struct core_rig rig;
static struct scheduler *s;

static void setup(void)
{
    s = scheduler_new();
    core_rig_init(&rig, &scheduler_ops, s);
}

static void teardown(void)
{
    scheduler_free(s);
    core_rig_deinit(&rig);
}

struct load {
    bool degraded;
    int tasks, all;
};

static struct load load_of(const Skep__Node *n, const char *service_id)
{
    struct load l = { n->description->degraded[0] != '\0', 0, 0 };
    struct store_iter it;

    for (const Skep__Task *t = store_node_tasks(rig.f.s, n->id, &it); t != NULL;
         t = store_iter_next(&it)) {
        if (t->status->state > S(RUNNING) || t->desired_state > S(COMPLETE))
            continue;
        l.all++;
        l.tasks += strcmp(t->service_id, service_id) == 0;
    }
    return l;
}

static bool better(const struct load *a, const struct load *b)
{
    if (a->degraded != b->degraded)
        return b->degraded;
    return a->tasks != b->tasks ? a->tasks < b->tasks : a->all < b->all;
}

/* Nodes come in id order, so the first of equals is the one with the smaller id. */
static const char *best_node(const char *service_id)
{
    const char *best = "";
    struct load best_load;

    for (const ProtobufCMessage *o = store_first(rig.f.s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(rig.f.s, SKEP__KIND__KIND_NODE, object_id(o))) {
        const Skep__Node *n = (const Skep__Node *)o;
        struct load l = load_of(n, service_id);

        if (n->status->state == SKEP__NODE_STATE__NODE_READY &&
            (best[0] == '\0' || better(&l, &best_load))) {
            best = n->id;
            best_load = l;
        }
    }
    return best;
}

START_TEST(the_short_cut_finds_the_best_node)
{
    char service_id[16], task_id[32];

    prng_init(&rig.f.prng, (uint64_t)_i);
    for (int i = 0; i < 40; i++) {
        struct id id = id_from_prng(&rig.f.prng);
        Skep__Node *n = fixture_node(&rig.f, id.s, "host");

        if (prng_below(&rig.f.prng, 4) == 0)
            n->status->state = SKEP__NODE_STATE__NODE_DOWN;
        if (prng_below(&rig.f.prng, 4) == 0)
            n->description->degraded = fixture_str(&rig.f, "slow disk");
        core_rig_add(&rig, n);
    }
    for (int i = 0; i < 6; i++) {
        (void)snprintf(service_id, sizeof(service_id), "s%d", i);
        core_rig_add(&rig, fixture_service(&rig.f, service_id, service_id, 1));
    }
    for (int i = 0; i < 300; i++) {
        (void)snprintf(service_id, sizeof(service_id), "s%d", (int)prng_below(&rig.f.prng, 6));
        (void)snprintf(task_id, sizeof(task_id), "t%d", i);
        core_rig_add(&rig, fixture_task(&rig.f, task_id, service_id, 1));
        const char *want = best_node(service_id);
        core_rig_run(&rig);
        ck_assert_msg(strcmp(store_task(rig.f.s, task_id)->node_id, want) == 0, "seed %d task %d",
                      _i, i);
        if (i % 3 == 0) { /* loads become uneven */
            (void)snprintf(task_id, sizeof(task_id), "t%d", (int)prng_below(&rig.f.prng, 300));
            core_rig_delta(&rig, task_id, S(SHUTDOWN), -1);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scheduler few");
    TCase *tc = tcase_create("few");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, the_short_cut_finds_the_best_node, 0, 5);
    suite_add_tcase(suite, tc);
    SRunner *sr = srunner_create(suite);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

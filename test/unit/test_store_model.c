/* The whole store against a naive model: random transactions, then every query is compared with a
 * scan of a plain array. Two stores that take the same log stay equal, and so does one that is
 * loaded from a snapshot on the way. The seed is printed by the failing check. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "test/lib/fixture.h"

enum { NODE_MISSING = 4, /* nodes 1 to 3 exist */ OBJECTS = 60, STEPS = 300, SEEDS = 4 };

struct model_task {
    bool exists;
    uint64_t slot, spec_version;
    int service, node; /* -1: none */
    int state, desired;
};
struct model_service {
    bool exists;
    int name;
    uint64_t spec_version, force;
};
struct model {
    struct model_task tasks[OBJECTS];
    bool touched[8]; /* services with an action in the current transaction */
    struct model_service services[8];
};

static struct fixture f;
static struct store *twin;

static const char *numbered(const char *prefix, int i)
{
    static char text[4][32];
    static int next;

    next = (next + 1) % 4;
    (void)snprintf(text[next], sizeof(text[next]), "%s%d", prefix, i);
    return text[next];
}

static int pick(int bound)
{
    return (int)prng_below(&f.prng, (uint64_t)bound);
}

static bool name_taken(const struct model *m, int name, int but)
{
    for (int i = 0; i < 8; i++) {
        if (i != but && m->services[i].exists && m->services[i].name == name)
            return true;
    }
    return false;
}

static const int states[] = { 0, 64, 192, 512, 640, 704 };

/* Adds one random action to f.tx and to the model; false: this action must refuse all. */
static bool step_task(struct model *m)
{
    int i = pick(OBJECTS), what = pick(8);
    struct model_task *t = &m->tasks[i];
    const char *id = numbered("task", i);

    if (what == 0) {
        store_tx_remove(f.tx, SKEP__KIND__KIND_TASK, id, 0);
        bool fine = t->exists;
        t->exists = false;
        return fine;
    }
    if (what <= 2) {
        int service = pick(8);
        if (m->touched[service])
            return true; /* which version is current is known after the transaction */
        const Skep__Service *stored = store_service(f.s, numbered("service", service));
        Skep__Task *task = fixture_task(&f, id, numbered("service", service), (uint64_t)pick(5));

        task->spec_version = stored != NULL ? stored->meta->spec_version : 0;
        store_tx_create(f.tx, &task->base);
        if (t->exists || stored == NULL)
            return false; /* no task without its spec */
        *t = (struct model_task){ true, task->slot, task->spec_version, service, -1, 64, 512 };
        return true;
    }
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;
    Skep__TaskStatus status = SKEP__TASK_STATUS__INIT;
    int node = pick(5), state = states[pick(6)], desired = states[pick(6)];
    d.task_id = fixture_str(&f, id);
    d.node_id = node > 0 ? fixture_str(&f, numbered("node", node)) : d.node_id;
    d.desired_state = (Skep__TaskState)desired;
    status.state = (Skep__TaskState)state;
    d.status = &status;
    store_tx_task(f.tx, &d);
    if (t->exists && !(t->node < 0 && node == NODE_MISSING)) {
        t->desired = MAX(t->desired, desired);
        t->state = MAX(t->state, state);
        t->node = t->node < 0 && node > 0 ? node : t->node;
    }
    return true;
}

static bool step_service(struct model *m, uint64_t index)
{
    int i = pick(8), what = pick(4), name = pick(10);
    struct model_service *s = &m->services[i];
    Skep__Service *service = fixture_service(&f, numbered("service", i),
                                             numbered(pick(2) > 0 ? "NAME" : "name", name), 1);

    m->touched[i] = true;
    if (what == 0) {
        store_tx_remove(f.tx, SKEP__KIND__KIND_SERVICE, service->id, 0);
        bool fine = s->exists;
        s->exists = false;
        return fine;
    }
    service->spec->task->force_update = (uint64_t)pick(3);
    bool clash = name_taken(m, name, i);
    if (what == 1) {
        store_tx_create(f.tx, &service->base);
        if (s->exists || clash)
            return false;
    } else {
        store_tx_update(f.tx, &service->base, 0, 0);
        if (!s->exists || clash)
            return false;
    }
    *s = (struct model_service){ true, name, s->spec_version, service->spec->task->force_update };
    s->spec_version = index; /* checked only where it can be told apart */
    return true;
}

static void check_task(const struct model *m, int i)
{
    const struct model_task *t = &m->tasks[i];
    const Skep__Task *task = store_task(f.s, numbered("task", i));

    ck_assert_int_eq(task != NULL, t->exists);
    if (!t->exists)
        return;
    ck_assert_int_eq((int)task->status->state, t->state);
    ck_assert_int_eq((int)task->desired_state, t->desired);
    ck_assert_str_eq(task->node_id, t->node < 0 ? "" : numbered("node", t->node));
    ck_assert_uint_eq(task->slot, t->slot);
}

static void check_groups(const struct model *m)
{
    struct store_iter it;

    for (int s = 0; s < 8; s++) {
        size_t want = 0, got = 0;
        const Skep__Task *last = NULL;

        for (int i = 0; i < OBJECTS; i++)
            want += m->tasks[i].exists && m->tasks[i].service == s;
        for (const Skep__Task *t = store_service_tasks(f.s, numbered("service", s), &it); t != NULL;
             t = store_iter_next(&it)) {
            ck_assert(last == NULL || last->slot < t->slot ||
                      (last->slot == t->slot && strcmp(last->id, t->id) < 0));
            last = t;
            got++;
        }
        ck_assert_uint_eq(got, want);
        for (uint64_t slot = 0; slot < 6; slot++) {
            const Skep__Task *t = store_slot_tasks(f.s, numbered("service", s), slot, &it);

            for (; t != NULL && t->slot == slot; t = store_iter_next(&it))
                got--;
        }
        ck_assert_uint_eq(got, 0);
        ck_assert_uint_eq(store_service_task_count(f.s, numbered("service", s)), want);
    }
    for (int n = 1; n < 5; n++) {
        size_t want = 0, got = 0;
        const Skep__Task *last = NULL;

        for (int i = 0; i < OBJECTS; i++)
            want += m->tasks[i].exists && m->tasks[i].node == n;
        for (const Skep__Task *t = store_node_tasks(f.s, numbered("node", n), &it); t != NULL;
             t = store_iter_next(&it)) {
            ck_assert(last == NULL || strcmp(last->id, t->id) < 0);
            last = t;
            got++;
        }
        ck_assert_uint_eq(got, want);
    }
}

/* Revisions are exactly those that a service or a task names. */
static void check_revisions(void)
{
    size_t wanted = 0;

    for (const ProtobufCMessage *o = store_first(f.s, SKEP__KIND__KIND_REVISION); o != NULL;
         o = store_after(f.s, SKEP__KIND__KIND_REVISION, object_id(o))) {
        const Skep__Revision *r = (const Skep__Revision *)o;
        const Skep__Service *s = store_service(f.s, r->service_id);
        bool named = s != NULL && s->meta->spec_version == r->spec_version;
        struct store_iter it;

        for (const Skep__Task *t = store_service_tasks(f.s, r->service_id, &it); t != NULL;
             t = store_iter_next(&it))
            named = named || t->spec_version == r->spec_version;
        ck_assert_msg(named, "%s", r->id);
        ck_assert_ptr_eq(store_revision(f.s, r->service_id, r->spec_version), r);
        wanted++;
    }
    ck_assert_uint_eq(store_count(f.s, SKEP__KIND__KIND_REVISION), wanted);
    for (const ProtobufCMessage *o = store_first(f.s, SKEP__KIND__KIND_SERVICE); o != NULL;
         o = store_after(f.s, SKEP__KIND__KIND_SERVICE, object_id(o)))
        ck_assert_ptr_nonnull(store_revision(f.s, object_id(o), object_meta(o)->spec_version));
}

static void check_names(const struct model *m)
{
    for (int name = 0; name < 10; name++) {
        const ProtobufCMessage *o =
            store_find_name(f.s, SKEP__KIND__KIND_SERVICE, numbered("Name", name));
        ck_assert_int_eq(o != NULL, name_taken(m, name, -1));
        if (o != NULL)
            ck_assert_int_eq(strcasecmp(object_name(o), numbered("NAME", name)), 0);
    }
}

static void reload_twin(void)
{
    struct store_snapshot *snap = store_snapshot_take(twin);
    struct store_loader *l = store_loader_new();
    uint8_t mem[700];

    for (size_t size; (size = store_snapshot_next(snap, mem, sizeof(mem))) > 0;)
        ck_assert_int_eq(store_loader_feed(l, mem, size, &f.e), 0);
    ck_assert_int_eq(store_loader_finish(l, store_snapshot_version(snap), twin, &f.e), 0);
    store_snapshot_free(snap);
    store_loader_free(l);
}

/* Keeps the model's spec versions in step: a spec version is what the store says, but it must only
 * change when the spec does. */
static void learn_spec_versions(struct model *m, const struct model *before)
{
    for (int i = 0; i < 8; i++) {
        const Skep__Service *s = store_service(f.s, numbered("service", i));

        ck_assert_int_eq(s != NULL, m->services[i].exists);
        if (s == NULL)
            continue;
        ck_assert_uint_eq(s->spec->task->force_update, m->services[i].force);
        ck_assert(s->meta->spec_version == f.index ||
                  s->meta->spec_version == before->services[i].spec_version);
        m->services[i].spec_version = s->meta->spec_version;
    }
}

static void add_nodes(void)
{
    uint8_t *data;
    size_t size;

    for (int i = 1; i < NODE_MISSING; i++)
        store_tx_create(f.tx, &fixture_node(&f, numbered("node", i), "host")->base);
    store_tx_pack(f.tx, 1, NULL, &data, &size);
    store_tx_clear(f.tx);
    ProtobufCBinaryData packed = { size, data };
    ck_assert_int_eq(store_apply_packed(f.s, ++f.index, packed, NULL, &f.e), 0);
    ck_assert_int_eq(store_apply_packed(twin, f.index, packed, NULL, &f.e), 0);
    free(data);
}

START_TEST(random_transactions)
{
    struct model m = { 0 };

    fixture_init(&f, (uint64_t)_i + 100);
    twin = store_new();
    add_nodes();
    for (int step = 0; step < STEPS; step++) {
        struct model before = m;
        int actions = 1 + pick(6);
        bool fine = true;

        memset(m.touched, 0, sizeof(m.touched));
        for (int i = 0; i < actions && fine; i++)
            fine = pick(4) > 0 ? step_task(&m) : step_service(&m, f.index + 1);
        uint8_t *data;
        size_t size;
        store_tx_pack(f.tx, step, NULL, &data, &size);
        store_tx_clear(f.tx);
        ProtobufCBinaryData packed = { size, data };
        int rc = store_apply_packed(f.s, ++f.index, packed, NULL, &f.e);
        int twin_rc = store_apply_packed(twin, f.index, packed, NULL, NULL);
        free(data);
        ck_assert_msg((rc == 0) == fine, "seed %d step %d: %s", _i, step, f.e.message);
        ck_assert_int_eq(rc, twin_rc);
        if (!fine)
            m = before;
        learn_spec_versions(&m, &before);
        for (int i = 0; i < OBJECTS; i++)
            check_task(&m, i);
        check_groups(&m);
        check_names(&m);
        check_revisions();
        if (step % 10 == 0)
            ck_assert_uint_eq(store_hash(f.s), store_hash(twin));
        if (step % 50 == 49)
            reload_twin();
        arena_reset(&f.arena);
    }
    store_free(twin);
    fixture_deinit(&f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store model");
    TCase *tc = tcase_create("random");

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, random_transactions, 0, SEEDS);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

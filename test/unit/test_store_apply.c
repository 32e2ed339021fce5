/* managerd/store/apply.c: what a transaction may do, what refuses it, and that a refusal leaves no
 * trace. */
#include <check.h>
#include <string.h>

#include "common/hash.h"
#include "common/message.h"
#include "test/lib/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_init(&f, 1);
    ck_assert_int_eq(fixture_add(&f, fixture_cluster(&f, "c1")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_node(&f, "n1", "alpha")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_service(&f, "s1", "web", 3)), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_secret(&f, "x1", "key")), 0);
    ck_assert_int_eq(fixture_add(&f, fixture_task(&f, "t1", "s1", 1)), 0);
}

static void teardown(void)
{
    fixture_deinit(&f);
}

/* ---- refusals ---- */

static void create_same_id(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "s1", "other", 1)->base);
}
static void create_same_name(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "s2", "WEB", 1)->base);
}
static void create_same_name_later(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "s2", "db", 1)->base);
    store_tx_create(f.tx, &fixture_service(&f, "s3", "Db", 1)->base);
}
static void create_second_cluster(void)
{
    Skep__Cluster *c = fixture_cluster(&f, "c2");

    c->spec->annotations->name = fixture_str(&f, "second");
    store_tx_create(f.tx, &c->base);
}
static void create_without_spec(void)
{
    Skep__Service *s = fixture_service(&f, "s2", "db", 1);

    s->spec = NULL;
    store_tx_create(f.tx, &s->base);
}
static void create_without_id(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "", "db", 1)->base);
}
static void create_long_id(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "abcdefghijklmnopqrstuvwxyz", "db", 1)->base);
}
static void create_revision(void)
{
    Skep__Revision r = SKEP__REVISION__INIT;

    r.id = fixture_str(&f, "s1.9");
    store_tx_create(f.tx, &r.base);
}
static void create_too_big(void)
{
    Skep__Secret *x = fixture_secret(&f, "x2", "big");

    x->spec->data.len = STORE_OBJECT_BYTES_MAX;
    x->spec->data.data = arena_alloc(&f.arena, x->spec->data.len);
    store_tx_create(f.tx, &x->base);
}
static void update_missing(void)
{
    store_tx_update(f.tx, &fixture_service(&f, "s9", "web", 1)->base, 0, 0);
}
static void update_stale_version(void)
{
    store_tx_update(f.tx, fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1"), 1, 0);
}
static void update_stale_spec(void)
{
    store_tx_update(f.tx, fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1"), 0, 99);
}
static void update_to_taken_name(void)
{
    store_tx_create(f.tx, &fixture_service(&f, "s2", "db", 1)->base);
    store_tx_update(f.tx, &fixture_service(&f, "s1", "DB", 1)->base, 0, 0);
}
static void update_task_back(void)
{
    Skep__Task *t = fixture_edit(&f, SKEP__KIND__KIND_TASK, "t1");

    t->status->state = SKEP__TASK_STATE__TASK_NEW;
    store_tx_update(f.tx, &t->base, 0, 0);
}
static void update_task_undesire(void)
{
    Skep__Task *t = fixture_edit(&f, SKEP__KIND__KIND_TASK, "t1");

    t->desired_state = SKEP__TASK_STATE__TASK_READY;
    store_tx_update(f.tx, &t->base, 0, 0);
}
static void update_task_move(void)
{
    Skep__Task *t = fixture_edit(&f, SKEP__KIND__KIND_TASK, "t1");

    t->node_id = fixture_str(&f, "n1");
    store_tx_update(f.tx, &t->base, 0, 0);
    t->node_id = fixture_str(&f, "n2");
    store_tx_update(f.tx, &t->base, 0, 0);
}
static void remove_missing(void)
{
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x9", 0);
}
static void remove_twice(void)
{
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 0);
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 0);
}
static void remove_stale(void)
{
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 1);
}
static void remove_revision(void)
{
    store_tx_remove(f.tx, SKEP__KIND__KIND_REVISION, "s1.3", 0);
}
static void remove_unknown_kind(void)
{
    store_tx_remove(f.tx, (Skep__Kind)77, "x1", 0);
}
static void too_many(void)
{
    for (int i = 0; i <= STORE_TX_ACTIONS_MAX; i++)
        store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 0);
}

static const struct refusal {
    const char *why;
    void (*fill)(void);
    int want;
    const char *names; /* part of the message */
} refusals[] = {
    { "an id twice", create_same_id, -ERR_EXISTS, "service s1" },
    { "names are compared without case", create_same_name, -ERR_EXISTS, "service WEB" },
    { "later actions see earlier ones", create_same_name_later, -ERR_EXISTS, "service Db" },
    { "there is one cluster object", create_second_cluster, -ERR_EXISTS, "cluster" },
    { "a service needs a spec", create_without_spec, -ERR_INVALID, "service s2 has no spec" },
    { "an empty id", create_without_id, -ERR_INVALID, "service" },
    { "an id of 26 characters", create_long_id, -ERR_INVALID, "service" },
    { "revisions are the store's own", create_revision, -ERR_INVALID, "revision" },
    { "an object above the limit", create_too_big, -ERR_TOO_BIG, "secret x2" },
    { "update of what is not there", update_missing, -ERR_NOT_FOUND, "service s9" },
    { "another version was expected", update_stale_version, -ERR_CONFLICT, "service s1" },
    { "another spec was expected", update_stale_spec, -ERR_CONFLICT, "out of sequence" },
    { "rename to a name that an earlier action took", update_to_taken_name, -ERR_EXISTS, "DB" },
    { "a task's state never falls", update_task_back, -ERR_INVALID, "task t1" },
    { "a task's desired state never falls", update_task_undesire, -ERR_INVALID, "task t1" },
    { "a task never changes its node", update_task_move, -ERR_INVALID, "task t1" },
    { "remove of what is not there", remove_missing, -ERR_NOT_FOUND, "secret x9" },
    { "an earlier action removed it", remove_twice, -ERR_NOT_FOUND, "secret x1" },
    { "remove of another version", remove_stale, -ERR_CONFLICT, "secret x1" },
    { "revisions cannot be removed", remove_revision, -ERR_INVALID, "remove" },
    { "an unknown kind", remove_unknown_kind, -ERR_INVALID, "remove" },
    { "too many actions", too_many, -ERR_TOO_BIG, "actions" },
};

static void count_event(void *ctx, const struct store_event *ev)
{
    (void)ev;
    ++*(int *)ctx;
}

/* store_hash() without the version. */
static uint64_t content_hash(void)
{
    static uint8_t mem[1 << 16];
    struct store_snapshot *snap = store_snapshot_take(f.s);
    size_t size = store_snapshot_next(snap, mem, sizeof(mem));

    ck_assert_uint_lt(size, sizeof(mem));
    store_snapshot_free(snap);
    return hash_bytes(mem, size, 0);
}

/* All or nothing: the good actions before the bad one are undone, and nobody hears of them. */
START_TEST(a_refused_transaction_changes_nothing)
{
    const struct refusal *c = &refusals[_i];
    uint64_t before = content_hash();
    int events = 0;
    struct store_event history[4];

    store_tx_create(f.tx, &fixture_service(&f, "s0", "early", 1)->base);
    Skep__Service *s = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");
    s->spec->replicated->replicas = 9;
    if (c->want != -ERR_CONFLICT)
        store_tx_update(f.tx, &s->base, 0, 0);
    c->fill();
    int rc = fixture_apply(&f, count_event, &events);

    ck_assert_msg(rc == c->want, "%s: %d (%s)", c->why, rc, f.e.message);
    ck_assert_msg(strstr(f.e.message, c->names) != NULL, "%s: %s", c->why, f.e.message);
    ck_assert_int_eq(events, 0);
    ck_assert_uint_eq(store_version(f.s), f.index);
    ck_assert_int_eq(store_history(f.s, f.index - 1, history, 4), 0);
    ck_assert_ptr_null(store_find_name(f.s, SKEP__KIND__KIND_SERVICE, "early"));
    ck_assert_uint_eq(store_count(f.s, SKEP__KIND__KIND_REVISION), 1);
    ck_assert_msg(content_hash() == before, "%s", c->why);
}
END_TEST

/* ---- meta ---- */

START_TEST(meta_follows_the_log)
{
    const Skep__Service *s = store_service(f.s, "s1");

    ck_assert_uint_eq(s->meta->version, 3);
    ck_assert_uint_eq(s->meta->spec_version, 3);
    int64_t created = s->meta->created_at;
    ck_assert_int_eq(created, s->meta->updated_at);

    Skep__Service *edit = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");
    edit->job_iteration = 4;
    edit->meta = NULL; /* ignored */
    ck_assert_int_eq(fixture_update(&f, edit), 0);
    s = store_service(f.s, "s1");
    ck_assert_uint_eq(s->meta->version, f.index);
    ck_assert_uint_eq(s->meta->spec_version, 3);
    ck_assert_int_eq(s->meta->created_at, created);
    ck_assert_int_gt(s->meta->updated_at, created);

    edit->spec->replicated->replicas = 4; /* scale only: a new spec version all the same */
    ck_assert_int_eq(fixture_update(&f, edit), 0);
    ck_assert_uint_eq(store_service(f.s, "s1")->meta->spec_version, f.index);
}
END_TEST

/* An operator's update was computed before the allocator wrote the service's endpoint, and lands
 * after: the endpoint stays. The allocator's own updates, which expect a version, replace it. */
START_TEST(an_operators_update_keeps_the_endpoint)
{
    uint64_t spec_version = store_service(f.s, "s1")->meta->spec_version;
    Skep__Service *early = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");
    Skep__Service *allocated = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");
    Skep__Endpoint endpoint = SKEP__ENDPOINT__INIT;

    endpoint.error = (char *)"no free address";
    allocated->endpoint = &endpoint;
    store_tx_update(f.tx, &allocated->base, store_service(f.s, "s1")->meta->version, 0);
    ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
    early->spec->replicated->replicas = 9;
    store_tx_update(f.tx, &early->base, 0, spec_version);
    ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
    ck_assert_uint_eq(store_service(f.s, "s1")->spec->replicated->replicas, 9);
    ck_assert_str_eq(store_service(f.s, "s1")->endpoint->error, "no free address");
}
END_TEST

/* Two operators change a job, both having seen its first iteration: the second begins the third, or
 * its spec would never run. */
START_TEST(every_operators_update_begins_an_iteration)
{
    uint64_t spec_version = store_service(f.s, "s1")->meta->spec_version;
    Skep__Service *again = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");

    again->job_iteration = 1; /* the same spec: the spec version stays, too */
    for (uint64_t i = 1; i <= 2; i++) {
        store_tx_update(f.tx, &again->base, 0, spec_version);
        ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
        ck_assert_uint_eq(store_service(f.s, "s1")->job_iteration, i);
    }
    again->job_iteration = 0; /* no job */
    store_tx_update(f.tx, &again->base, 0, spec_version);
    ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
    ck_assert_uint_eq(store_service(f.s, "s1")->job_iteration, 0);
}
END_TEST

/* ---- deltas ---- */

static const struct delta_case {
    const char *why;
    Skep__TaskState desired;
    const char *node_id;
    int state;
    Skep__TaskState want_desired;
    const char *want_node;
    Skep__TaskState want_state;
    bool event;
} delta_cases[] = {
#define S(x) SKEP__TASK_STATE__TASK_##x
    { "nothing asked", 0, "", -1, S(RUNNING), "n1", S(ASSIGNED), false },
    { "state rises", 0, "", S(RUNNING), S(RUNNING), "n1", S(RUNNING), true },
    { "same state, new text", 0, "", S(ASSIGNED), S(RUNNING), "n1", S(ASSIGNED), true },
    { "state never falls", 0, "", S(PENDING), S(RUNNING), "n1", S(ASSIGNED), false },
    { "desired rises", S(SHUTDOWN), "", -1, S(SHUTDOWN), "n1", S(ASSIGNED), true },
    { "desired never falls", S(READY), "", -1, S(RUNNING), "n1", S(ASSIGNED), false },
    { "node only once", 0, "n2", -1, S(RUNNING), "n1", S(ASSIGNED), false },
    { "an old status does not hold back the rest", S(REMOVE), "n2", S(NEW), S(REMOVE), "n1",
      S(ASSIGNED), true },
    { "an unknown state is left out", 0, "", 555, S(RUNNING), "n1", S(ASSIGNED), false },
    { "an unknown desired state is left out", (Skep__TaskState)555, "", -1, S(RUNNING), "n1",
      S(ASSIGNED), false },
};

START_TEST(deltas_are_merged)
{
    const struct delta_case *c = &delta_cases[_i];

    ck_assert_int_eq(fixture_task_delta(&f, "t1", 0, "n1", S(ASSIGNED)), 0);
    ck_assert_int_eq(fixture_task_delta(&f, "t1", c->desired, c->node_id, c->state), 0);
    const Skep__Task *t = store_task(f.s, "t1");

    ck_assert_msg(t->desired_state == c->want_desired, "%s", c->why);
    ck_assert_msg(t->status->state == c->want_state, "%s", c->why);
    ck_assert_msg(strcmp(t->node_id, c->want_node) == 0, "%s", c->why);
    ck_assert_msg((t->meta->version == f.index) == c->event, "%s", c->why);
}
END_TEST

START_TEST(a_delta_of_a_gone_task_is_skipped)
{
    ck_assert_int_eq(fixture_task_delta(&f, "t9", S(SHUTDOWN), "", -1), 0);
    ck_assert_ptr_null(store_task(f.s, "t9"));
}
END_TEST

/* Between the scheduler's choice and its commit the node was removed. */
START_TEST(a_task_is_never_bound_to_a_node_that_is_gone)
{
    ck_assert_int_eq(fixture_task_delta(&f, "t1", S(SHUTDOWN), "n9", S(ASSIGNED)), 0);
    const Skep__Task *t = store_task(f.s, "t1");

    ck_assert_str_eq(t->node_id, "");
    ck_assert_int_eq(t->status->state, S(PENDING));
    ck_assert_int_eq(t->desired_state, S(RUNNING)); /* nothing of such a delta is taken */
}
END_TEST

START_TEST(a_status_is_stamped_when_recorded)
{
    ck_assert_int_eq(fixture_task_delta(&f, "t1", 0, "n1", S(ASSIGNED)), 0);
    ck_assert_int_eq(store_task(f.s, "t1")->status->applied_at, f.wall_ns);
}
END_TEST

/* ---- events ---- */

struct seen {
    enum store_action action[8];
    char id[8][32];
    bool before[8], after[8];
    int count;
};

static void see(void *ctx, const struct store_event *ev)
{
    struct seen *seen = ctx;
    const ProtobufCMessage *o = ev->after != NULL ? ev->after : ev->before;

    ck_assert_int_lt(seen->count, 8);
    ck_assert_int_eq(object_kind(o), ev->kind);
    ck_assert_uint_eq(ev->version, f.index);
    ck_assert_ptr_eq(store_get(f.s, ev->kind, object_id(o)), ev->after); /* all changes are in */
    seen->action[seen->count] = ev->action;
    seen->before[seen->count] = ev->before != NULL;
    seen->after[seen->count] = ev->after != NULL;
    (void)snprintf(seen->id[seen->count++], 32, "%s", object_id(o));
}

START_TEST(one_event_per_changed_object)
{
    struct seen seen = { 0 };
    Skep__TaskDelta d = SKEP__TASK_DELTA__INIT;

    store_tx_create(f.tx, &fixture_task(&f, "t2", "s1", 2)->base);
    d.task_id = fixture_str(&f, "t2");
    d.desired_state = S(SHUTDOWN);
    store_tx_task(f.tx, &d); /* the same object again: no event of its own */
    d.task_id = fixture_str(&f, "t1");
    store_tx_task(f.tx, &d);
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 0);
    store_tx_create(f.tx, &fixture_secret(&f, "x2", "key")->base); /* the name is free again */
    store_tx_create(f.tx, &fixture_secret(&f, "x3", "flash")->base);
    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x3", 0); /* came and went: nothing to tell */
    ck_assert_int_eq(fixture_apply(&f, see, &seen), 0);

    ck_assert_int_eq(seen.count, 4);
    ck_assert_str_eq(seen.id[0], "t2");
    ck_assert_int_eq(seen.action[0], STORE_CREATE);
    ck_assert(!seen.before[0] && seen.after[0]);
    ck_assert_str_eq(seen.id[1], "t1");
    ck_assert_int_eq(seen.action[1], STORE_UPDATE);
    ck_assert(seen.before[1] && seen.after[1]);
    ck_assert_int_eq(seen.action[2], STORE_REMOVE);
    ck_assert(seen.before[2] && !seen.after[2]);
    ck_assert_str_eq(seen.id[3], "x2");
    ck_assert_int_eq(store_task(f.s, "t2")->desired_state, S(SHUTDOWN));
}
END_TEST

START_TEST(removed_and_created_again_is_an_update)
{
    struct seen seen = { 0 };

    store_tx_remove(f.tx, SKEP__KIND__KIND_SECRET, "x1", 0);
    store_tx_create(f.tx, &fixture_secret(&f, "x1", "other")->base);
    ck_assert_int_eq(fixture_apply(&f, see, &seen), 0);
    ck_assert_int_eq(seen.count, 1);
    ck_assert_int_eq(seen.action[0], STORE_UPDATE);
    ck_assert_ptr_null(store_find_name(f.s, SKEP__KIND__KIND_SECRET, "key"));
    ck_assert_ptr_nonnull(store_find_name(f.s, SKEP__KIND__KIND_SECRET, "OTHER"));
}
END_TEST

/* ---- revisions ---- */

START_TEST(revisions_live_as_long_as_they_are_named)
{
    const Skep__Revision *r = store_revision(f.s, "s1", 3);

    ck_assert_ptr_nonnull(r);
    ck_assert_str_eq(r->id, "s1.3");
    ck_assert(message_equal(&r->spec->base, &store_service(f.s, "s1")->spec->base));
    ck_assert_ptr_eq(store_task_revision(f.s, store_task(f.s, "t1")), r);

    Skep__Service *s = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");
    s->spec->task->force_update = 1;
    ck_assert_int_eq(fixture_update(&f, s), 0);
    uint64_t second = f.index;
    ck_assert_ptr_nonnull(store_revision(f.s, "s1", second));
    ck_assert_ptr_nonnull(store_revision(f.s, "s1", 3)); /* t1 names it */

    s->spec->task->force_update = 2;
    s->previous_spec_version = second;
    ck_assert_int_eq(fixture_update(&f, s), 0);
    uint64_t third = f.index;
    ck_assert_ptr_nonnull(store_revision(f.s, "s1", second)); /* what rollback goes to */

    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_TASK, "t1"), 0);
    ck_assert_ptr_null(store_revision(f.s, "s1", 3));

    ck_assert_int_eq(fixture_add(&f, fixture_task(&f, "t2", "s1", 1)), 0);
    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_SERVICE, "s1"), 0);
    ck_assert_ptr_null(store_revision(f.s, "s1", second));
    ck_assert_ptr_nonnull(store_revision(f.s, "s1", third)); /* its task still stops */
    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_TASK, "t2"), 0);
    ck_assert_uint_eq(store_count(f.s, SKEP__KIND__KIND_REVISION), 0);
}
END_TEST

START_TEST(two_spec_changes_in_one_transaction_make_one_revision)
{
    Skep__Service *s = fixture_edit(&f, SKEP__KIND__KIND_SERVICE, "s1");

    s->spec->task->force_update = 1;
    store_tx_update(f.tx, &s->base, 0, 0);
    s->spec->task->force_update = 2;
    store_tx_update(f.tx, &s->base, 0, 0);
    ck_assert_int_eq(fixture_apply(&f, NULL, NULL), 0);
    ck_assert_uint_eq(store_count(f.s, SKEP__KIND__KIND_REVISION), 2);
    ck_assert_uint_eq(store_revision(f.s, "s1", f.index)->spec->task->force_update, 2);
}
END_TEST

/* ---- repeated calls ---- */

static int apply_with_id(const uint8_t *id, size_t size)
{
    Skep__Transaction t = *store_tx_message(f.tx);

    t.wall_ns = ++f.wall_ns;
    t.request_id = (ProtobufCBinaryData){ size, (uint8_t *)(uintptr_t)id };
    f.e = (struct err){ 0 };
    int rc = store_apply(f.s, ++f.index, &t, NULL, &f.e);
    store_tx_clear(f.tx);
    return rc;
}

START_TEST(a_repeated_request_has_its_first_result)
{
    const uint8_t good[16] = "good", bad[16] = "bad", other[16] = "other";
    struct store_result r;

    store_tx_create(f.tx, &fixture_secret(&f, "x5", "five")->base);
    ck_assert_int_eq(apply_with_id(good, 16), 0);
    uint64_t first = f.index;
    store_tx_create(f.tx, &fixture_secret(&f, "x6", "five")->base); /* another id: the retry's */
    ck_assert_int_eq(apply_with_id(good, 16), 0);
    ck_assert_ptr_null(store_get(f.s, SKEP__KIND__KIND_SECRET, "x6"));
    ck_assert(store_find_result(f.s, good, &r));
    ck_assert_uint_eq(r.version, first);
    ck_assert_str_eq(r.object_id, "x5");

    store_tx_create(f.tx, &fixture_secret(&f, "x6", "five")->base);
    ck_assert_int_eq(apply_with_id(bad, 16), -ERR_EXISTS);
    char message[sizeof(f.e.message)];
    memcpy(message, f.e.message, sizeof(message));
    ck_assert_int_eq(fixture_remove(&f, SKEP__KIND__KIND_SECRET, "x5"), 0);
    store_tx_create(f.tx, &fixture_secret(&f, "x6", "five")->base);
    ck_assert_int_eq(apply_with_id(bad, 16), -ERR_EXISTS);
    ck_assert_str_eq(f.e.message, message);
    ck_assert(!store_find_result(f.s, other, &r));
    ck_assert_int_eq(apply_with_id(good, 15), -ERR_INVALID);
}
END_TEST

START_TEST(old_results_leave_the_window)
{
    uint8_t id[16] = { 0 };
    struct store_result r;

    for (uint32_t i = 0; i <= STORE_REQUESTS; i++) {
        memcpy(id, &i, sizeof(i));
        ck_assert_int_eq(apply_with_id(id, 16), 0);
    }
    ck_assert(store_find_result(f.s, id, &r));
    memset(id, 0, sizeof(id));
    ck_assert(!store_find_result(f.s, id, &r));
}
END_TEST

START_TEST(bytes_that_are_no_transaction)
{
    uint8_t bytes[2] = { 0xff, 0xff };

    ck_assert_int_eq(store_apply_packed(f.s, f.index + 1,
                                        (ProtobufCBinaryData){ sizeof(bytes), bytes }, NULL, &f.e),
                     -ERR_PROTO);
    ck_assert_uint_eq(store_version(f.s), f.index);
}
END_TEST

/* A task that was computed before its service went must not outlive it without a spec: no agent
 * could run it, and nobody would stop it. */
START_TEST(task_needs_its_spec)
{
    struct fixture x;

    fixture_init(&x, 1);
    Skep__Task *t = fixture_task(&x, "t1", "svc", 1);
    ck_assert_int_eq(fixture_add(&x, t), -ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(x.e.message, "is gone"));
    ck_assert_int_eq(fixture_add(&x, fixture_service(&x, "svc", "web", 1)), 0);
    t = fixture_task(&x, "t1", "svc", 1);
    ck_assert_int_eq(fixture_add(&x, t), 0);
    fixture_deinit(&x);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store apply");
    TCase *tc = tcase_create("rules");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, a_refused_transaction_changes_nothing, 0, ARRAY_LEN(refusals));
    tcase_add_test(tc, task_needs_its_spec);
    tcase_add_test(tc, meta_follows_the_log);
    tcase_add_test(tc, an_operators_update_keeps_the_endpoint);
    tcase_add_test(tc, every_operators_update_begins_an_iteration);
    tcase_add_loop_test(tc, deltas_are_merged, 0, ARRAY_LEN(delta_cases));
    tcase_add_test(tc, a_delta_of_a_gone_task_is_skipped);
    tcase_add_test(tc, a_task_is_never_bound_to_a_node_that_is_gone);
    tcase_add_test(tc, a_status_is_stamped_when_recorded);
    tcase_add_test(tc, one_event_per_changed_object);
    tcase_add_test(tc, removed_and_created_again_is_an_update);
    tcase_add_test(tc, revisions_live_as_long_as_they_are_named);
    tcase_add_test(tc, two_spec_changes_in_one_transaction_make_one_revision);
    tcase_add_test(tc, a_repeated_request_has_its_first_result);
    tcase_add_test(tc, old_results_leave_the_window);
    tcase_add_test(tc, bytes_that_are_no_transaction);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

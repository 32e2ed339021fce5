/* Operators' calls against a store: what they change, refuse and answer. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/control/control.h"
#include "test/lib/fixture.h"

struct world {
    struct fixture f;
    struct core_env core;
    struct control_env env;
    struct control_subject subject;
    struct err e;
};

static struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));

    fixture_init(&w->f, 7);
    w->core =
        (struct core_env){ .store = w->f.s, .now_ms = 1000, .wall_ns = 5, .prng = &w->f.prng };
    w->env.core = &w->core;
    w->env.arena = &w->f.arena;
    return w;
}

static void world_free(struct world *w)
{
    fixture_deinit(&w->f);
    free(w);
}

/* Validates, proposes and applies, as the leader does. */
static int change(struct world *w, Skep__Method method, const void *request)
{
    const struct control_method *m = control_method_find(method);

    ck_assert_ptr_nonnull(m->change);
    memset(&w->subject, 0, sizeof(w->subject));
    memset(&w->e, 0, sizeof(w->e));
    int rc = m->change(&w->env, request, w->f.tx, &w->subject, &w->e);
    if (rc < 0) {
        ck_assert_uint_eq(store_tx_action_count(w->f.tx), 0);
        return rc;
    }
    return fixture_apply(&w->f, NULL, NULL);
}

static ProtobufCMessage *answer(struct world *w, Skep__Method method, const void *request)
{
    ProtobufCMessage *a = NULL;
    int rc = control_method_find(method)->answer(&w->env, request, &w->subject, &a, &w->e);

    ck_assert_msg(rc == 0, "%s", w->e.message);
    return a;
}

static int create(struct world *w, const char *name, uint64_t replicas)
{
    Skep__ServiceCreateRequest req = SKEP__SERVICE_CREATE_REQUEST__INIT;
    Skep__Service *s = fixture_service(&w->f, "ignored", name, replicas);

    req.spec = s->spec;
    req.spec->task->container->registry_auth = (char *)"c2VjcmV0";
    return change(w, SKEP__METHOD__METHOD_SERVICE_CREATE, &req);
}

static const Skep__Service *service_named(struct world *w, const char *name)
{
    return (const Skep__Service *)store_find_name(w->f.s, SKEP__KIND__KIND_SERVICE, name);
}

START_TEST(service_life)
{
    struct world *w = world_new();
    Skep__ServiceUpdateRequest update = SKEP__SERVICE_UPDATE_REQUEST__INIT;
    Skep__ServiceRemoveRequest removal = SKEP__SERVICE_REMOVE_REQUEST__INIT;

    ck_assert_msg(create(w, "web", 2) == 0, "%s", w->e.message);
    ck_assert_ptr_nonnull(service_named(w, "WEB")); /* names are compared without case */
    Skep__ServiceCreateResponse *created =
        (Skep__ServiceCreateResponse *)answer(w, SKEP__METHOD__METHOD_SERVICE_CREATE, &update);
    ck_assert_str_eq(created->service->spec->task->container->registry_auth, "");
    ck_assert_int_eq(create(w, "Web", 1), -ERR_EXISTS);
    ck_assert_ptr_nonnull(strstr(w->e.message, "already exists"));

    update.id = (char *)"web";
    update.rollback = true;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), -ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(w->e.message, "does not have a previous spec"));

    update.rollback = false;
    update.spec = fixture_service(&w->f, "ignored", "web", 5)->spec;
    update.keep_registry_auth = true;
    update.spec_version = service_named(w, "web")->meta->spec_version;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), 0);
    ck_assert_uint_eq(service_named(w, "web")->spec->replicated->replicas, 5);
    ck_assert_str_eq(service_named(w, "web")->spec->task->container->registry_auth, "c2VjcmV0");
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), -ERR_CONFLICT);
    ck_assert_ptr_nonnull(strstr(w->e.message, "update out of sequence"));

    update.spec_version = 0;
    update.rollback = true;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), 0);
    ck_assert_uint_eq(service_named(w, "web")->spec->replicated->replicas, 2);
    ck_assert_str_eq(service_named(w, "web")->update_status->message,
                     "manually requested rollback");

    removal.ref = (char *)"web";
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_REMOVE, &removal), 0);
    ck_assert_ptr_null(service_named(w, "web"));
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_REMOVE, &removal), -ERR_NOT_FOUND);
    world_free(w);
}
END_TEST

START_TEST(forbidden_service_changes)
{
    struct world *w = world_new();
    Skep__ServiceUpdateRequest update = SKEP__SERVICE_UPDATE_REQUEST__INIT;
    Skep__GlobalMode global = SKEP__GLOBAL_MODE__INIT;

    ck_assert_int_eq(create(w, "web", 2), 0);
    update.id = (char *)"web";
    update.spec = fixture_service(&w->f, "ignored", "other", 2)->spec;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), -ERR_UNSUPPORTED);
    ck_assert_str_eq(w->e.message, "renaming services is not supported");
    update.spec = fixture_service(&w->f, "ignored", "web", 2)->spec;
    update.spec->mode_case = SKEP__SERVICE_SPEC__MODE_GLOBAL;
    update.spec->global = &global;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), -ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(w->e.message, "service mode change is not allowed"));
    update.spec = NULL;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_SERVICE_UPDATE, &update), -ERR_INVALID);
    world_free(w);
}
END_TEST

static Skep__Node *add_node(struct world *w, const char *id, const char *hostname, bool manager)
{
    Skep__Node *node = fixture_node(&w->f, id, hostname);

    node->spec->desired_role =
        manager ? SKEP__NODE_ROLE__ROLE_MANAGER : SKEP__NODE_ROLE__ROLE_WORKER;
    ck_assert_int_eq(fixture_add(&w->f, node), 0);
    return node;
}

START_TEST(node_guards)
{
    static const char a[] = "aaaaaaaaaaaaaaaaaaaaaaaaa", b[] = "bbbbbbbbbbbbbbbbbbbbbbbbb";
    struct world *w = world_new();
    Skep__NodeUpdateRequest update = SKEP__NODE_UPDATE_REQUEST__INIT;
    Skep__NodeRemoveRequest removal = SKEP__NODE_REMOVE_REQUEST__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;

    ck_assert_int_eq(fixture_add(&w->f, fixture_cluster(&w->f, "ccccccccccccccccccccccccc")), 0);
    add_node(w, a, "m1", true);
    add_node(w, b, "w1", false);
    spec.annotations = &annotations;
    update.id = (char *)a;
    update.spec = &spec; /* a worker */
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_NODE_UPDATE, &update), -ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(w->e.message, "last manager"));

    update.id = (char *)"w1"; /* by hostname */
    spec.availability = SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN;
    ck_assert_msg(change(w, SKEP__METHOD__METHOD_NODE_UPDATE, &update) == 0, "%s", w->e.message);
    ck_assert_int_eq(store_node(w->f.s, b)->spec->availability,
                     SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN);

    removal.ref = (char *)a;
    removal.force = true;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_NODE_REMOVE, &removal), -ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(w->e.message, "must be demoted"));
    removal.ref = (char *)b;
    removal.force = false;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_NODE_REMOVE, &removal), -ERR_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(w->e.message, "is not down"));
    removal.force = true;
    ck_assert_int_eq(change(w, SKEP__METHOD__METHOD_NODE_REMOVE, &removal), 0);
    ck_assert_ptr_null(store_node(w->f.s, b));
    ck_assert_uint_eq(store_cluster(w->f.s)->n_removed_nodes, 1);
    ck_assert_str_eq(store_cluster(w->f.s)->removed_nodes[0]->node_id, b);
    world_free(w);
}
END_TEST

static Skep__ObjectListResponse *list(struct world *w, const Skep__ObjectListRequest *req)
{
    return (Skep__ObjectListResponse *)answer(w, SKEP__METHOD__METHOD_OBJECT_LIST, req);
}

START_TEST(lists_filter_and_page)
{
    struct world *w = world_new();
    Skep__ObjectListRequest req = SKEP__OBJECT_LIST_REQUEST__INIT;
    Skep__ObjectFilter filter = SKEP__OBJECT_FILTER__INIT;
    char *names[] = { (char *)"we" };

    ck_assert_int_eq(create(w, "web", 1), 0);
    ck_assert_int_eq(create(w, "weather", 1), 0);
    ck_assert_int_eq(create(w, "db", 1), 0);
    req.kind = SKEP__KIND__KIND_SERVICE;
    ck_assert_uint_eq(list(w, &req)->n_objects, 3);
    filter.names = names;
    filter.n_names = 1;
    req.filter = &filter;
    ck_assert_uint_eq(list(w, &req)->n_objects, 2);
    req.limit = 1;
    Skep__ObjectListResponse *first = list(w, &req);
    ck_assert(first->more);
    req.after_id = first->objects[0]->service->id;
    Skep__ObjectListResponse *second = list(w, &req);
    ck_assert_uint_eq(second->n_objects, 1);
    ck_assert(!second->more);
    ck_assert_str_ne(second->objects[0]->service->id, req.after_id);
    world_free(w);
}
END_TEST

START_TEST(list_counts_tasks)
{
    struct world *w = world_new();
    Skep__ObjectListRequest req = SKEP__OBJECT_LIST_REQUEST__INIT;

    ck_assert_int_eq(create(w, "web", 3), 0);
    Skep__Task *t = fixture_task(&w->f, "t1", service_named(w, "web")->id, 1);
    t->status->state = SKEP__TASK_STATE__TASK_RUNNING;
    t->desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    ck_assert_int_eq(fixture_add(&w->f, t), 0);
    t = fixture_task(&w->f, "t2", service_named(w, "web")->id, 2);
    t->desired_state = SKEP__TASK_STATE__TASK_RUNNING;
    ck_assert_int_eq(fixture_add(&w->f, t), 0);
    req.kind = SKEP__KIND__KIND_SERVICE;
    req.service_status = true;
    Skep__ObjectListResponse *l = list(w, &req);
    ck_assert_uint_eq(l->n_statuses, 1);
    ck_assert_uint_eq(l->statuses[0]->running, 1);
    ck_assert_uint_eq(l->statuses[0]->desired, 3);
    world_free(w);
}
END_TEST

START_TEST(watch_tells_what_changed)
{
    struct world *w = world_new();
    Skep__WatchRequest req = SKEP__WATCH_REQUEST__INIT;
    Skep__WatchResponse out;
    bool ready;

    ck_assert_int_eq(create(w, "web", 1), 0);
    ck_assert_int_eq(control_watch(&w->env, &req, &ready, &out, &w->e), 0);
    ck_assert(ready); /* since 0: only the version */
    ck_assert_uint_eq(out.n_events, 0);
    req.since = out.version;
    ck_assert_int_eq(control_watch(&w->env, &req, &ready, &out, &w->e), 0);
    ck_assert(!ready);
    Skep__Kind kinds[] = { SKEP__KIND__KIND_SERVICE };
    req.kinds = kinds;
    req.n_kinds = 1;
    ck_assert_int_eq(create(w, "db", 1), 0);
    ck_assert_int_eq(control_watch(&w->env, &req, &ready, &out, &w->e), 0);
    ck_assert(ready);
    ck_assert_uint_eq(out.n_events, 1); /* the revision was not asked for */
    ck_assert_str_eq(out.events[0]->object->service->spec->annotations->name, "db");
    kinds[0] = SKEP__KIND__KIND_NODE;
    ck_assert_int_eq(control_watch(&w->env, &req, &ready, &out, &w->e), 0);
    ck_assert(!ready);
    ck_assert_uint_eq(out.version, store_version(w->f.s)); /* seen, need not be looked at again */
    world_free(w);
}
END_TEST

START_TEST(private_things_stay_inside)
{
    struct world *w = world_new();
    Skep__ObjectGetRequest req = SKEP__OBJECT_GET_REQUEST__INIT;
    Skep__Cluster *cluster = fixture_cluster(&w->f, "ccccccccccccccccccccccccc");
    Skep__RootCa root = SKEP__ROOT_CA__INIT;

    root.key_pem = (ProtobufCBinaryData){ .len = 3, .data = (uint8_t *)"key" };
    cluster->root_ca = &root;
    ck_assert_int_eq(fixture_add(&w->f, cluster), 0);
    ck_assert_int_eq(
        fixture_add(&w->f, fixture_secret(&w->f, "eeeeeeeeeeeeeeeeeeeeeeeee", "password")), 0);
    req.kind = SKEP__KIND__KIND_CLUSTER;
    Skep__ObjectGetResponse *got =
        (Skep__ObjectGetResponse *)answer(w, SKEP__METHOD__METHOD_OBJECT_GET, &req);
    ck_assert_uint_eq(got->object->cluster->root_ca->key_pem.len, 0);
    req.kind = SKEP__KIND__KIND_SECRET;
    req.ref = (char *)"password";
    got = (Skep__ObjectGetResponse *)answer(w, SKEP__METHOD__METHOD_OBJECT_GET, &req);
    ck_assert_uint_eq(got->object->secret->spec->data.len, 0); /* N72 */
    world_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("control");
    TCase *tc = tcase_create("control");
    SRunner *r = srunner_create(s);

    tcase_add_test(tc, service_life);
    tcase_add_test(tc, forbidden_service_changes);
    tcase_add_test(tc, node_guards);
    tcase_add_test(tc, lists_filter_and_page);
    tcase_add_test(tc, list_counts_tasks);
    tcase_add_test(tc, watch_tells_what_changed);
    tcase_add_test(tc, private_things_stay_inside);
    suite_add_tcase(s, tc);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The whole agent, in this process and on one loop, between a fake manager (real TLS) and a fake
 * engine: stories first, then chaos. */
#include "agentd/agent.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/identity.h"
#include "common/message.h"
#include "common/prng.h"
#include "test/lib/fake_engine.h"
#include "test/lib/fake_manager.h"
#include "test/lib/tmpdir.h"

enum {
    READY = SKEP__TASK_STATE__TASK_READY,
    STARTING = SKEP__TASK_STATE__TASK_STARTING,
    RUNNING = SKEP__TASK_STATE__TASK_RUNNING,
    COMPLETE = SKEP__TASK_STATE__TASK_COMPLETE,
    SHUTDOWN = SKEP__TASK_STATE__TASK_SHUTDOWN,
    FAILED = SKEP__TASK_STATE__TASK_FAILED,
    REJECTED = SKEP__TASK_STATE__TASK_REJECTED,
    TURNS_MAX = 6000, /* of at most 10 ms */
};

static struct loop *loop;
static struct rpc *rpc;
static struct fake_manager *manager;
static struct fake_engine *fake;
static struct agent *agent;
static char *state_dir, *run_dir, *socket_path;
static struct agent_options options;

static void agent_start(void)
{
    struct err e;

    agent = agent_new(loop, &options, &e);
    ck_assert_msg(agent != NULL, "%s", e.message);
}

/* As kill -9 does, as far as the engine and the managers can see. */
static void agent_crash(void)
{
    agent_free(agent);
    agent = NULL;
}

static void setup(void)
{
    struct err e;
    char *real;

    state_dir = tmpdir_new();
    run_dir = tmpdir_new_in_memory();
    real = realpath(state_dir, NULL);
    socket_path = xasprintf("%s/engine.sock", real);
    free(real);
    loop = loop_new(&e);
    rpc = rpc_new(loop, &e);
    manager = fake_manager_new(loop, rpc);
    fake = fake_engine_new(loop, socket_path);
    fake_engine_model(fake);
    fake_manager_enrol(manager, state_dir);
    options = (struct agent_options){ .state_dir = state_dir,
                                      .run_dir = run_dir,
                                      .engine_socket = socket_path,
                                      .token = "",
                                      .ping_ms = 300,
                                      .no_overlays = true };
    agent_start();
}

static void teardown(void)
{
    agent_free(agent);
    fake_manager_free(manager);
    fake_engine_free(fake);
    rpc_free(rpc);
    loop_free(loop);
    free(socket_path);
    tmpdir_remove(state_dir);
    tmpdir_empty(run_dir);
    tmpdir_remove(run_dir);
}

static void turn(void)
{
    struct err e;

    ck_assert_int_eq(loop_run_once(loop, 10, &e), 0);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        unsigned turns_ = 0;                                                                       \
        while (!(condition) && turns_++ < TURNS_MAX)                                               \
            turn();                                                                                \
        ck_assert_msg((condition), "never: %s", #condition);                                       \
    } while (0)

static void turns(unsigned count)
{
    while (count-- > 0)
        turn();
}

static Skep__TaskAssignment *make(unsigned number)
{
    struct fake_task_options o = { .service = "web", .number = number, .image = "box:1" };

    return fake_manager_make_task(manager, &o);
}

static void assign(unsigned number)
{
    Skep__TaskAssignment *a = make(number);

    fake_manager_assign(manager, a);
    free(a);
}

static struct fake_container *container(unsigned number)
{
    return fake_engine_container(fake, fake_manager_task_id(number));
}

static int state(unsigned number)
{
    return (int)fake_manager_state(manager, number);
}

/* ---- stories ---- */

START_TEST(runs_stops_and_removes)
{
    const Skep__TaskStatus *s;

    assign(1);
    UNTIL(state(1) == RUNNING);
    s = fake_manager_status(manager, 1);
    ck_assert_str_eq(s->message, "started");
    ck_assert_str_eq(s->error, "");
    ck_assert_str_eq(s->container->container_id, container(1)->id);
    ck_assert_int_eq(s->container->pid, FAKE_PID);
    fake_manager_desire(manager, 1, (Skep__TaskState)SHUTDOWN);
    UNTIL(state(1) == SHUTDOWN);
    ck_assert(!container(1)->running);
    ck_assert(!container(1)->removed); /* kept for its logs until the managers forget it */
    fake_manager_remove(manager, 1);
    UNTIL(fake_engine_existing(fake) == 0);
    ck_assert_uint_eq(container(1)->starts, 1);
    ck_assert_uint_eq(fake_manager_stats(manager).backward, 0);
}
END_TEST

START_TEST(holds_a_ready_task_back)
{
    Skep__TaskAssignment *a = make(1);

    a->task->desired_state = (Skep__TaskState)READY;
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == READY);
    turns(10);
    ck_assert_uint_eq(container(1)->starts, 0);
    fake_manager_desire(manager, 1, (Skep__TaskState)RUNNING);
    UNTIL(state(1) == RUNNING);
}
END_TEST

START_TEST(tells_how_it_ended)
{
    assign(1);
    assign(2);
    UNTIL(state(1) == RUNNING && state(2) == RUNNING);
    fake_engine_exit(fake, container(1), 0);
    fake_engine_exit(fake, container(2), 7);
    UNTIL(state(1) == COMPLETE && state(2) == FAILED);
    ck_assert_str_eq(fake_manager_status(manager, 2)->error, "task: non-zero exit (7)");
    ck_assert_int_eq(fake_manager_status(manager, 2)->container->exit_code, 7);
}
END_TEST

START_TEST(waits_for_health)
{
    struct fake_rule rule = { .match = "POST /containers/x" };
    Skep__TaskAssignment *a = make(1);

    fake_engine_rule(fake, &rule);
    a->task->desired_state = (Skep__TaskState)READY;
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == READY);
    container(1)->health = "starting";
    fake_manager_desire(manager, 1, (Skep__TaskState)RUNNING);
    UNTIL(state(1) == STARTING && container(1)->running);
    turns(10);
    ck_assert_int_eq(state(1), STARTING);
    fake_engine_health(fake, container(1), "healthy");
    UNTIL(state(1) == RUNNING);
    fake_engine_health(fake, container(1), "unhealthy");
    UNTIL(state(1) == FAILED);
    ck_assert_str_eq(fake_manager_status(manager, 1)->error,
                     "task: non-zero exit (143): dockerexec: unhealthy container");
}
END_TEST

START_TEST(rejects_what_cannot_be_had)
{
    struct fake_rule rule = { .match = "POST /containers/create?name=web.2",
                              .status = 500,
                              .body = "{\"message\":\"no space left on device\"}" };
    struct fake_task_options o = { .service = "web", .number = 1, .image = "missing:2" };
    Skep__TaskAssignment *a = fake_manager_make_task(manager, &o);

    fake_engine_rule(fake, &rule);
    fake_manager_assign(manager, a);
    free(a);
    assign(2);
    UNTIL(state(1) == REJECTED && state(2) == REJECTED);
    ck_assert_str_eq(fake_manager_status(manager, 1)->error,
                     "No such image: missing:2: no registry here");
    ck_assert_str_eq(fake_manager_status(manager, 2)->error, "no space left on device");
    ck_assert_str_eq(fake_manager_status(manager, 2)->message, "preparing");
}
END_TEST

/* One pull serves all tasks of an image; two images are two pulls. */
START_TEST(pulls_once_for_many)
{
    for (unsigned i = 1; i <= 30; i++)
        assign(i);
    UNTIL(fake_manager_count(manager, (Skep__TaskState)RUNNING) == 30);
    ck_assert_uint_eq(fake_engine_count(fake, "POST /images/create?fromImage=box&tag=1"), 1);
}
END_TEST

/* F3, G5, G7: the agent dies and comes back; nothing is restarted, everything is adopted. */
START_TEST(adopts_after_a_crash)
{
    for (unsigned i = 1; i <= 5; i++)
        assign(i);
    UNTIL(fake_manager_count(manager, (Skep__TaskState)RUNNING) == 5);
    agent_crash();
    fake_engine_exit(fake, container(2), 3);
    fake_manager_desire(manager, 3, (Skep__TaskState)SHUTDOWN);
    fake_manager_forget(manager, 4);
    agent_start();
    UNTIL(state(2) == FAILED && state(3) == SHUTDOWN && container(4)->removed);
    turns(20);
    for (unsigned i = 1; i <= 5; i++)
        ck_assert_uint_eq(container(i)->starts, 1);
    ck_assert(container(1)->running && container(5)->running);
    ck_assert_uint_eq(fake_engine_count(fake, "POST /containers/create"), 5);
}
END_TEST

/* A container of this node whose task nobody knows is stopped and removed; those of another
 * cluster or node never are: the list's filter leaves them out. */
START_TEST(removes_leftovers)
{
    struct fake_container *c;

    agent_crash();
    c = fake_engine_leftover(fake, fake_manager_task_id(99), fake_manager_cluster_id(manager),
                             fake_manager_node_id(manager));
    agent_start();
    UNTIL(c->removed);
    ck_assert_uint_eq(fake_engine_count(fake, "POST /containers/"), 1); /* its stop */
}
END_TEST

/* Before a manager has said what is wanted, nothing is touched. */
START_TEST(leaves_containers_alone_without_managers)
{
    assign(1);
    UNTIL(state(1) == RUNNING);
    agent_crash();
    fake_manager_down(manager);
    agent_start();
    turns(60);
    ck_assert(container(1)->running);
    fake_manager_up(manager);
    UNTIL(fake_manager_stats(manager).sessions == 2);
    turns(20);
    ck_assert(container(1)->running);
    ck_assert_uint_eq(container(1)->starts, 1);
}
END_TEST

/* Statuses of a time without managers arrive afterwards. */
START_TEST(reports_after_reconnecting)
{
    assign(1);
    UNTIL(state(1) == RUNNING);
    fake_manager_down(manager);
    turns(5);
    fake_engine_exit(fake, container(1), 9);
    turns(10);
    fake_manager_up(manager);
    UNTIL(state(1) == FAILED);
    ck_assert_int_eq(fake_manager_status(manager, 1)->container->exit_code, 9);
}
END_TEST

/* F22: the engine restarts; lists tell what the lost events did not. */
START_TEST(survives_an_engine_restart)
{
    assign(1);
    assign(2);
    UNTIL(state(1) == RUNNING && state(2) == RUNNING);
    fake_engine_hang_up(fake);
    container(1)->running = false; /* without an event */
    container(1)->exit_code = 4;
    UNTIL(state(1) == FAILED);
    ck_assert_int_eq(state(2), RUNNING);
}
END_TEST

/* F23: an engine that accepts and never answers makes the node degraded, not dead. */
START_TEST(hung_engine_degrades_the_node)
{
    struct fake_rule hang = { .match = "GET /_ping", .how = FAKE_HANG, .times = 3 };
    unsigned beats;

    UNTIL(fake_manager_description(manager) != NULL &&
          fake_manager_description(manager)->degraded[0] == '\0' &&
          fake_manager_description(manager)->engine != NULL);
    ck_assert_str_eq(fake_manager_description(manager)->hostname, "host");
    fake_engine_rule(fake, &hang);
    UNTIL(strcmp(fake_manager_description(manager)->degraded, "engine unresponsive") == 0);
    beats = fake_manager_stats(manager).beats;
    turns(100);
    ck_assert_uint_gt(fake_manager_stats(manager).beats, beats);
    ck_assert_uint_eq(fake_manager_stats(manager).sessions, 1);
    UNTIL(fake_manager_description(manager)->degraded[0] == '\0');
}
END_TEST

/* N83: an answer beyond every limit degrades the node; the agent's memory stays what it was. */
START_TEST(flooding_engine_degrades_the_node)
{
    struct fake_rule flood = { .match = "GET /containers/json", .how = FAKE_FLOOD, .times = 2 };

    fake_engine_rule(fake, &flood);
    UNTIL(fake_manager_description(manager) != NULL &&
          strstr(fake_manager_description(manager)->degraded, "not usable") != NULL);
    fake_engine_hang_up(fake); /* the event stream comes back and lists again */
    UNTIL(fake_manager_description(manager)->degraded[0] == '\0');
}
END_TEST

/* docker_api.md §5.5: files are there before the container, with owner and mode, and gone after it.
 */
START_TEST(delivers_secrets_and_configs)
{
    Skep__FileTarget target = SKEP__FILE_TARGET__INIT;
    Skep__SecretReference secret = SKEP__SECRET_REFERENCE__INIT, *secrets[] = { &secret };
    Skep__ConfigReference config = SKEP__CONFIG_REFERENCE__INIT, *configs[] = { &config };
    Skep__TaskAssignment *a = make(1);
    CLEANUP_FREE char *path = xasprintf("%s/tasks/%s/s0", run_dir, fake_manager_task_id(1));
    CLEANUP_FREE char *mount =
        xasprintf("{\"ReadOnly\":true,\"Source\":\"%s\",\"Target\":\"/run/secrets/key\","
                  "\"Type\":\"bind\"}",
                  path);
    CLEANUP_BUF struct buf content = BUF_INIT(100);
    struct stat st;
    struct err e;

    target.name = (char *)"key";
    target.uid = (char *)"12";
    target.mode = 0440;
    secret.secret_id = (char *)"secret1";
    secret.file = &target;
    config.config_id = (char *)"config1";
    config.file = &target;
    a->spec->task->container->secrets = secrets;
    a->spec->task->container->n_secrets = 1;
    a->spec->task->container->configs = configs;
    a->spec->task->container->n_configs = 1;
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(fake_manager_status(manager, 1) != NULL &&
          strstr(fake_manager_status(manager, 1)->error, "secret1 has not arrived") != NULL);
    ck_assert_uint_eq(fake_engine_existing(fake), 0);
    fake_manager_config(manager, "config1", "c", 1);
    fake_manager_secret(manager, "secret1", "s3cret", 6);
    UNTIL(state(1) == RUNNING);
    ck_assert_int_eq(buf_read_file(&content, path, &e), 0);
    ck_assert_str_eq(buf_str(&content), "s3cret");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0440);
    if (geteuid() == 0)
        ck_assert_uint_eq(st.st_uid, 12);
    ck_assert_ptr_nonnull(strstr(container(1)->create_body, mount));
    fake_manager_remove(manager, 1);
    UNTIL(container(1)->removed);
    turns(3);
    ck_assert_int_lt(stat(path, &st), 0);
}
END_TEST

/* N76 and the missing source: the paths are looked at on another thread, the task is rejected. */
static const struct bind_case {
    const char *why, *source; /* NULL: the engine's socket */
    bool create, allow;
    int want;
    const char *want_error;
} binds[] = {
    { "no such path", "/nowhere/at/all", false, false, REJECTED, "does not exist: /nowhere" },
    { "the engine's socket", NULL, false, false, REJECTED, "is not allowed" },
    { "a directory above it", "/", false, false, REJECTED, "is not allowed" },
    { "the engine's socket, allowed", NULL, false, true, RUNNING, "" },
    { "something harmless", "/usr/lib", false, false, RUNNING, "" },
};

START_TEST(looks_at_bind_sources)
{
    const struct bind_case *c = &binds[_i];
    Skep__Mount m = SKEP__MOUNT__INIT, *mounts[] = { &m };
    Skep__TaskAssignment *a = make(1);

    agent_crash();
    options.allow_engine_access = c->allow;
    agent_start();
    m.source = c->source == NULL ? socket_path : (char *)c->source;
    m.target = (char *)"/mnt";
    m.bind_create = c->create;
    a->spec->task->container->mounts = mounts;
    a->spec->task->container->n_mounts = 1;
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == c->want);
    ck_assert_msg(strstr(fake_manager_status(manager, 1)->error, c->want_error) != NULL, "%s: %s",
                  c->why, fake_manager_status(manager, 1)->error);
}
END_TEST

/* A published port of 0 is chosen by the engine and told to the managers. */
START_TEST(reports_host_ports)
{
    Skep__EndpointSpec ep = SKEP__ENDPOINT_SPEC__INIT;
    Skep__PortConfig port = SKEP__PORT_CONFIG__INIT, *ports[] = { &port };
    Skep__TaskAssignment *a = make(1);
    const Skep__TaskStatus *s;

    port.target_port = 80;
    port.publish_mode = SKEP__PUBLISH_MODE__PUBLISH_HOST;
    ep.ports = ports;
    ep.n_ports = 1;
    a->spec->endpoint = &ep;
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == RUNNING);
    s = fake_manager_status(manager, 1);
    ck_assert_uint_eq(s->n_host_ports, 1);
    ck_assert_uint_eq(s->host_ports[0]->published_port, 32768);
    ck_assert_ptr_nonnull(strstr(container(1)->create_body, "\"PortBindings\":{\"80/tcp\":[{}]}"));
}
END_TEST

/* What the managers do not know is removed, as their answer to a report says. */
START_TEST(removes_what_managers_do_not_know)
{
    assign(1);
    UNTIL(state(1) == RUNNING);
    fake_manager_forget(manager, 1);
    fake_engine_exit(fake, container(1), 1);
    UNTIL(container(1)->removed);
}
END_TEST

/* Told to renew: a new key and certificate, the same session, connections made anew use it. */
START_TEST(renews_its_certificate)
{
    struct identity *id;
    uint64_t stamp;
    struct err e;

    UNTIL(fake_manager_stats(manager).sessions == 1);
    stamp = identity_stamp(state_dir);
    fake_manager_renew(manager, TLS_ROLE_MANAGER);
    UNTIL(identity_stamp(state_dir) != stamp);
    ck_assert_int_eq(identity_load(state_dir, &id, &e), 0);
    ck_assert_int_eq(id->tls.role, TLS_ROLE_MANAGER);
    ck_assert_str_eq(id->tls.node.s, fake_manager_node_id(manager));
    identity_free(id);
    turns(120); /* it is loaded meanwhile */
    ck_assert_uint_eq(fake_manager_stats(manager).sessions, 1);
    ck_assert_uint_eq(fake_manager_stats(manager).renewals, 1);
    fake_manager_down(manager);
    fake_manager_up(manager);
    UNTIL(fake_manager_stats(manager).sessions == 2);
}
END_TEST

/* ---- leaving ---- */

START_TEST(leaving_removes_everything)
{
    struct err e;

    assign(1);
    assign(2);
    UNTIL(state(1) == RUNNING && state(2) == RUNNING);
    ck_assert_int_eq(identity_remove(state_dir, &e), 0);
    UNTIL(fake_engine_existing(fake) == 0);
    fake_manager_enrol(manager, state_dir); /* and back again */
    UNTIL(fake_manager_stats(manager).sessions == 2);
}
END_TEST

/* ---- networks of the engine ---- */

#define LAN "net1aaaaaaaaaaaaaaaaaaaaa"
#define SIDE "net2aaaaaaaaaaaaaaaaaaaaa"

/* A task on the networks "lan" and "side", made by the engine. */
static void assign_engine(unsigned number)
{
    static const char *const ids[] = { LAN, SIDE }, *const names[] = { "lan", "side" };
    struct fake_task_options o = { .service = "web", .number = number, .image = "box:1" };
    Skep__TaskAssignment *a = fake_manager_make_task(manager, &o);
    Skep__Network n[2], *list[2];
    Skep__NetworkSpec spec[2];
    Skep__Annotations annotations[2];
    Skep__NetworkAttachmentConfig want[2], *wants[2];

    for (size_t i = 0; i < 2; i++) {
        skep__network__init(&n[i]);
        skep__network_spec__init(&spec[i]);
        skep__annotations__init(&annotations[i]);
        skep__network_attachment_config__init(&want[i]);
        n[i].id = want[i].target = (char *)ids[i];
        n[i].spec = &spec[i];
        spec[i].annotations = &annotations[i];
        annotations[i].name = (char *)names[i];
        list[i] = &n[i];
        wants[i] = &want[i];
    }
    a->networks = list;
    a->n_networks = 2;
    a->spec->task->networks = wants;
    a->spec->task->n_networks = 2;
    fake_manager_assign(manager, a);
    free(a);
}

START_TEST(engine_networks_come_and_go_with_their_tasks)
{
    fake_engine_foreign_network(fake, "theirs");
    for (unsigned i = 1; i <= 6; i++)
        assign_engine(i);
    UNTIL(fake_manager_count(manager, (Skep__TaskState)RUNNING) == 6);
    ck_assert_ptr_nonnull(fake_engine_network(fake, "lan"));
    ck_assert_str_eq(fake_engine_network(fake, "lan")->network_id, LAN);
    for (unsigned i = 1; i <= 6; i++) {
        ck_assert_ptr_nonnull(strstr(container(i)->create_body, "\"NetworkMode\":\"lan\""));
        ck_assert_str_eq(container(i)->connected, ",side");
    }
    for (unsigned i = 1; i <= 5; i++)
        fake_manager_remove(manager, i);
    UNTIL(fake_engine_existing(fake) == 1);
    turns(20);
    ck_assert_ptr_nonnull(fake_engine_network(fake, "lan"));
    agent_crash(); /* what becomes unused meanwhile is found afterwards */
    fake_manager_forget(manager, 6);
    container(6)->removed = true;
    agent_start();
    UNTIL(fake_engine_network(fake, "lan") == NULL && fake_engine_network(fake, "side") == NULL);
    ck_assert_ptr_nonnull(fake_engine_network(fake, "theirs"));
}
END_TEST

/* A network of the user's with that name is neither used nor touched. */
START_TEST(foreign_networks_are_left_alone)
{
    fake_engine_foreign_network(fake, "side");
    assign_engine(1);
    UNTIL(state(1) == REJECTED);
    ck_assert_str_eq(fake_manager_status(manager, 1)->error,
                     "network side: this node's engine has another network of that name");
    fake_manager_remove(manager, 1);
    UNTIL(fake_engine_network(fake, "lan") == NULL);
    ck_assert_ptr_nonnull(fake_engine_network(fake, "side"));
}
END_TEST

/* ---- logs ---- */

static Skep__LogSubscription subscription(bool follow, char **task_id)
{
    Skep__LogSubscription s = SKEP__LOG_SUBSCRIPTION__INIT;

    s.id = (char *)(follow ? "follow" : "once");
    s.task_ids = task_id;
    s.n_task_ids = 1;
    s.follow = follow;
    s.tail = -1;
    return s;
}

START_TEST(ships_logs_and_ends)
{
    static const char text[] = "1970-01-01T00:00:01Z one\n1970-01-01T00:00:02Z two\n";
    struct fake_rule rule = { .match = "GET /containers/0000000000000000000000000000000000000000"
                                       "000000000000000000000001/logs",
                              .body = text };
    char id[32], *ids[] = { id };
    Skep__TaskAssignment *a = make(1);
    Skep__LogSubscription s = subscription(false, ids);

    (void)snprintf(id, sizeof(id), "%s", fake_manager_task_id(1));
    a->spec->task->container->tty = true;
    fake_engine_rule(fake, &rule);
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == RUNNING);
    fake_manager_subscribe(manager, &s);
    UNTIL(fake_manager_logs_done(manager));
    ck_assert_str_eq(fake_manager_logs(manager), "1:one\n1:two\n");
    fake_manager_subscribe(manager, NULL);
    turns(5);
}
END_TEST

/* N86: a path in a task's id reads nothing. */
START_TEST(log_request_with_a_path_reads_nothing)
{
    char *ids[] = { (char *)"../../containers/x/json?" };
    Skep__LogSubscription s = subscription(false, ids);

    UNTIL(fake_manager_stats(manager).sessions == 1);
    fake_manager_subscribe(manager, &s);
    UNTIL(fake_manager_logs_done(manager));
    ck_assert_str_eq(fake_manager_logs(manager), "");
    ck_assert_uint_eq(fake_engine_count(fake, "GET /containers/x"), 0);
    ck_assert_uint_eq(fake_engine_count(fake, "GET /containers/.."), 0);
}
END_TEST

/* N87: a reader that asks to pause holds the engine's stream; nothing is lost, memory is bounded.
 */
START_TEST(slow_readers_hold_the_stream)
{
    static char text[3 << 20];
    struct fake_rule rule = { .match = "GET /containers/0000000000000000000000000000000000000000"
                                       "000000000000000000000001/logs",
                              .body = text };
    char id[32], *ids[] = { id };
    Skep__TaskAssignment *a = make(1);
    Skep__LogSubscription s = subscription(false, ids);
    size_t lines = 0;

    for (size_t i = 0; i + 16 < sizeof(text); i += 16)
        memcpy(text + i, "0123456789abcde\n", 16);
    (void)snprintf(id, sizeof(id), "%s", fake_manager_task_id(1));
    a->spec->task->container->tty = true;
    fake_engine_rule(fake, &rule);
    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == RUNNING);
    fake_manager_logs_answer(manager, false, 50);
    fake_manager_subscribe(manager, &s);
    UNTIL(strlen(fake_manager_logs(manager)) > 1000);
    turns(30);
    ck_assert(!fake_manager_logs_done(manager));
    fake_manager_logs_answer(manager, false, 0);
    UNTIL(fake_manager_logs_done(manager));
    for (const char *at = fake_manager_logs(manager); *at != '\0'; at++)
        lines += *at == '\n';
    ck_assert_uint_eq(lines, (sizeof(text) - 1) / 16);
    fake_manager_subscribe(manager, NULL);
    turns(5);
}
END_TEST

/* ---- chaos ---- */

/* What is reported is so: the upper half runs or has ended, the lower half was stopped. */
static bool all_settled(unsigned tasks)
{
    for (unsigned i = 1; i <= tasks; i++) {
        const struct fake_container *c = container(i);
        bool runs = c != NULL && c->running;

        if (runs != (state(i) == RUNNING) || (!runs && state(i) < COMPLETE) ||
            (runs && i <= tasks / 2))
            return false;
    }
    return true;
}

/* F3, F22-F24, G6, G7 together: faults on a fifth of the engine's answers, crashes of the agent,
 * restarts of the engine, managers that vanish; at most one container per task ever, none started
 * twice, and in the end everything is as desired. */
START_TEST(converges_after_chaos)
{
    enum { TASKS = 12, ROUNDS = 120 };
    struct prng p;

    prng_init(&p, (uint64_t)_i + 100);
    fake_engine_chaos(fake, &p, 200000);
    for (unsigned i = 1; i <= TASKS; i++)
        assign(i);
    for (unsigned i = 0; i < ROUNDS; i++) {
        turns((unsigned)prng_below(&p, 8));
        switch (prng_below(&p, 12)) {
        case 0:
            agent_crash();
            agent_start();
            break;
        case 1:
            fake_engine_hang_up(fake);
            break;
        case 2:
            fake_manager_down(manager);
            turns((unsigned)prng_below(&p, 5));
            fake_manager_up(manager);
            break;
        case 3:
            fake_manager_desire(manager, 1 + (unsigned)prng_below(&p, TASKS / 2),
                                (Skep__TaskState)SHUTDOWN);
            break;
        case 4: {
            struct fake_container *c = container(1 + (unsigned)prng_below(&p, TASKS));

            if (c != NULL && c->running)
                fake_engine_exit(fake, c, 1);
            break;
        }
        default:
            break;
        }
    }
    fake_engine_chaos(fake, &p, 0);
    for (unsigned i = 1; i <= TASKS / 2; i++)
        fake_manager_desire(manager, i, (Skep__TaskState)SHUTDOWN);
    UNTIL(all_settled(TASKS));
    for (unsigned i = 1; i <= TASKS; i++) {
        struct fake_container *c = container(i);

        ck_assert_uint_le(fake_engine_created(fake, fake_manager_task_id(i)), 1);
        ck_assert(c == NULL || c->starts <= 1);
    }
    ck_assert_uint_eq(fake_manager_stats(manager).backward, 0);
    for (unsigned i = 1; i <= TASKS; i++)
        fake_manager_remove(manager, i);
    UNTIL(fake_engine_existing(fake) == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent");
    TCase *tc = tcase_create("agent");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, runs_stops_and_removes);
    tcase_add_test(tc, holds_a_ready_task_back);
    tcase_add_test(tc, tells_how_it_ended);
    tcase_add_test(tc, waits_for_health);
    tcase_add_test(tc, rejects_what_cannot_be_had);
    tcase_add_test(tc, pulls_once_for_many);
    tcase_add_test(tc, adopts_after_a_crash);
    tcase_add_test(tc, removes_leftovers);
    tcase_add_test(tc, leaves_containers_alone_without_managers);
    tcase_add_test(tc, reports_after_reconnecting);
    tcase_add_test(tc, survives_an_engine_restart);
    tcase_add_test(tc, hung_engine_degrades_the_node);
    tcase_add_test(tc, flooding_engine_degrades_the_node);
    tcase_add_test(tc, delivers_secrets_and_configs);
    tcase_add_loop_test(tc, looks_at_bind_sources, 0, (int)ARRAY_LEN(binds));
    tcase_add_test(tc, reports_host_ports);
    tcase_add_test(tc, removes_what_managers_do_not_know);
    tcase_add_test(tc, renews_its_certificate);
    tcase_add_test(tc, leaving_removes_everything);
    tcase_add_test(tc, engine_networks_come_and_go_with_their_tasks);
    tcase_add_test(tc, foreign_networks_are_left_alone);
    tcase_add_test(tc, ships_logs_and_ends);
    tcase_add_test(tc, log_request_with_a_path_reads_nothing);
    tcase_add_test(tc, slow_readers_hold_the_stream);
    tcase_add_loop_test(tc, converges_after_chaos, 0, 4);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

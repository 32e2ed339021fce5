/* Networks in the whole agent, between a fake manager (real TLS), a fake engine and a fake
 * agentd/net, which this file is: its functions are linked instead of the real ones. The test plays
 * the entrypoint gate inside the container. */
#include "agentd/agent.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/worker/gate.h"
#include "common/buf.h"
#include "common/identity.h"
#include "test/lib/fake_engine.h"
#include "test/lib/fake_manager.h"
#include "test/lib/tmpdir.h"

enum {
    STARTING = SKEP__TASK_STATE__TASK_STARTING,
    PREPARING = SKEP__TASK_STATE__TASK_PREPARING,
    RUNNING = SKEP__TASK_STATE__TASK_RUNNING,
    SHUTDOWN = SKEP__TASK_STATE__TASK_SHUTDOWN,
    FAILED = SKEP__TASK_STATE__TASK_FAILED,
    REJECTED = SKEP__TASK_STATE__TASK_REJECTED,
    TURNS_MAX = 6000, /* of at most 10 ms */
};

#define NET1 "net1aaaaaaaaaaaaaaaaaaaaa"
#define NET2 "net2aaaaaaaaaaaaaaaaaaaaa"

/* ---- a fake agentd/net ---- */

struct net {
    struct net_options o;
};

static struct {
    bool impossible, arrived;
    int attach_rc;
    const char *error;
    unsigned attaches, detaches, applies, expects, clears, keeps, checks;
    char attached[64], addresses[128], detached[64], identity[32], kept[64];
    struct net *net;
} kernel;

struct net *net_new(struct loop *l, const struct net_options *o, struct err *e)
{
    (void)l;
    if (kernel.impossible) {
        (void)err_set(e, ERR_UNSUPPORTED, "no VXLAN in this kernel");
        return NULL;
    }
    kernel.net = xcalloc(1, sizeof(*kernel.net));
    kernel.net->o = *o;
    return kernel.net;
}

void net_free(struct net *n)
{
    free(n);
    kernel.net = NULL;
}

void net_clear(struct net *n)
{
    (void)n;
    kernel.clears++;
}

void net_set_identity(struct net *n, const char *node_id)
{
    (void)n;
    (void)snprintf(kernel.identity, sizeof(kernel.identity), "%s", node_id);
}

void net_apply(struct net *n, const Skep__NetworksResponse *resp)
{
    (void)resp;
    kernel.applies++;
    n->o.on_change(n->o.ctx);
}

void net_expect_complete(struct net *n)
{
    (void)n;
    kernel.expects++;
}

int net_attach(struct net *n, const struct net_task *task, pid_t pid, struct err *e)
{
    (void)n;
    ck_assert_int_eq(pid, FAKE_PID);
    kernel.attaches++;
    if (kernel.attach_rc < 0)
        return err_set(e, (enum err_code) - kernel.attach_rc, "network blue: %s",
                       kernel.attach_rc == -ERR_UNAVAILABLE ? "has not arrived" : "no key");
    (void)snprintf(kernel.attached, sizeof(kernel.attached), "%s", task->task_id);
    kernel.addresses[0] = '\0';
    for (size_t i = 0; i < task->network_count; i++) {
        size_t size = strlen(kernel.addresses);

        (void)snprintf(kernel.addresses + size, sizeof(kernel.addresses) - size, "%s=%s ",
                       task->networks[i]->network_id, task->networks[i]->addresses[0]);
    }
    return 0;
}

void net_detach(struct net *n, const char *task_id)
{
    (void)n;
    kernel.detaches++;
    (void)snprintf(kernel.detached, sizeof(kernel.detached), "%s", task_id);
}

void net_keep_only(struct net *n, bool (*has)(void *ctx, const char *task_id), void *ctx)
{
    (void)n;
    kernel.keeps++;
    ck_assert(!has(ctx, fake_manager_task_id(77)));
    (void)snprintf(kernel.kept, sizeof(kernel.kept), "%s",
                   has(ctx, fake_manager_task_id(1)) ? fake_manager_task_id(1) : "");
}

size_t net_nameservers(const struct net *n, const struct net_task *task,
                       struct ip ret[NET_NAMESERVERS_MAX])
{
    (void)n;
    ck_assert_uint_gt(task->network_count, 0);
    if (!kernel.arrived)
        return 0;
    ck_assert_int_eq(ip_parse("10.0.1.1", &ret[0], NULL), 0);
    return 1;
}

void net_describe(struct net *n, Skep__NodeNetwork *ret)
{
    (void)n;
    ret->balancer = (char *)"nftables";
    ret->mtu = 1500;
    ret->error = (char *)kernel.error;
}

size_t net_check(struct net *n, const Skep__NetworkDifference **ret, size_t max)
{
    static Skep__NetworkDifference d;

    (void)n;
    ck_assert_uint_ge(max, 1);
    kernel.checks++;
    skep__network_difference__init(&d);
    d.what = (char *)"route";
    d.problem = (char *)"missing";
    ret[0] = &d;
    return 1;
}

/* ---- the agent ---- */

static struct loop *loop;
static struct rpc *rpc;
static struct fake_manager *manager;
static struct fake_engine *fake;
static struct agent *agent;
static char *state_dir, *run_dir, *socket_path, *hosts_path;
static struct agent_options options;

static void agent_start(void)
{
    struct err e;

    agent = agent_new(loop, &options, &e);
    ck_assert_msg(agent != NULL, "%s", e.message);
}

static void agent_crash(void)
{
    agent_free(agent);
    agent = NULL;
}

static void setup(void)
{
    struct err e;
    char *real;
    int fd;

    memset(&kernel, 0, sizeof(kernel));
    kernel.arrived = true;
    kernel.error = "";
    state_dir = tmpdir_new();
    run_dir = tmpdir_new_in_memory();
    real = realpath(state_dir, NULL);
    socket_path = xasprintf("%s/engine.sock", real);
    hosts_path = xasprintf("%s/hosts", real);
    fd = open(hosts_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_eq(write(fd, "127.0.0.1\tlocalhost\n", 20), 20);
    (void)close(fd);
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
                                      .gate = "/bin/true",
                                      .ping_ms = 300 };
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
    free(hosts_path);
    tmpdir_remove(state_dir);
    tmpdir_empty(run_dir);
    tmpdir_remove(run_dir);
}

static void turn(void)
{
    struct err e;

    ck_assert_int_eq(loop_run_once(loop, 10, &e), 0);
}

static void turns(unsigned count)
{
    while (count-- > 0)
        turn();
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        unsigned turns_ = 0;                                                                       \
        while (!(condition) && turns_++ < TURNS_MAX)                                               \
            turn();                                                                                \
        ck_assert_msg((condition), "never: %s", #condition);                                       \
    } while (0)

static struct fake_container *container(unsigned number)
{
    return fake_engine_container(fake, fake_manager_task_id(number));
}

static int state(unsigned number)
{
    return (int)fake_manager_state(manager, number);
}

static const char *error(unsigned number)
{
    const Skep__TaskStatus *s = fake_manager_status(manager, number);

    return s == NULL ? "" : s->error;
}

static unsigned requests(const char *method, const char *action)
{
    CLEANUP_FREE char *match = xasprintf("%s /containers/%s%s", method, container(1)->id, action);

    return fake_engine_count(fake, match);
}

/* A task with an address in NET1 and another in NET2, and a host-mode port. */
static void assign_image(unsigned number, const char *image)
{
    static char *addresses[] = { (char *)"10.0.1.5/24" }, *others[] = { (char *)"10.0.2.7/24" };
    struct fake_task_options o = { .service = "web", .number = number, .image = image };
    Skep__TaskAssignment *a = fake_manager_make_task(manager, &o);
    Skep__NetworkAttachment one = SKEP__NETWORK_ATTACHMENT__INIT, two = one;
    Skep__NetworkAttachment *list[] = { &one, &two };
    Skep__EndpointSpec ep = SKEP__ENDPOINT_SPEC__INIT;
    Skep__PortConfig port = SKEP__PORT_CONFIG__INIT, *ports[] = { &port };

    one.network_id = (char *)NET1;
    one.addresses = addresses;
    one.n_addresses = 1;
    two.network_id = (char *)NET2;
    two.addresses = others;
    two.n_addresses = 1;
    a->task->networks = list;
    a->task->n_networks = 2;
    port.target_port = 80;
    port.published_port = 8080;
    port.publish_mode = SKEP__PUBLISH_MODE__PUBLISH_HOST;
    ep.ports = ports;
    ep.n_ports = 1;
    a->spec->endpoint = &ep;
    fake_manager_assign(manager, a);
    free(a);
}

static void assign(unsigned number)
{
    assign_image(number, "box:1");
}

/* ---- the gate's program, as the test plays it ---- */

static int gate_fd, gate_result_fd;
static char gate_heard;

static int open_fifo(unsigned number, const char *name)
{
    CLEANUP_FREE char *path =
        xasprintf("%s/tasks/%s/gate/%s", run_dir, fake_manager_task_id(number), name);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    return fd;
}

static void gate_arrives(unsigned number)
{
    UNTIL(container(number) != NULL && container(number)->running);
    gate_result_fd = open_fifo(number, GATE_RESULT_FIFO);
    gate_fd = open_fifo(number, GATE_FIFO);
    gate_heard = 0;
}

/* The byte that was written, 0: none yet. */
static char gate_word(void)
{
    if (gate_heard == 0 && read(gate_fd, &gate_heard, 1) != 1)
        return 0;
    return gate_heard;
}

/* Both close with the exec or the end. */
static void gate_leaves(void)
{
    (void)close(gate_fd);
    (void)close(gate_result_fd);
}

static void run_through(unsigned number)
{
    gate_arrives(number);
    UNTIL(gate_word() == GATE_GO);
    gate_leaves();
    UNTIL(state(number) == RUNNING);
}

/* ---- attaching ---- */

/* docker_api.md appendix D: start, interfaces, gate, RUNNING; and the name in /etc/hosts. */
START_TEST(interfaces_come_before_the_process)
{
    CLEANUP_BUF struct buf hosts = BUF_INIT(1000);
    CLEANUP_FREE char *line = NULL;
    struct err e;

    assign(1);
    UNTIL(container(1) != NULL);
    container(1)->hosts_path = hosts_path;
    UNTIL(container(1)->running);
    UNTIL(state(1) == STARTING);
    turns(10);
    ck_assert_uint_eq(kernel.attaches, 0); /* nobody waits at the gate yet */
    gate_arrives(1);
    UNTIL(gate_word() == GATE_GO);
    ck_assert_uint_eq(kernel.attaches, 1);
    ck_assert_str_eq(kernel.attached, fake_manager_task_id(1));
    ck_assert_str_eq(kernel.addresses, NET1 "=10.0.1.5/24 " NET2 "=10.0.2.7/24 ");
    turns(10);
    ck_assert_int_eq(state(1), STARTING); /* not before the real process */
    gate_leaves();
    UNTIL(state(1) == RUNNING);
    ck_assert_ptr_nonnull(strstr(container(1)->create_body, "\"Cmd\":[\"serve\"]"));
    ck_assert_ptr_nonnull(strstr(container(1)->create_body, "\"Dns\":[\"10.0.1.1\"]"));
    ck_assert_ptr_nonnull(strstr(container(1)->create_body, "\"NetworkMode\":\"none\""));
    ck_assert_ptr_null(strstr(container(1)->create_body, "PortBindings"));
    line = xasprintf("127.0.0.1\tlocalhost\n10.0.1.5\th%.8s\n", container(1)->id + 56);
    ck_assert_int_eq(buf_read_file(&hosts, hosts_path, &e), 0);
    ck_assert_str_eq(buf_str(&hosts), line);
    ck_assert_uint_eq(fake_manager_status(manager, 1)->n_host_ports, 1);
    ck_assert_uint_eq(fake_manager_status(manager, 1)->host_ports[0]->published_port, 8080);
}
END_TEST

START_TEST(waits_until_its_networks_have_come)
{
    kernel.arrived = false;
    kernel.attach_rc = -ERR_UNAVAILABLE;
    assign(1);
    UNTIL(strcmp(error(1), "its networks have not arrived") == 0);
    ck_assert_uint_eq(fake_engine_existing(fake), 0);
    kernel.arrived = true;
    kernel.net->o.on_change(kernel.net->o.ctx);
    gate_arrives(1);
    UNTIL(strcmp(error(1), "network blue: has not arrived") == 0);
    ck_assert_int_eq(state(1), STARTING);
    kernel.attach_rc = 0;
    kernel.net->o.on_change(kernel.net->o.ctx);
    gate_leaves();
    run_through(1);
    ck_assert_str_eq(error(1), "");
}
END_TEST

/* Fails closed: the process never runs. */
START_TEST(a_network_that_cannot_be_had_fails_the_task)
{
    kernel.attach_rc = -ERR_INVALID;
    assign(1);
    gate_arrives(1);
    UNTIL(state(1) == FAILED && !container(1)->running);
    ck_assert_str_eq(error(1), "network blue: no key");
    ck_assert_int_eq(gate_word(), 0);
    ck_assert_uint_eq(requests("POST", "/kill"), 1);
    gate_leaves();
}
END_TEST

/* What the gate's program says about the real one is the task's error, in the engine's words. */
START_TEST(a_program_that_cannot_be_run_is_named)
{
    static const char text[] = "exec: \"foo\": executable file not found in $PATH";

    assign(1);
    gate_arrives(1);
    UNTIL(gate_word() == GATE_GO);
    ck_assert_int_eq(write(gate_result_fd, text, strlen(text)), (ssize_t)strlen(text));
    fake_engine_exit(fake, container(1), GATE_EXIT_NOT_FOUND);
    gate_leaves();
    UNTIL(state(1) == FAILED);
    ck_assert_str_eq(error(1),
                     "starting container failed: exec: \"foo\": executable file not found "
                     "in $PATH");
    UNTIL(fake_manager_status(manager, 1)->container->exit_code == GATE_EXIT_NOT_FOUND);
}
END_TEST

START_TEST(an_image_without_a_command_is_rejected)
{
    assign_image(1, "boxempty:1");
    UNTIL(state(1) == REJECTED);
    ck_assert_str_eq(error(1), "no command specified");
}
END_TEST

/* Revoked while it waits: killed there, not asked to stop, and never let through. */
START_TEST(a_revoked_task_never_runs)
{
    kernel.attach_rc = -ERR_UNAVAILABLE;
    assign(1);
    gate_arrives(1);
    UNTIL(error(1)[0] != '\0');
    fake_manager_desire(manager, 1, (Skep__TaskState)SHUTDOWN);
    kernel.attach_rc = 0;
    UNTIL(state(1) == SHUTDOWN);
    ck_assert_int_eq(gate_word(), 0);
    ck_assert_uint_eq(requests("POST", "/kill"), 1);
    ck_assert_uint_eq(requests("POST", "/stop"), 0);
    gate_leaves();
}
END_TEST

/* The program does not get to its gate: the attempt is dropped as soon as the task is revoked. */
START_TEST(revoking_does_not_wait_for_the_gate)
{
    assign(1);
    UNTIL(container(1) != NULL && container(1)->running);
    turns(5);
    fake_manager_desire(manager, 1, (Skep__TaskState)SHUTDOWN);
    UNTIL(state(1) == SHUTDOWN);
    ck_assert_uint_eq(kernel.attaches, 0);
    ck_assert_uint_eq(requests("POST", "/kill"), 1);
}
END_TEST

START_TEST(a_running_task_is_stopped_gracefully_and_detached)
{
    CLEANUP_FREE char *dir = xasprintf("%s/tasks/%s", run_dir, fake_manager_task_id(1));
    struct stat st;

    assign(1);
    run_through(1);
    ck_assert_uint_eq(kernel.detaches, 0);
    fake_manager_desire(manager, 1, (Skep__TaskState)SHUTDOWN);
    UNTIL(state(1) == SHUTDOWN);
    ck_assert_uint_eq(requests("POST", "/stop"), 1);
    ck_assert_str_eq(kernel.detached, fake_manager_task_id(1));
    ck_assert_int_eq(stat(dir, &st), 0);
    fake_manager_remove(manager, 1);
    UNTIL(fake_engine_existing(fake) == 0);
    turns(3);
    ck_assert_int_lt(stat(dir, &st), 0);
}
END_TEST

/* Revoked when the word was given and the real process is not there yet: it may have begun, so it
 * is asked to stop and not killed. */
START_TEST(revoked_behind_the_gate_is_stopped_gracefully)
{
    assign(1);
    gate_arrives(1);
    UNTIL(gate_word() == GATE_GO);
    fake_manager_desire(manager, 1, (Skep__TaskState)SHUTDOWN);
    turns(10);
    ck_assert(container(1)->running);
    gate_leaves();
    UNTIL(state(1) == SHUTDOWN);
    ck_assert_uint_eq(requests("POST", "/stop"), 1);
    ck_assert_uint_eq(requests("POST", "/kill"), 0);
}
END_TEST

/* ---- after a restart of the agent ---- */

START_TEST(adopted_at_the_gate_and_let_through)
{
    kernel.attach_rc = -ERR_UNAVAILABLE;
    assign(1);
    gate_arrives(1);
    UNTIL(error(1)[0] != '\0');
    agent_crash();
    kernel.attach_rc = 0;
    agent_start();
    UNTIL(gate_word() == GATE_GO);
    ck_assert_int_eq(state(1), STARTING);
    gate_leaves();
    UNTIL(state(1) == RUNNING);
    ck_assert_uint_eq(container(1)->starts, 1);
}
END_TEST

/* The word was given and heard, and the agent died before it could say so. */
START_TEST(adopted_behind_the_gate)
{
    assign(1);
    gate_arrives(1);
    UNTIL(gate_word() == GATE_GO);
    agent_crash();
    gate_leaves();
    agent_start();
    UNTIL(state(1) == RUNNING);
    ck_assert_uint_eq(kernel.attaches, 2); /* agentd/net begins anew and is told */
    ck_assert_str_eq(kernel.kept, fake_manager_task_id(1));
    ck_assert_uint_eq(container(1)->starts, 1);
}
END_TEST

/* The note that it is being opened is on disk, the word was never given. */
START_TEST(adopted_between_note_and_word)
{
    CLEANUP_FREE char *note = NULL;
    int fd;

    kernel.attach_rc = -ERR_UNAVAILABLE;
    assign(1);
    gate_arrives(1);
    UNTIL(error(1)[0] != '\0');
    agent_crash();
    note = xasprintf("%s/tasks/%s/gate-open", run_dir, fake_manager_task_id(1));
    fd = open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);
    (void)close(fd);
    kernel.attach_rc = 0;
    agent_start();
    UNTIL(gate_word() == GATE_GO);
    gate_leaves();
    UNTIL(state(1) == RUNNING);
}
END_TEST

START_TEST(adopted_while_running_is_left_alone)
{
    assign(1);
    run_through(1);
    agent_crash();
    kernel.attach_rc = -ERR_INVALID; /* it would fail the task */
    agent_start();
    UNTIL(kernel.attaches == 2); /* it is told, and refuses */
    turns(20);
    ck_assert_int_eq(state(1), RUNNING);
    ck_assert(container(1)->running);
    agent_crash();
    kernel.attach_rc = -ERR_UNAVAILABLE;
    agent_start();
    UNTIL(kernel.attaches == 3);
    kernel.attach_rc = 0; /* the tables come */
    kernel.net->o.on_change(kernel.net->o.ctx);
    UNTIL(kernel.attaches == 4);
    kernel.net->o.on_change(kernel.net->o.ctx);
    turns(20);
    ck_assert_uint_eq(kernel.attaches, 4);
    ck_assert_int_eq(state(1), RUNNING);
}
END_TEST

/* ---- the session ---- */

/* Asking again with the token is the acknowledgement: only after the kernel has it. */
START_TEST(answers_are_applied_and_acknowledged)
{
    Skep__NetworksResponse r = SKEP__NETWORKS_RESPONSE__INIT;

    UNTIL(fake_manager_stats(manager).sessions == 1);
    ck_assert_str_eq(kernel.identity, fake_manager_node_id(manager));
    turns(10);
    r.complete = true;
    fake_manager_down(manager);
    fake_manager_networks(manager, &r); /* knows the call from now on */
    fake_manager_up(manager);
    UNTIL(kernel.applies == 1 && fake_manager_networks_since(manager) == 1);
    r.complete = false;
    r.check = 5;
    fake_manager_networks(manager, &r);
    UNTIL(fake_manager_check_report(manager) != NULL);
    UNTIL(kernel.applies == 2 && fake_manager_networks_since(manager) == 2);
    ck_assert_uint_eq(fake_manager_check_report(manager)->check, 5);
    ck_assert_uint_eq(fake_manager_check_report(manager)->n_differences, 1);
    ck_assert_str_eq(fake_manager_check_report(manager)->differences[0]->what, "route");
    fake_manager_networks(manager, &r); /* the same check in a later answer is no new one */
    UNTIL(fake_manager_networks_since(manager) == 3);
    ck_assert_uint_eq(kernel.checks, 1);
    kernel.expects = 0;
    fake_manager_down(manager);
    fake_manager_up(manager);
    UNTIL(kernel.expects == 1 && fake_manager_networks_since(manager) == 0);
}
END_TEST

/* Managers that do not know the call: everything else goes on. */
START_TEST(older_managers_have_no_networks)
{
    struct fake_task_options o = { .service = "web", .number = 1, .image = "box:1" };
    Skep__TaskAssignment *a = fake_manager_make_task(manager, &o);

    fake_manager_assign(manager, a);
    free(a);
    UNTIL(state(1) == RUNNING);
    ck_assert_uint_eq(fake_manager_stats(manager).sessions, 1);
    ck_assert_uint_eq(kernel.applies, 0);
}
END_TEST

START_TEST(the_node_says_what_it_can)
{
    const Skep__NodeDescription *d;

    UNTIL((d = fake_manager_description(manager)) != NULL && d->network != NULL &&
          d->engine != NULL && d->degraded[0] == '\0');
    ck_assert_str_eq(d->network->balancer, "nftables");
    ck_assert_uint_eq(d->network->mtu, 1500);
    kernel.error = "cannot program nft";
    kernel.net->o.on_change(kernel.net->o.ctx);
    UNTIL(strcmp(fake_manager_description(manager)->degraded, "networks: cannot program nft") == 0);
    ck_assert_str_eq(fake_manager_description(manager)->network->error, "cannot program nft");
    kernel.error = "";
    kernel.net->o.on_change(kernel.net->o.ctx);
    UNTIL(fake_manager_description(manager)->degraded[0] == '\0');
    ck_assert_str_eq(fake_manager_description(manager)->network->error, "");
}
END_TEST

START_TEST(a_host_without_overlays_says_why)
{
    const Skep__NodeDescription *d;

    agent_crash();
    kernel.impossible = true;
    agent_start();
    UNTIL((d = fake_manager_description(manager)) != NULL && d->network != NULL);
    ck_assert_str_eq(d->network->error, "no VXLAN in this kernel");
    assign(1);
    UNTIL(state(1) == REJECTED);
    ck_assert_str_eq(error(1), "this node has no overlay networks: no VXLAN in this kernel");
}
END_TEST

START_TEST(leaving_clears_the_kernel)
{
    struct err e;

    assign(1);
    run_through(1);
    ck_assert_int_eq(identity_remove(state_dir, &e), 0);
    UNTIL(kernel.clears == 1);
    ck_assert_uint_eq(fake_engine_existing(fake), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent networks");
    TCase *tc = tcase_create("networks");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, interfaces_come_before_the_process);
    tcase_add_test(tc, waits_until_its_networks_have_come);
    tcase_add_test(tc, a_network_that_cannot_be_had_fails_the_task);
    tcase_add_test(tc, a_program_that_cannot_be_run_is_named);
    tcase_add_test(tc, an_image_without_a_command_is_rejected);
    tcase_add_test(tc, a_revoked_task_never_runs);
    tcase_add_test(tc, revoking_does_not_wait_for_the_gate);
    tcase_add_test(tc, revoked_behind_the_gate_is_stopped_gracefully);
    tcase_add_test(tc, a_running_task_is_stopped_gracefully_and_detached);
    tcase_add_test(tc, adopted_at_the_gate_and_let_through);
    tcase_add_test(tc, adopted_behind_the_gate);
    tcase_add_test(tc, adopted_between_note_and_word);
    tcase_add_test(tc, adopted_while_running_is_left_alone);
    tcase_add_test(tc, answers_are_applied_and_acknowledged);
    tcase_add_test(tc, older_managers_have_no_networks);
    tcase_add_test(tc, the_node_says_what_it_can);
    tcase_add_test(tc, a_host_without_overlays_says_why);
    tcase_add_test(tc, leaving_clears_the_kernel);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* How fast one node starts replicas of a small image, beside the raw engine driven four at a time
 * in the same run: goal >= 90 % of its rate. Once without networks, once on an overlay network, so
 * through the entrypoint gate. And the agent's resident memory, idle and with the replicas running:
 * goal <= 8 MiB idle. Uses the engine at $SKEP_BENCH_DOCKER (a socket path), or starts a private
 * one; the agent has a network namespace of its own. */
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/docker/container.h"
#include "common/arena.h"
#include "common/assert.h"
#include "common/clock.h"
#include "test/lib/fake_manager.h"

enum { REPLICAS = 30, AT_ONCE = 4, ROUNDS = 3, IDLE_MS = 23 * 1000, LIMIT_MS = 60 * 1000 };

#define HOST_ADDRESS "10.77.250.1"
#define ENGINE_SCRIPT "test/bench/engine.sh" /* run from the top of the tree */

extern char **environ;

static struct loop *loop;
static struct engine *engine;
static struct fake_manager *manager;
static char dir[] = "/tmp/skep-bench-XXXXXX";
static char engine_dir[64], socket_path[128], agentd[512];

static void run_until(bool (*done)(void))
{
    uint64_t end_ms = clock_now_ms() + LIMIT_MS;
    struct err e;

    while (!done()) {
        ASSERT(loop_run_once(loop, 50, &e) == 0);
        ASSERT(clock_now_ms() < end_ms);
    }
}

static bool run_command(const char *program, const char *a, const char *b)
{
    const char *const argv[] = { program, a, b, NULL };
    pid_t pid;
    int status = 0;

    if (posix_spawnp(&pid, program, NULL, NULL, (char *const *)argv, environ) != 0)
        return false;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- the raw engine ---- */

static struct {
    unsigned started, finished, removed;
    char ids[REPLICAS][CONTAINER_ID_CHARS + 1];
} raw;

static void raw_next(void);

static void raw_started(void *ctx, const struct engine_response *r)
{
    (void)ctx;
    ASSERT(r->rc == 0 && r->status == 204);
    raw.finished++;
    raw_next();
}

static void raw_created(void *ctx, const struct engine_response *r)
{
    char *id = ctx;
    struct err e;

    ASSERT(r->rc == 0 && r->status == 201);
    ASSERT(container_parse_created(r, id, &e) == 0);
    ASSERT(container_start(engine, id, (struct docker_reply){ raw_started, id }, &e) != NULL);
}

static void raw_next(void)
{
    char name[32];
    struct err e;

    if (raw.started == REPLICAS)
        return;
    (void)snprintf(name, sizeof(name), "raw-%u", raw.started);
    ASSERT(container_create(engine, name,
                            "{\"Image\":\"box:1\",\"Entrypoint\":[\"sleep\",\"1000\"],"
                            "\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"no\"}}}",
                            (struct docker_reply){ raw_created, raw.ids[raw.started] },
                            &e) != NULL);
    raw.started++;
}

static bool raw_is_done(void)
{
    return raw.finished == REPLICAS;
}

static void raw_removed(void *ctx, const struct engine_response *r)
{
    (void)ctx;
    ASSERT(r->rc == 0 && r->status == 204);
    raw.removed++;
}

static bool raw_is_removed(void)
{
    return raw.removed == REPLICAS;
}

static double measure_raw(void)
{
    uint64_t from_ns = clock_now_ns(), to_ns;
    struct err e;

    memset(&raw, 0, sizeof(raw));
    for (unsigned i = 0; i < AT_ONCE; i++)
        raw_next();
    run_until(raw_is_done);
    to_ns = clock_now_ns();
    for (unsigned i = 0; i < REPLICAS; i++)
        ASSERT(container_remove(engine, raw.ids[i], (struct docker_reply){ raw_removed, NULL },
                                &e) != NULL);
    run_until(raw_is_removed);
    return REPLICAS * 1e9 / (double)(to_ns - from_ns);
}

/* ---- the agent ---- */

static unsigned first_number = 1;

static bool agent_is_there(void)
{
    const Skep__NodeDescription *d = fake_manager_description(manager);

    return d != NULL && d->engine != NULL && d->degraded[0] == '\0';
}

static bool agent_is_done(void)
{
    return fake_manager_count(manager, SKEP__TASK_STATE__TASK_RUNNING) == REPLICAS;
}

static size_t containers_left;

static void counted(void *ctx, const struct engine_response *r)
{
    struct container_entry *list;
    struct err e;

    (void)ctx;
    ASSERT(r->rc == 0 && container_parse_list(r, &list, &containers_left, &e) == 0);
    free(list);
}

/* Asks the engine twice a second. */
static bool agent_is_removed(void)
{
    static uint64_t asked_ms;
    struct err e;

    if (containers_left > 0 && clock_now_ms() >= asked_ms + 500) {
        asked_ms = clock_now_ms();
        ASSERT(container_list(engine, fake_manager_cluster_id(manager),
                              fake_manager_node_id(manager), (struct docker_reply){ counted, NULL },
                              &e) != NULL);
    }
    return containers_left == 0;
}

/* ---- a network that all tasks are on ---- */

#define NETWORK_ID "benchaaaaaaaaaaaaaaaaaaaa"
#define SERVICE_ID "benchbbbbbbbbbbbbbbbbbbbb"

static Skep__NetworkAttachment *attachment(struct arena *a, unsigned number)
{
    Skep__NetworkAttachment *at = ARENA_NEW(a, Skep__NetworkAttachment);

    skep__network_attachment__init(at);
    at->network_id = (char *)NETWORK_ID;
    at->addresses = arena_array(a, 1, sizeof(at->addresses[0]));
    at->addresses[0] = arena_printf(a, "10.99.%u.%u/16", 1 + number / 200, 1 + number % 200);
    at->n_addresses = 1;
    return at;
}

static Skep__NetworkRecord *record(struct arena *a, Skep__NetworkRecord__RecordCase kind, void *of)
{
    Skep__NetworkRecord *r = ARENA_NEW(a, Skep__NetworkRecord);

    skep__network_record__init(r);
    r->record_case = kind;
    r->endpoint = of; /* a union of pointers */
    return r;
}

static Skep__NetworkRecord *endpoint(struct arena *a, unsigned number)
{
    Skep__NetworkEndpoint *e = ARENA_NEW(a, Skep__NetworkEndpoint);

    skep__network_endpoint__init(e);
    e->task_id = arena_strdup(a, fake_manager_task_id(number));
    e->name = arena_printf(a, "bench.%u", number);
    e->service_id = (char *)SERVICE_ID;
    e->node_id = (char *)fake_manager_node_id(manager);
    e->networks = arena_array(a, 1, sizeof(e->networks[0]));
    e->networks[0] = attachment(a, number);
    e->n_networks = 1;
    return record(a, SKEP__NETWORK_RECORD__RECORD_ENDPOINT, e);
}

/* The network, this node, and the tasks to come. */
static void tell_network(void)
{
    Skep__NetworksResponse r = SKEP__NETWORKS_RESPONSE__INIT;
    Skep__NetworkHead head = SKEP__NETWORK_HEAD__INIT;
    Skep__NetworkPeer peer = SKEP__NETWORK_PEER__INIT;
    Skep__IpamConfig ipam = SKEP__IPAM_CONFIG__INIT, *ipams[] = { &ipam };
    struct arena a = { 0 };

    head.id = (char *)NETWORK_ID;
    head.name = (char *)"bench";
    head.vni = 4097;
    head.mtu = 1450;
    head.data_path_port = 4789;
    ipam.subnet = (char *)"10.99.0.0/16";
    head.ipam = ipams;
    head.n_ipam = 1;
    peer.node_id = (char *)fake_manager_node_id(manager);
    peer.hostname = (char *)"bench";
    peer.address = (char *)HOST_ADDRESS;
    r.complete = true;
    r.records = arena_array(&a, REPLICAS + 2, sizeof(r.records[0]));
    r.records[r.n_records++] = record(&a, SKEP__NETWORK_RECORD__RECORD_NETWORK, &head);
    r.records[r.n_records++] = record(&a, SKEP__NETWORK_RECORD__RECORD_PEER, &peer);
    for (unsigned i = 0; i < REPLICAS; i++)
        r.records[r.n_records++] = endpoint(&a, first_number + i);
    fake_manager_networks(manager, &r);
    arena_deinit(&a);
}

static double measure_agent(bool network)
{
    static const char *const command[] = { "sleep", "1000", NULL };
    uint64_t from_ns = clock_now_ns(), to_ns;
    struct fake_task_options o = { .service = "bench", .image = "box:1", .command = command };
    struct arena arena = { 0 };

    if (network)
        tell_network();
    for (unsigned i = 0; i < REPLICAS; i++) {
        Skep__TaskAssignment *a;

        o.number = first_number + i;
        a = fake_manager_make_task(manager, &o);
        if (network) {
            a->task->networks = arena_array(&arena, 1, sizeof(a->task->networks[0]));
            a->task->networks[0] = attachment(&arena, o.number);
            a->task->n_networks = 1;
        }
        fake_manager_assign(manager, a);
        free(a);
    }
    arena_deinit(&arena);
    run_until(agent_is_done);
    to_ns = clock_now_ns();
    return REPLICAS * 1e9 / (double)(to_ns - from_ns);
}

static void clear_agent(void)
{
    for (unsigned i = 0; i < REPLICAS; i++)
        fake_manager_remove(manager, first_number + i);
    first_number += REPLICAS;
    containers_left = REPLICAS;
    run_until(agent_is_removed);
}

static long rss_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    ASSERT(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL)
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = strtol(line + 6, NULL, 10);
    (void)fclose(f);
    return kb;
}

static pid_t spawn_agent(const char *state_dir, const char *run_dir)
{
    char docker[160];
    const char *const args[] = { agentd,  "--state-dir", state_dir, "--run-dir",
                                 run_dir, "--docker",    docker,    "--log-level",
                                 "warn",  "--pull",      "missing", NULL };
    pid_t pid;

    (void)snprintf(docker, sizeof(docker), "unix://%s", socket_path);
    ASSERT(posix_spawn(&pid, agentd, NULL, NULL, (char *const *)args, environ) == 0);
    return pid;
}

static uint64_t idle_until_ms;

static bool idle_is_over(void)
{
    return clock_now_ms() >= idle_until_ms;
}

static void engine_connect(void)
{
    struct err e;

    engine = engine_new(loop, socket_path, &e);
    ASSERT(engine != NULL);
}

static void pinged(void *ctx, const struct engine_response *r)
{
    ASSERT(r->rc == 0 && r->status == 200);
    *(bool *)ctx = true;
}

static bool is_pinged;
static bool ping_is_done(void)
{
    return is_pinged;
}

static void measure(void)
{
    char *state_dir = xasprintf("%s/state", dir),
         *run_dir = xasprintf("/dev/shm/%s", strrchr(dir, '/') + 1),
         *pins = xasprintf("%s/netns", run_dir);
    double best_raw = 0, best_agent = 0, best_network = 0;
    struct err e;
    pid_t pid;
    long idle_kb, busy_kb;
    int status;

    ASSERT(engine_ping(engine, 5000, pinged, &is_pinged, &e) == 0);
    run_until(ping_is_done);
    fake_manager_enrol(manager, state_dir);
    tell_network(); /* a manager that has networks, from the first session on */
    pid = spawn_agent(state_dir, run_dir);
    run_until(agent_is_there);
    idle_until_ms = clock_now_ms() + IDLE_MS;
    run_until(idle_is_over);
    idle_kb = rss_kb(pid);
    for (unsigned i = 0; i < ROUNDS; i++) {
        double raw_rate = measure_raw(), agent_rate = measure_agent(false), network_rate;

        clear_agent();
        network_rate = measure_agent(true);
        busy_kb = rss_kb(pid);
        clear_agent();
        printf("round %u: raw engine %.2f/s, agent %.2f/s (%.0f %%), with a network %.2f/s\n",
               i + 1, raw_rate, agent_rate, 100 * agent_rate / raw_rate, network_rate);
        best_raw = MAX(best_raw, raw_rate);
        best_agent = MAX(best_agent, agent_rate);
        best_network = MAX(best_network, network_rate);
    }
    printf("%d replicas: agent %.2f/s of the engine's %.2f/s = %.0f %% (goal 90 %%)\n", REPLICAS,
           best_agent, best_raw, 100 * best_agent / best_raw);
    printf("%d replicas on an overlay network: %.2f/s = %.0f %% (goal 90 %%)\n", REPLICAS,
           best_network, 100 * best_network / best_raw);
    printf("agent resident: idle %ld KiB (goal 8192), with %d tasks %ld KiB\n", idle_kb, REPLICAS,
           busy_kb);
    (void)kill(pid, SIGTERM);
    ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)run_command("umount", "-R", pins); /* network namespaces that the agent left */
    (void)run_command("rm", "-rf", run_dir);
    free(pins);
    free(state_dir);
    free(run_dir);
}

/* The agent programs the network of the namespace that it is in: not the machine's. */
static void isolate(void)
{
    ASSERT(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0);
    ASSERT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    ASSERT(run_command("sh", "-c",
                       "ip link set lo up && ip link add host0 type veth peer name host1 && ip "
                       "link set host1 up && "
                       "ip addr add " HOST_ADDRESS "/24 dev host0 && ip link set host0 up"));
}

int main(int argc, char **argv)
{
    const char *given = getenv("SKEP_BENCH_DOCKER");
    struct rpc *rpc;
    struct err e;
    const char *slash;

    (void)argc;
    isolate();
    ASSERT(mkdtemp(dir) != NULL);
    slash = strrchr(argv[0], '/');
    ASSERT(slash != NULL);
    (void)snprintf(agentd, sizeof(agentd), "%.*s/../agentd", (int)(slash - argv[0]), argv[0]);
    (void)snprintf(engine_dir, sizeof(engine_dir), "%s/engine", dir);
    if (given != NULL)
        (void)snprintf(socket_path, sizeof(socket_path), "%s", given);
    else
        (void)snprintf(socket_path, sizeof(socket_path), "%s/docker.sock", engine_dir);
    if (given == NULL && !run_command(ENGINE_SCRIPT, "up", engine_dir)) {
        printf("no engine: dockerd does not start here (see %s/log)\n", engine_dir);
        return EXIT_FAILURE;
    }
    loop = loop_new(&e);
    rpc = rpc_new(loop, &e);
    manager = fake_manager_new(loop, rpc);
    engine_connect();
    measure();
    engine_free(engine);
    fake_manager_free(manager);
    rpc_free(rpc);
    loop_free(loop);
    if (given == NULL)
        (void)run_command(ENGINE_SCRIPT, "down", engine_dir);
    (void)run_command("rm", "-rf", dir);
    return EXIT_SUCCESS;
}

/* Start, stop and housekeeping of the manager process. */
#include "managerd/manager.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/random.h"
#include "managerd/logs/broker.h"

enum { TICK_MS = 50 };

uint64_t manager_last_contact_ms(const struct manager *m, uint64_t raft_id)
{
    for (size_t i = 0; i < ARRAY_LEN(m->contacts); i++) {
        if (m->contacts[i].raft_id == raft_id)
            return m->contacts[i].ms;
    }
    return 0;
}

void manager_note_contact(struct manager *m, uint64_t raft_id)
{
    size_t oldest = 0;

    for (size_t i = 0; i < ARRAY_LEN(m->contacts); i++) {
        if (m->contacts[i].raft_id == raft_id) {
            m->contacts[i].ms = loop_now_ms(m->loop);
            return;
        }
        if (m->contacts[i].ms < m->contacts[oldest].ms)
            oldest = i;
    }
    m->contacts[oldest].raft_id = raft_id;
    m->contacts[oldest].ms = loop_now_ms(m->loop);
}

void manager_fatal(struct manager *m, const struct err *e)
{
    log_error("manager.fatal", "error=\"%s\" next=\"the process ends and is started again\"",
              e->message);
    m->fatal_rc = e->code != 0 ? -e->code : -ERR_INTERNAL;
    loop_stop(m->loop);
}

/* Everything that a loop iteration left to do, in an order in which later steps see the earlier. */
static void before_sleep(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;

    (void)now_ms; /* each part reads the loop's time */
    leader_run(m);
    if (m->leading)
        agent_calls_run(m);
    log_calls_run(m);
    control_watches_run(m);
}

/* A leader that is told to stop hands over first: its followers need no election timeout. */
void manager_shutdown(struct manager *m)
{
    if (!m->leading || m->stop_by_ms != 0 ||
        raft_config_voter_count(raft_node_config(m->raft)) < 2 ||
        raft_node_transfer(m->raft, RAFT_NONE) < 0) {
        loop_stop(m->loop);
        return;
    }
    m->stop_by_ms = loop_now_ms(m->loop) + m->options.election_ms;
    log_info("manager.shutdown", "next=\"handing leadership over\"");
}

static void on_tick(void *ctx, uint64_t now_ms)
{
    struct manager *m = ctx;

    if (m->stop_by_ms != 0 && (!m->leading || now_ms >= m->stop_by_ms))
        loop_stop(m->loop);
    loop_timer_set(m->loop, &m->tick_timer, now_ms + TICK_MS, on_tick, m);
}

static int make_directories(struct manager *m, struct err *e)
{
    const char *paths[] = { m->state_dir, m->run_dir };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (mkdir(paths[i], 0700) < 0 && errno != EEXIST)
            return err_errno(e, errno, "create %s", paths[i]);
    }
    return 0;
}

static int listen_local(struct manager *m, struct err *e)
{
    CLEANUP_FREE char *path = xasprintf("%s/control.sock", m->run_dir);
    CLEANUP_FREE char *url = xasprintf("ipc://%s", path);
    struct rpc_listen_options o = {
        .url = url, .slot_count = 256, .handler = calls_on_request, .ctx = m
    };

    (void)unlink(path); /* left behind by a kill -9; raft_dir's lock tells two managers apart */
    m->local = rpc_listen(m->rpc, &o, e);
    if (m->local == NULL)
        return -ERR_UNAVAILABLE;
    if (chmod(path, 0600) < 0)
        return err_errno(e, errno, "chmod %s", path);
    return 0;
}

static int start(struct manager *m, struct err *e)
{
    int rc = make_directories(m, e);

    if (rc < 0)
        return rc;
    m->inbox = inbox_new(m->loop, MANAGER_INBOX_RECORDS, e);
    if (m->inbox == NULL)
        return -ERR_IO;
    m->worker = worker_new("worker", m->inbox, MANAGER_JOBS_MAX, e);
    if (m->worker == NULL)
        return -ERR_IO;
    m->rpc = rpc_new(m->loop, e);
    if (m->rpc == NULL)
        return -ERR_IO;
    rc = listen_local(m, e);
    if (rc < 0)
        return rc;
    rc = host_start(m, e);
    if (rc < 0)
        return rc;
    loop_set_before_sleep(m->loop, before_sleep, m);
    on_tick(m, loop_now_ms(m->loop));
    members_init(m);
    return 0;
}

struct manager *manager_new(const struct manager_options *o, struct loop *l, struct err *e)
{
    struct manager *m = xcalloc(1, sizeof(*m));

    m->options = *o;
    m->loop = l;
    m->state_dir = xstrdup(o->state_dir);
    m->run_dir = xstrdup(o->run_dir);
    m->raft_dir = xasprintf("%s/raft", o->state_dir);
    (void)snprintf(m->listen, sizeof(m->listen), "%s", o->listen);
    (void)snprintf(m->advertise, sizeof(m->advertise), "%s", o->advertise);
    prng_init(&m->prng, random_u64());
    m->store = store_new();
    m->logs = log_broker_new();
    m->ca = ca_policy_new();
    leader_init(m);
    if (start(m, e) < 0) {
        manager_free(m);
        return NULL;
    }
    return m;
}

void manager_free(struct manager *m)
{
    if (m == NULL)
        return;
    loop_set_before_sleep(m->loop, NULL, NULL);
    loop_timer_cancel(m->loop, &m->tick_timer);
    loop_timer_cancel(m->loop, &m->members_timer);
    swarm_free(m);
    host_stop(m);
    control_watches_drop(m);
    rpc_server_free(m->local);
    peers_free(m);
    leader_deinit(m);
    worker_free(m->worker);
    rpc_free(m->rpc);
    inbox_free(m->inbox);
    log_broker_free(m->logs);
    ca_policy_free(m->ca);
    store_loader_free(m->loader);
    store_free(m->store);
    free(m->state_dir);
    free(m->run_dir);
    free(m->raft_dir);
    free(m);
}

/* The agent's side of this host's networks: hands what the managers say to agentd/net, tells the
 * managers what this host can do, wakes tasks that wait. Without agentd/net (not permitted, no
 * kernel support, switched off) the agent runs on and says why. */
#include "agentd/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/worker/networks.h"
#include "agentd/worker/plain.h"
#include "common/arena.h"
#include "common/log.h"
#include "common/message.h"

enum { CHECK_REPORT_MS_MAX = 10 * 1000, CHECK_DIFFERENCES_MAX = 256 };

/* ---- what this host can do ---- */

static void describe(struct agent *ag)
{
    struct networks *n = &ag->networks;
    Skep__NodeNetwork now = SKEP__NODE_NETWORK__INIT;
    char text[sizeof(ag->watch.fault[0])];

    if (ag->o.no_overlays)
        return; /* as the operator wants it: nothing to tell, nothing wrong */
    if (n->net != NULL)
        net_describe(n->net, &now);
    else
        now.error = n->why;
    if (n->description == NULL || !message_equal(&now.base, &n->description->base)) {
        Skep__NodeNetwork *before = n->description;

        n->description = (Skep__NodeNetwork *)message_clone(&now.base);
        watch_set_network(ag, n->description);
        free(before);
        log_info("node.network", "address=%s mtu=%u balancer=%s encryption=%s error=\"%s\"",
                 now.data_path_address, now.mtu, now.balancer, now.encryption, now.error);
    }
    plain_format(text, sizeof(text), "%s%s", now.error[0] == '\0' ? "" : "networks: ", now.error);
    watch_set_fault(ag, FAULT_NETWORK, text);
}

/* ---- changes ---- */

static bool wants_holding(const struct roster_entry *en)
{
    return !en->held && en->assignment != NULL && en->task.networks && en->task.attached &&
           en->task.op == TASK_OP_NONE && en->task.container.phase == CONTAINER_RUNNING;
}

static void changed_fired(void *ctx, uint64_t now_ms)
{
    struct agent *ag = ctx;

    (void)now_ms;
    describe(ag);
    agent_feed_all(ag, TASK_EV_NETWORKS);
    for (size_t i = ag->roster.count; i-- > 0;) /* as agent_feed_all() goes through them */
        if (i < ag->roster.count && wants_holding(ag->roster.entries[i]))
            agent_feed_type(ag, ag->roster.entries[i], TASK_EV_HINT); /* its pid may be old */
}

/* From inside any call to agentd/net, so not acted upon here. */
static void on_change(void *ctx)
{
    struct agent *ag = ctx;

    loop_timer_set(ag->loop, &ag->networks.changed_timer, loop_now_ms(ag->loop), changed_fired, ag);
}

/* ---- what the managers say ---- */

static void check_reported(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    (void)ctx;
    (void)response;
    if (rc < 0)
        log_debug("network.check", "error=\"%s\"", err_message(e, rc));
}

static void check(struct agent *ag, uint64_t number)
{
    Skep__NetworkCheckReport m = SKEP__NETWORK_CHECK_REPORT__INIT;
    const Skep__NetworkDifference **differences =
        xcalloc(CHECK_DIFFERENCES_MAX, sizeof(*differences));
    struct rpc_request r = { .method = SKEP__METHOD__METHOD_NETWORK_CHECK_REPORT,
                             .body = &m.base,
                             .deadline_ms = CHECK_REPORT_MS_MAX };
    struct err e = { 0 };
    size_t count = net_check(ag->networks.net, differences, CHECK_DIFFERENCES_MAX);

    m.session_id = ag->link.session.id;
    m.check = number;
    m.n_differences = MIN(count, (size_t)CHECK_DIFFERENCES_MAX);
    m.differences = (Skep__NetworkDifference **)differences;
    log_info("network.check", "number=%llu differences=%zu", (unsigned long long)number, count);
    if (link_call(ag, &r, check_reported, ag, &e) < 0)
        log_debug("network.check", "error=\"%s\"", e.message);
    free(differences);
}

void networks_apply(struct agent *ag, const Skep__NetworksResponse *resp)
{
    struct networks *n = &ag->networks;

    log_debug("networks", "complete=%d records=%zu removed=%zu check=%llu", resp->complete,
              resp->n_records, resp->n_removed, (unsigned long long)resp->check);
    net_apply(n->net, resp);
    if (resp->check == 0 || resp->check == n->checked)
        return;
    n->checked = resp->check;
    check(ag, resp->check);
}

void networks_expect_complete(struct agent *ag)
{
    ag->networks.checked = 0;
    if (ag->networks.net != NULL)
        net_expect_complete(ag->networks.net);
}

/* ---- the identity ---- */

void networks_take_up(struct agent *ag)
{
    ag->networks.adopted = false;
    if (ag->networks.net != NULL)
        net_set_identity(ag->networks.net, ag->node_id.s);
    describe(ag);
}

void networks_leave(struct agent *ag)
{
    if (ag->networks.net != NULL)
        net_clear(ag->networks.net);
    engine_networks_sweep(ag);
}

void networks_adopt(struct agent *ag, bool (*has)(void *ctx, const char *task_id), void *ctx)
{
    struct networks *n = &ag->networks;

    if (n->adopted)
        return;
    n->adopted = true;
    if (n->net != NULL)
        net_keep_only(n->net, has, ctx);
    engine_networks_sweep(ag);
}

/* ---- tasks ---- */

static struct net_task task_of(const struct roster_entry *en, struct arena *a)
{
    struct net_task t = { .task_id = en->id };
    Skep__NetworkAttachment **list;

    t.network_count = networks_overlays(en->assignment, a, &list);
    t.networks = list;
    const Skep__ServiceSpec *spec = en->assignment->spec;
    if (spec != NULL && spec->task != NULL && spec->task->container != NULL) {
        const Skep__ContainerSpec *c = spec->task->container;

        t.nameservers = c->dns_nameservers;
        t.nameserver_count = c->n_dns_nameservers;
    }
    return t;
}

/* A container of the engine's network mode "host", or a pid that is another's: never touch that. */
static bool is_host_namespace(int32_t pid)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/ns/net", (int)pid);
    struct stat theirs, ours;

    return stat(path, &theirs) == 0 && stat("/proc/self/ns/net", &ours) == 0 &&
           theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

int networks_attach(struct agent *ag, struct roster_entry *en, int32_t pid, struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct net_task t = task_of(en, &a);
    int rc;

    if (ag->networks.net == NULL)
        return err_set(e, ERR_UNSUPPORTED, "this node has no overlay networks: %s",
                       ag->networks.why);
    if (is_host_namespace(pid))
        return err_set(e, ERR_INVALID, "its process %d is in the host's own network", (int)pid);
    rc = net_attach(ag->networks.net, &t, pid, e);
    en->held = rc == 0;
    return rc;
}

void networks_hold(struct agent *ag, struct roster_entry *en)
{
    struct err e = { 0 };
    int rc;

    if (ag->networks.net == NULL || !wants_holding(en))
        return;
    rc = networks_attach(ag, en, en->task.container.pid, &e);
    if (rc < 0 && rc != -ERR_UNAVAILABLE) /* it runs: no reason to take it down */
        log_warn("task.networks", "task=%s error=\"%s\" next=leave_running", en->id,
                 err_message(&e, rc));
}

void networks_detach(struct agent *ag, struct roster_entry *en)
{
    en->held = false;
    if (ag->networks.net != NULL)
        net_detach(ag->networks.net, en->id);
}

int networks_of_task(struct agent *ag, const struct roster_entry *en,
                     char ret_nameservers[NET_NAMESERVERS_MAX][IP_CHARS + 1], size_t *ret_count,
                     struct err *e)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct net_task t = task_of(en, &a);
    struct ip servers[NET_NAMESERVERS_MAX];

    if (ag->networks.net == NULL)
        return err_set(e, ERR_UNSUPPORTED, "this node has no overlay networks: %s",
                       ag->networks.why);
    *ret_count = net_nameservers(ag->networks.net, &t, servers);
    if (*ret_count == 0)
        return err_set(e, ERR_UNAVAILABLE, "its networks have not arrived");
    for (size_t i = 0; i < *ret_count; i++)
        (void)ip_format(&servers[i], ret_nameservers[i]);
    return 0;
}

/* ---- life ---- */

/* The first of: what the operator said, beside this program, the installed place. */
static char *find_gate(const struct agent_options *o)
{
    static const char *const places[] = { "skep-gate", "../libexec/skep/skep-gate" };
    char self[4096] = "";
    char *slash;

    if (o->gate != NULL && o->gate[0] != '\0')
        return realpath(o->gate, NULL);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return NULL;
    slash = strrchr(self, '/');
    if (slash == NULL)
        return NULL;
    *slash = '\0';
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", self, places[i]);

        if (access(path, X_OK) == 0)
            return realpath(path, NULL);
    }
    return NULL;
}

void networks_start(struct agent *ag)
{
    struct networks *n = &ag->networks;
    struct net_options o = {
        .run_dir = ag->o.run_dir,
        .data_path = ag->o.data_path,
        .balancer = ag->o.balancer,
        .on_change = on_change,
        .ctx = ag,
    };
    struct err e = { 0 };

    if (ag->o.no_overlays)
        (void)err_set(&e, ERR_UNSUPPORTED, "switched off by --no-overlays");
    else if ((n->gate_program = find_gate(&ag->o)) == NULL || access(n->gate_program, X_OK) < 0)
        (void)err_set(&e, ERR_NOT_FOUND, "the program skep-gate is missing (see agentd --gate)");
    else
        n->net = net_new(ag->loop, &o, &e);
    ag->link.session.networks = n->net != NULL;
    plain_format(n->why, sizeof(n->why), "%s", e.message);
    describe(ag);
}

void networks_stop(struct agent *ag)
{
    struct networks *n = &ag->networks;

    loop_timer_cancel(ag->loop, &n->changed_timer);
    engine_call_cancel(n->sweep_call);
    n->sweep_call = NULL;
    net_free(n->net);
    n->net = NULL;
    free(n->gate_program);
    free(n->description);
    n->description = NULL;
}

/* Networks of the cluster that the engine makes on this host: there before the first container that
 * needs them, connected before its start, gone after the last. Only those with our labels are ever
 * used or removed. */
#include "agentd/executor.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/docker/network.h"
#include "agentd/worker/networks.h"
#include "agentd/worker/plain.h"
#include "common/log.h"

/* ---- before a container is created ---- */

static void look(struct job *j);

static const struct container_network *current(const struct job *j)
{
    return &j->plan.networks[j->networks_done];
}

static void created(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    char text[TASK_ERROR_BYTES_MAX];

    if (!job_answered(j, r))
        return;
    if (r->status == 409 && !j->network_again) { /* another task's job was faster */
        j->network_again = true;
        look(j);
        return;
    }
    if (r->status >= 400) {
        plain_format(text, sizeof(text), "network %s: %s", current(j)->name, r->err.message);
        job_end(j, TASK_RESULT_FATAL, text);
        return;
    }
    log_info("network.made", "network=%s name=%s", current(j)->id, current(j)->name);
    j->networks_done++;
    job_make_networks(j);
}

static void looked(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    const struct container_network *n = current(j);
    struct network_entry found;
    struct err e = { 0 };
    char text[TASK_ERROR_BYTES_MAX];

    if (!job_answered(j, r))
        return;
    if (r->status == 404) {
        job_sent(j, network_create(j->ag->engine, n->create_body, job_reply(j, created), &e), &e);
        return;
    }
    if (r->status != 200 || network_parse_inspect(r, &found, &e) < 0) {
        job_end(j, TASK_RESULT_RETRY, r->status != 200 ? r->err.message : e.message);
        return;
    }
    if (strcmp(found.network_id, n->id) != 0 ||
        strcmp(found.cluster_id, j->ag->cluster_id.s) != 0) {
        plain_format(text, sizeof(text),
                     "network %s: this node's engine has another network of that name", n->name);
        job_end(j, TASK_RESULT_FATAL, text);
        return;
    }
    j->networks_done++;
    job_make_networks(j);
}

static void look(struct job *j)
{
    struct err e = { 0 };

    job_sent(j, network_inspect(j->ag->engine, current(j)->name, job_reply(j, looked), &e), &e);
}

void job_make_networks(struct job *j)
{
    j->network_again = false;
    while (j->networks_done < j->plan.network_count && current(j)->create_body == NULL)
        j->networks_done++;
    if (j->networks_done == j->plan.network_count)
        job_create_volumes(j);
    else
        look(j);
}

/* ---- before it is started ---- */

static void connect_next(struct job *j);

static void connected(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    char text[TASK_ERROR_BYTES_MAX];

    if (!job_answered(j, r))
        return;
    if (r->status >= 400 && !network_is_connected(r)) {
        plain_format(text, sizeof(text), "network %s: %s", current(j)->name, r->err.message);
        job_end(j, TASK_RESULT_FATAL, text);
        return;
    }
    j->networks_done++;
    connect_next(j);
}

static void connect_next(struct job *j)
{
    struct err e = { 0 };

    while (j->networks_done < j->plan.network_count && current(j)->connect_body == NULL)
        j->networks_done++;
    if (j->networks_done == j->plan.network_count) {
        job_start_container(j);
        return;
    }
    job_sent(j,
             network_connect(j->ag->engine, current(j)->name, job_ref(j), current(j)->connect_body,
                             job_reply(j, connected), &e),
             &e);
}

/* The first network came with the container; a start that is repeated finds the others connected.
 */
void job_start(struct job *j)
{
    struct container_node node;
    struct err e = { 0 };

    agent_node(j->ag, &node);
    if (j->entry->assignment == NULL ||
        container_plan_networks(j->entry->assignment, &node, &j->plan, &e) < 0)
        job_start_container(j); /* the plan was possible when it was created */
    else
        connect_next(j);
}

/* ---- after the last ---- */

static bool is_used(const struct agent *ag, const char *network_id)
{
    for (size_t i = 0; i < ag->roster.count; i++) {
        const struct roster_entry *en = ag->roster.entries[i];

        if (en->assignment != NULL && networks_uses_engine(en->assignment, network_id))
            return true;
    }
    return false;
}

static void removed(void *ctx, const struct engine_response *r)
{
    (void)ctx;
    if (r->rc < 0 || (r->status >= 400 && r->status != 404))
        log_debug("network.remove", "error=\"%s\" next=later", r->err.message);
}

static void listed(void *ctx, const struct engine_response *r)
{
    struct agent *ag = ctx;
    struct networks *n = &ag->networks;
    const char *cluster = n->sweep_cluster.s;
    struct network_entry *list;
    struct err e = { 0 };
    size_t count;

    n->sweep_call = NULL;
    if (n->sweep_again)
        engine_networks_sweep(ag); /* its answer is the newer one */
    if (r->rc < 0 || r->status != 200 || network_parse_list(r, &list, &count, NULL) < 0)
        return; /* the next removal or list of containers comes here again */
    for (size_t i = 0; i < count; i++) {
        /* the filter asked for these; believe the labels only */
        if (list[i].network_id[0] == '\0' || strcmp(list[i].cluster_id, cluster) != 0 ||
            is_used(ag, list[i].network_id))
            continue;
        log_info("network.unused", "network=%s next=remove", list[i].network_id);
        if (network_remove(ag->engine, list[i].id, (struct docker_reply){ removed, ag }, &e) ==
            NULL)
            log_debug("network.remove", "error=\"%s\" next=later", e.message);
    }
    free(list);
}

void engine_networks_sweep(struct agent *ag)
{
    struct networks *n = &ag->networks;

    n->sweep_again = n->sweep_call != NULL; /* that one may have been answered already */
    if (n->sweep_again || ag->cluster_id.s[0] == '\0')
        return;
    n->sweep_cluster = ag->cluster_id;
    n->sweep_call =
        network_list(ag->engine, ag->cluster_id.s, (struct docker_reply){ listed, ag }, NULL);
}

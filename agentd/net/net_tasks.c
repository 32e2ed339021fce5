#include "agentd/net/net_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/attach.h"
#include "agentd/net/netns.h"
#include "common/assert.h"
#include "common/log.h"

/* ---- records --------------------------------------------------------------------------------- */

static void attachment_free(struct attachment *a)
{
    arena_deinit(&a->arena);
    free(a->task_id);
    free(a);
}

static void forget(struct net *n, const char *task_id)
{
    for (size_t i = 0; i < n->attachment_count; i++) {
        if (strcmp(n->attachments[i]->task_id, task_id) != 0)
            continue;
        attachment_free(n->attachments[i]);
        n->attachments[i] = n->attachments[--n->attachment_count];
        return;
    }
}

void tasks_free(struct net *n)
{
    for (size_t i = 0; i < n->attachment_count; i++)
        attachment_free(n->attachments[i]);
    free(n->attachments);
    n->attachments = NULL;
    n->attachment_count = 0;
}

static Skep__NetworkAttachment *copy_of(struct arena *a, const Skep__NetworkAttachment *from)
{
    Skep__NetworkAttachment *to = ARENA_NEW(a, Skep__NetworkAttachment);

    skep__network_attachment__init(to);
    to->network_id = arena_strdup(a, from->network_id);
    to->n_addresses = from->n_addresses;
    to->addresses = arena_array(a, from->n_addresses, sizeof(*to->addresses));
    for (size_t i = 0; i < from->n_addresses; i++)
        to->addresses[i] = arena_strdup(a, from->addresses[i]);
    return to;
}

static void remember(struct net *n, const struct net_task *t, pid_t pid, uint64_t inode)
{
    struct attachment *a = xcalloc(1, sizeof(*a));

    a->task_id = xstrdup(t->task_id);
    a->pid = pid;
    a->inode = inode;
    a->checked_ms = clock_now_ms();
    a->network_count = t->network_count;
    a->networks = arena_array(&a->arena, t->network_count, sizeof(*a->networks));
    for (size_t i = 0; i < t->network_count; i++)
        a->networks[i] = copy_of(&a->arena, t->networks[i]);
    for (size_t i = 0; i < t->nameserver_count && a->nameserver_count < DNS_SERVERS_MAX; i++)
        a->nameserver_count +=
            ip_parse(t->nameservers[i], &a->nameservers[a->nameserver_count], NULL) == 0;
    forget(n, t->task_id);
    n->attachments =
        xrealloc_array(n->attachments, n->attachment_count + 1, sizeof(*n->attachments));
    n->attachments[n->attachment_count++] = a;
}

static bool has_address(const struct attachment *a, const char *network_id, const struct ip *ip)
{
    struct ip its;

    return tables_address(a->networks, a->network_count, network_id, ip->family, &its) &&
           ip_equal(&its, ip);
}

size_t tasks_nameservers(void *ctx, const char *network_id, const struct ip *asker,
                         struct ip ret[DNS_SERVERS_MAX])
{
    const struct net *n = ctx;

    for (size_t i = 0; i < n->attachment_count; i++) {
        const struct attachment *a = n->attachments[i];

        if (a->nameserver_count == 0 || !has_address(a, network_id, asker))
            continue;
        memcpy(ret, a->nameservers, sizeof(a->nameservers));
        return a->nameserver_count;
    }
    return 0;
}

/* ---- attaching ------------------------------------------------------------------------------- */

static bool has_endpoint(const struct net_plan *p, const char *task_id)
{
    for (size_t i = 0; i < p->endpoint_count; i++)
        if (p->endpoints[i].peer == -1 && strcmp(p->endpoints[i].task_id, task_id) == 0)
            return true;
    return false;
}

static int collect(struct net *n, const struct net_task *t, struct attach_network *ret,
                   struct err *e)
{
    if (t->network_count > ATTACH_NETWORKS_MAX)
        return err_set(e, ERR_TOO_BIG, "more than %d networks", ATTACH_NETWORKS_MAX);
    for (size_t i = 0; i < t->network_count; i++) {
        const char *id = t->networks[i]->network_id;
        struct network *w = network_find(n, id);
        const struct net_plan *p = w != NULL ? network_plan(w) : NULL;

        if (p == NULL)
            return err_set(e, ERR_UNAVAILABLE, "the table of network %s has not come yet", id);
        if (!w->ready)
            return err_set(e, ERR_UNAVAILABLE, "network %.64s: %.120s", p->name,
                           w->error[0] != '\0' ? w->error : "not programmed yet");
        if (!has_endpoint(p, t->task_id))
            return err_set(e, ERR_UNAVAILABLE, "network %s: the task is not in its table yet",
                           p->name);
        ret[i] = (struct attach_network){ .overlay = w->overlay,
                                          .plan = p,
                                          .attachment = t->networks[i] };
    }
    return 0;
}

static int attach_ns(struct net *n, const struct net_task *t, int ns, bool *ret_changed,
                     struct err *e)
{
    struct attach_network all[ATTACH_NETWORKS_MAX];
    struct attach a = { .task_id = t->task_id,
                        .host_ns = n->host_ns,
                        .ns = ns,
                        .networks = all,
                        .network_count = t->network_count };
    int rc = collect(n, t, all, e);

    return rc == 0 ? attach_task(&a, ret_changed, e) : rc;
}

int net_attach(struct net *n, const struct net_task *task, pid_t pid, struct err *e)
{
    CLEANUP_CLOSE int ns = -1;
    bool changed = false;
    int rc = netns_open_process(pid, &ns, e);

    if (rc == 0)
        rc = attach_ns(n, task, ns, &changed, e);
    if (rc < 0)
        return rc;
    remember(n, task, pid, netns_inode(ns));
    log_info("net.attached", "task=%s pid=%d networks=%zu changed=%s", task->task_id, (int)pid,
             task->network_count, changed ? "yes" : "no");
    return 0;
}

static void remove_links(struct net *n, const char *task_id)
{
    for (size_t i = 0; i < n->network_count; i++)
        if (n->networks[i]->overlay != NULL)
            overlay_remove_task(n->networks[i]->overlay, task_id);
}

void net_detach(struct net *n, const char *task_id)
{
    forget(n, task_id);
    remove_links(n, task_id);
}

void net_keep_only(struct net *n, bool (*has)(void *ctx, const char *task_id), void *ctx)
{
    for (size_t i = n->attachment_count; i-- > 0;)
        if (!has(ctx, n->attachments[i]->task_id))
            net_detach(n, n->attachments[i]->task_id);
    for (size_t i = 0; i < n->network_count; i++) {
        struct overlay *o = n->networks[i]->overlay;

        for (size_t k = o != NULL ? o->links.count : 0; k-- > 0;) {
            const struct link *l = &o->links.items[k];
            char id[LINK_ALIAS_BYTES];

            if (l->name[0] != PLACE_TASK_LINK || strcmp(l->kind, "veth") != 0 ||
                link_tag(l) == NULL || has(ctx, link_tag(l)))
                continue;
            (void)snprintf(id, sizeof(id), "%s", link_tag(l));
            overlay_remove_task(o, id);
            k = MIN(k, o->links.count);
        }
    }
}

/* ---- healing --------------------------------------------------------------------------------- */

/* The process may be gone, its pid another's: then its container's end will be told. */
static void check_one(struct net *n, struct attachment *a, bool lost)
{
    struct net_task t = { .task_id = a->task_id,
                          .networks = a->networks,
                          .network_count = a->network_count };
    CLEANUP_CLOSE int ns = -1;
    struct err e = { 0 };
    bool changed = false;

    if (netns_open_process(a->pid, &ns, NULL) < 0 || netns_inode(ns) != a->inode)
        return;
    int rc = attach_ns(n, &t, ns, &changed, &e);
    if (rc < 0 && rc != -ERR_UNAVAILABLE)
        log_warn("net.attach_check", "task=%s error=\"%s\" retry=yes", a->task_id,
                 err_message(&e, rc));
    if (rc == 0 && (changed || lost)) {
        n->stats.repairs++;
        log_warn("net.repair", "task=%s object=interface", a->task_id);
    }
}

void tasks_check(struct net *n, const struct network *w, uint64_t now_ms)
{
    for (size_t i = 0; i < n->attachment_count; i++) {
        struct attachment *a = n->attachments[i];
        bool here = false, lost;

        for (size_t k = 0; k < a->network_count; k++)
            here = here || strcmp(a->networks[k]->network_id, w->id) == 0;
        if (!here || w->overlay == NULL)
            continue;
        lost = overlay_task_link(w->overlay, a->task_id) == 0;
        if (!lost && now_ms - a->checked_ms < NET_CHECK_MS)
            continue;
        a->checked_ms = now_ms;
        check_one(n, a, lost);
    }
}

void tasks_tell(const struct net *n, const struct network *w, struct differences *d)
{
    for (size_t i = 0; i < n->attachment_count; i++) {
        const struct attachment *a = n->attachments[i];

        for (size_t k = 0; k < a->network_count; k++)
            if (strcmp(a->networks[k]->network_id, w->id) == 0 &&
                overlay_task_link(w->overlay, a->task_id) == 0)
                differences_add(d, "link", "missing", "of task %s", a->task_id);
    }
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The gateway of the subnet that one of the addresses is in. */
static bool gateway_of(const Skep__NetworkHead *h, const Skep__NetworkAttachment *a, struct ip *ret)
{
    for (size_t k = 0; k < a->n_addresses; k++) {
        struct ip_net own, subnet, gateway;

        if (ip_net_parse_host(a->addresses[k], &own, NULL) < 0)
            continue;
        for (size_t i = 0; i < h->n_ipam; i++) {
            if (ip_net_parse(h->ipam[i]->subnet, &subnet, NULL) < 0 ||
                !ip_net_has(&subnet, &own.address))
                continue;
            subnet = ip_net_base(&subnet);
            if (ip_net_parse_host(h->ipam[i]->gateway, &gateway, NULL) == 0)
                *ret = gateway.address;
            else
                *ret = ip_add(&subnet.address, 1);
            return true;
        }
    }
    return false;
}

size_t net_nameservers(const struct net *n, const struct net_task *task,
                       struct ip ret[NET_NAMESERVERS_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < task->network_count; i++) {
        const Skep__NetworkAttachment *a = task->networks[i];
        const Skep__NetworkHead *h = tables_network(n->tables, a->network_id);
        struct ip gateway;

        if (h == NULL)
            return 0;
        if (count < NET_NAMESERVERS_MAX && gateway_of(h, a, &gateway))
            ret[count++] = gateway;
    }
    return count;
}

/* info and version: what the local manager knows, also when the cluster has no leader. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"

static const char *const states[] = { "inactive", "pending", "active", "error" };

static const char *state_text(const Skep__InfoResponse *info)
{
    return (size_t)info->state < ARRAY_LEN(states) ? states[info->state] : "unknown";
}

/* ---- json ---- */

static json_t *member_json(const Skep__ManagerInfo *m)
{
    json_t *o = json_object();

    json_set_string(o, "NodeID", m->node_id);
    json_set_string(o, "Hostname", m->hostname);
    json_set_string(o, "Addr", m->address);
    json_object_set_new(o, "Leader", json_boolean(m->leader));
    json_object_set_new(o, "Voter", json_boolean(m->voter));
    json_set_string(o, "Reachability", text_reachability(m->reachability));
    json_object_set_new(o, "LastContactMs", json_integer(m->last_contact_ms));
    return o;
}

static json_t *info_json(const Skep__InfoResponse *info)
{
    json_t *swarm = json_object();
    json_t *managers = json_array();
    char time[TEXT_TIME_MAX];

    json_object_set_new(swarm, "NodeID", json_string(info->node_id));
    json_object_set_new(swarm, "NodeAddr", json_string(info->address));
    json_object_set_new(swarm, "LocalNodeState", json_string(state_text(info)));
    json_object_set_new(swarm, "ControlAvailable", json_boolean(info->is_manager));
    json_object_set_new(swarm, "Error", json_string(info->error));
    for (size_t i = 0; i < info->n_members; i++)
        json_array_append_new(managers, member_json(info->members[i]));
    json_object_set_new(swarm, "RemoteManagers", managers);
    json_set_integer(swarm, "Nodes", info->nodes);
    json_set_integer(swarm, "Managers", info->managers);
    json_object_set_new(swarm, "Quorum", json_boolean(info->quorum));
    json_set_string(swarm, "LeaderID", info->leader_id);
    json_object_set_new(swarm, "Raft",
                        json_pack("{sIsI}", "Term", (json_int_t)info->raft_term, "Index",
                                  (json_int_t)info->raft_index));
    if (info->network != NULL)
        json_object_set_new(swarm, "Network", json_node_network(info->network));
    if (info->cluster_id[0] != '\0') {
        json_t *cluster = json_object();

        json_set_string(cluster, "ID", info->cluster_id);
        json_set_string(cluster, "CreatedAt", text_format_time(time, info->created_at));
        json_set_string(cluster, "RootDigest", info->root_digest);
        json_object_set_new(swarm, "Cluster", cluster);
    }
    return json_pack("{sssssO}", "ClientVersion", SKEP_VERSION, "ServerVersion", info->version,
                     "Swarm", swarm);
}

/* ---- text ---- */

static const char *member_status(struct ctl *c, const Skep__InfoResponse *info,
                                 const Skep__ManagerInfo *m)
{
    char age[TEXT_SHORT_MAX];
    const char *kind = m->leader ? "leader" : m->voter ? "voter" : "learner";

    if (strcmp(m->node_id, info->node_id) == 0)
        return arena_printf(&c->arena, "%s, this manager", kind);
    if (m->last_contact_ms < 0)
        return arena_printf(&c->arena, "%s, %s, not seen since this manager started", kind,
                            text_reachability(m->reachability));
    return arena_printf(&c->arena, "%s, %s, last seen %s ago", kind,
                        text_reachability(m->reachability),
                        text_format_age(age, m->last_contact_ms * TEXT_NS_PER_MS));
}

static void print_settings(FILE *out, const Skep__ClusterSpec *s)
{
    char text[TEXT_SHORT_MAX];

    (void)fprintf(out, "  Default Address Pool:");
    for (size_t i = 0; i < s->n_address_pools; i++)
        (void)fprintf(out, " %s", s->address_pools[i]);
    (void)fprintf(out, "\n  SubnetSize: %" PRIu32 "\n  Data Path Port: %" PRIu32 "\n",
                  s->subnet_size, s->data_path_port);
    (void)fprintf(out, "  Orchestration:\n   Task History Retention Limit: %" PRId64 "\n",
                  s->task_history_limit);
    (void)fprintf(out, "  Raft:\n   Snapshot Interval: %" PRIu64 "\n", s->snapshot_interval);
    (void)fprintf(out, "  Dispatcher:\n   Heartbeat Period: %s\n",
                  text_format_duration(text, s->heartbeat_period));
    (void)fprintf(out, "  CA Configuration:\n   Expiry Duration: %s\n",
                  text_format_duration(text, s->certificate_expiry));
}

static void print_network(FILE *out, const Skep__NodeNetwork *n)
{
    (void)fprintf(out, "  Network:\n   Balancer: %s\n   Encryption: %s\n   MTU: %" PRIu32 "\n",
                  n->balancer[0] != '\0' ? n->balancer : "none",
                  n->encryption[0] != '\0' ? n->encryption : "none", n->mtu);
    if (n->error[0] != '\0')
        (void)fprintf(out, "   Error: %s\n", n->error);
}

static void print_info(struct ctl *c, const Skep__InfoResponse *info)
{
    FILE *out = c->out;

    (void)fprintf(out, "Client:\n Version:    %s\n\nServer:\n Server Version: %s\n", SKEP_VERSION,
                  info->version);
    (void)fprintf(out, " Swarm: %s\n", state_text(info));
    if (info->node_id[0] != '\0')
        (void)fprintf(out, "  NodeID: %s\n", info->node_id);
    if (info->error[0] != '\0')
        (void)fprintf(out, "  Error: %s\n", info->error);
    if (info->state == SKEP__INFO_RESPONSE__STATE__INACTIVE)
        return;
    (void)fprintf(out, "  Is Manager: %s\n", info->is_manager ? "true" : "false");
    if (info->is_manager) {
        (void)fprintf(out, "  ClusterID: %s\n  Managers: %" PRIu32 "\n  Nodes: %" PRIu32 "\n",
                      info->cluster_id, info->managers, info->nodes);
        (void)fprintf(out, "  Quorum: %s\n  Raft Term: %" PRIu64 "\n  Raft Index: %" PRIu64 "\n",
                      info->quorum ? "yes" : "no", info->raft_term, info->raft_index);
        if (info->cluster != NULL)
            print_settings(out, info->cluster);
    }
    if (info->network != NULL)
        print_network(out, info->network);
    (void)fprintf(out, "  Node Address: %s\n", info->address);
    if (info->n_members > 0)
        (void)fprintf(out, "  Manager Addresses:\n");
    for (size_t i = 0; i < info->n_members; i++)
        (void)fprintf(out, "   %s (%s: %s)\n", info->members[i]->address,
                      info->members[i]->hostname[0] != '\0' ? info->members[i]->hostname
                                                            : info->members[i]->node_id,
                      member_status(c, info, info->members[i]));
    for (size_t i = 0; info->n_members == 0 && i < info->n_manager_addresses; i++)
        (void)fprintf(out, "%s   %s\n", i == 0 ? "  Manager Addresses:\n" : "",
                      info->manager_addresses[i]);
}

int system_info(struct ctl *c)
{
    Skep__InfoResponse *info = NULL;
    struct err e = { 0 };
    int rc;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = info_get(c, &info, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (flags_given(c->flags, "format")) {
        json_t *list = json_array();
        json_t *o = info_json(info);

        if (strcmp(flags_string(c->flags, "format"), "json") == 0) {
            char *text = json_dumps(o, JSON_COMPACT);

            (void)fprintf(c->out, "%s\n", text != NULL ? text : "");
            free(text);
            json_decref(o);
            json_decref(list);
            return 0;
        }
        json_array_append_new(list, o);
        return output_objects(c, list);
    }
    print_info(c, info);
    if (info->is_manager && !info->quorum && info->state != SKEP__INFO_RESPONSE__STATE__INACTIVE) {
        (void)fflush(c->out);
        (void)fprintf(c->err, "\nWARNING: The swarm does not have a leader.\n%s",
                      client_explain(&c->arena, info));
    }
    return 0;
}

int system_version(struct ctl *c)
{
    Skep__InfoResponse *info = NULL;
    json_t *list;
    bool have = false;

    if (flags_given(c->flags, "format")) {
        have = ctl_client(c) != NULL && info_get(c, &info, NULL) == 0;
        list = json_array();
        json_array_append_new(list, json_pack("{s{ss}s{ss}}", "Client", "Version", SKEP_VERSION,
                                              "Server", "Version", have ? info->version : ""));
        return output_objects(c, list);
    }
    (void)fprintf(c->out, "Client: Skep\n Version:           %s\n", SKEP_VERSION);
    (void)fflush(c->out);
    if (ctl_client(c) == NULL || info_get(c, &info, NULL) < 0)
        return CMD_EXIT_FAILED;
    (void)fprintf(c->out, "\nServer: managerd\n Version:          %s\n", info->version);
    return 0;
}

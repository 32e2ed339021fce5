#include "agentd/netplan/tables_internal.h"

#include <string.h>

#include "common/id.h"

/* Managers are trusted, yet a record of a newer or damaged one must not bring a node down: what
 * passes here can be indexed, formatted and programmed without looking again. */

static int check_id(const char *id, const char *what, struct err *e)
{
    if (id == NULL || !id_valid(id))
        return err_set(e, ERR_INVALID, "\"%.40s\" is not the id of a %s", id == NULL ? "" : id,
                       what);
    return 0;
}

/* A name is printable and has no spaces; one that no DNS query can ask for is allowed: a hostname
 * is what its user set. */
static int check_name(const char *name, const char *what, struct err *e)
{
    size_t size = 0;

    for (; name != NULL && name[size] != '\0'; size++) {
        if (size == TABLES_NAME_CHARS_MAX)
            return err_set(e, ERR_INVALID, "%s of more than %d characters", what,
                           TABLES_NAME_CHARS_MAX);
        if (name[size] <= 0x20 || name[size] >= 0x7f)
            return err_set(e, ERR_INVALID, "%s has a character 0x%02x", what,
                           (unsigned)(uint8_t)name[size]);
    }
    return 0;
}

static int need_name(const char *name, const char *what, struct err *e)
{
    if (name == NULL || name[0] == '\0')
        return err_set(e, ERR_INVALID, "%s is empty", what);
    return check_name(name, what, e);
}

static int check_count(size_t count, size_t max, const char *what, struct err *e)
{
    return count <= max ? 0 : err_set(e, ERR_INVALID, "%zu %s, at most %zu", count, what, max);
}

static int check_number(uint32_t value, uint32_t low, uint32_t high, const char *what,
                        struct err *e)
{
    if (value < low || value > high)
        return err_set(e, ERR_INVALID, "%s %u is not within %u-%u", what, value, low, high);
    return 0;
}

static int check_host(const struct ip *ip, const char *text, struct err *e)
{
    if (ip_is_any(ip) || ip_is_multicast(ip) || ip_is_loopback(ip))
        return err_set(e, ERR_INVALID, "%.64s is not the address of a host", text);
    return 0;
}

static int check_address(const char *text, struct err *e)
{
    struct ip ip;
    int rc = ip_parse(text == NULL ? "" : text, &ip, e);

    return rc < 0 ? rc : check_host(&ip, text, e);
}

static int check_cidr(const char *text, struct err *e)
{
    struct ip_net net;
    int rc = ip_net_parse(text == NULL ? "" : text, &net, e);

    if (rc < 0)
        return rc;
    if (net.prefix == 0)
        return err_set(e, ERR_INVALID, "%.64s has no prefix", text);
    return check_host(&net.address, text, e);
}

static int check_names(char *const *names, size_t count, const char *what, struct err *e)
{
    int rc = check_count(count, TABLES_ATTACHMENTS_MAX, what, e);

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = need_name(names[i], what, e);
    return rc;
}

static int check_attachments(Skep__NetworkAttachment *const *list, size_t count, struct err *e)
{
    int rc = check_count(count, TABLES_ATTACHMENTS_MAX, "networks", e);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        const Skep__NetworkAttachment *a = list[i];

        rc = check_id(a->network_id, "network", e);
        for (size_t j = 0; rc == 0 && j < i; j++) {
            if (strcmp(list[j]->network_id, a->network_id) == 0)
                rc = err_set(e, ERR_INVALID, "network %s twice", a->network_id);
        }
        if (rc == 0)
            rc = check_count(a->n_addresses, TABLES_ADDRESSES_MAX, "addresses", e);
        for (size_t j = 0; rc == 0 && j < a->n_addresses; j++)
            rc = check_cidr(a->addresses[j], e);
        if (rc == 0)
            rc = check_names(a->aliases, a->n_aliases, "alias", e);
    }
    return rc;
}

/* ---- records ---- */

static int check_ipam(const Skep__IpamConfig *c, struct err *e)
{
    struct ip_net net, range;
    struct ip gateway;

    if (ip_net_parse(c->subnet, &net, e) < 0)
        return -ERR_INVALID;
    if (net.prefix == 0)
        return err_set(e, ERR_INVALID, "subnet %.64s has no prefix", c->subnet);
    if (c->gateway != NULL && c->gateway[0] != '\0') {
        if (ip_parse(c->gateway, &gateway, e) < 0)
            return -ERR_INVALID;
        if (!ip_net_has(&net, &gateway))
            return err_set(e, ERR_INVALID, "gateway %s is not in %s", c->gateway, c->subnet);
    }
    if (c->range != NULL && c->range[0] != '\0') {
        if (ip_net_parse(c->range, &range, e) < 0)
            return -ERR_INVALID;
        if (!ip_net_within(&range, &net))
            return err_set(e, ERR_INVALID, "range %s is not in %s", c->range, c->subnet);
    }
    return 0;
}

static int check_head(const Skep__NetworkHead *h, struct err *e)
{
    int rc = check_id(h->id, "network", e);

    if (rc == 0)
        rc = need_name(h->name, "name", e);
    if (rc == 0)
        rc = check_number(h->vni, 1, (1U << 24) - 1, "vni", e);
    if (rc == 0 && h->mtu != 0)
        rc = check_number(h->mtu, 68, UINT16_MAX, "mtu", e);
    if (rc == 0)
        rc = check_number(h->data_path_port, 0, UINT16_MAX, "data path port", e);
    if (rc == 0)
        rc = check_number(h->encryption_port, 0, UINT16_MAX, "encryption port", e);
    if (rc == 0)
        rc = check_count(h->n_ipam, TABLES_ADDRESSES_MAX, "subnets", e);
    for (size_t i = 0; rc == 0 && i < h->n_ipam; i++)
        rc = check_ipam(h->ipam[i], e);
    if (rc == 0)
        rc = check_count(h->n_keys, TABLES_ADDRESSES_MAX, "keys", e);
    return rc;
}

static int check_peer(const Skep__NetworkPeer *p, struct err *e)
{
    int rc = check_id(p->node_id, "node", e);

    if (rc == 0)
        rc = check_name(p->hostname, "hostname", e);
    if (rc == 0 && p->address != NULL && p->address[0] != '\0')
        rc = check_address(p->address, e);
    if (rc == 0)
        rc = check_attachments(p->networks, p->n_networks, e);
    return rc;
}

static int check_port(const Skep__PortConfig *p, struct err *e)
{
    int rc = check_number(p->target_port, 1, UINT16_MAX, "port", e);

    if (rc == 0)
        rc = check_number(p->published_port, 0, UINT16_MAX, "published port", e);
    if (rc == 0)
        rc = check_number(p->protocol, 0, SKEP__PROTOCOL__PROTOCOL_SCTP, "protocol", e);
    if (rc == 0)
        rc = check_number(p->publish_mode, 0, SKEP__PUBLISH_MODE__PUBLISH_HOST, "publish mode", e);
    if (rc == 0)
        rc = check_number(p->source, 0, SKEP__SOURCE_POLICY__SOURCE_LOCAL, "source policy", e);
    if (rc == 0 && p->host_ip != NULL && p->host_ip[0] != '\0') {
        struct ip ip;

        rc = ip_parse(p->host_ip, &ip, e); /* any and loopback are fine here */
    }
    return rc;
}

static int check_service(const Skep__NetworkService *s, struct err *e)
{
    int rc = check_id(s->id, "service", e);

    if (rc == 0)
        rc = need_name(s->name, "name", e);
    if (rc == 0)
        rc = check_number(s->mode, 0, SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR, "endpoint mode", e);
    if (rc == 0)
        rc = check_count(s->n_virtual_ips, TABLES_ATTACHMENTS_MAX, "virtual addresses", e);
    for (size_t i = 0; rc == 0 && i < s->n_virtual_ips; i++) {
        const Skep__VirtualIp *v = s->virtual_ips[i];

        rc = check_id(v->network_id, "network", e);
        if (rc == 0 && v->address != NULL && v->address[0] != '\0')
            rc = check_cidr(v->address, e);
    }
    if (rc == 0)
        rc = check_count(s->n_ports, TABLES_ATTACHMENTS_MAX, "ports", e);
    for (size_t i = 0; rc == 0 && i < s->n_ports; i++)
        rc = check_port(s->ports[i], e);
    if (rc == 0)
        rc = check_count(s->n_aliases, TABLES_ATTACHMENTS_MAX, "networks", e);
    for (size_t i = 0; rc == 0 && i < s->n_aliases; i++) {
        rc = check_id(s->aliases[i]->network_id, "network", e);
        if (rc == 0)
            rc = check_names(s->aliases[i]->aliases, s->aliases[i]->n_aliases, "alias", e);
    }
    return rc;
}

static int check_endpoint(const Skep__NetworkEndpoint *ep, struct err *e)
{
    int rc = check_id(ep->task_id, "task", e);

    if (rc == 0)
        rc = need_name(ep->name, "name", e);
    if (rc == 0 && ep->service_id != NULL && ep->service_id[0] != '\0')
        rc = check_id(ep->service_id, "service", e);
    if (rc == 0)
        rc = check_id(ep->node_id, "node", e);
    if (rc == 0)
        rc = check_number(ep->state, 0, SKEP__NETWORK_ENDPOINT__STATE__DRAINING, "state", e);
    if (rc == 0)
        rc = check_name(ep->hostname, "hostname", e);
    if (rc == 0)
        rc = check_attachments(ep->networks, ep->n_networks, e);
    return rc;
}

/* ---- */

const char *tables_message_id(Skep__NetworkRecordKind kind, const ProtobufCMessage *m)
{
    const union record_message *u = (const void *)m;

    switch (kind) {
    case SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK:
        return u->head.id;
    case SKEP__NETWORK_RECORD_KIND__RECORD_PEER:
        return u->peer.node_id;
    case SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE:
        return u->service.id;
    case SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT:
        return u->endpoint.task_id;
    case _SKEP__NETWORK_RECORD_KIND_IS_INT_SIZE:
    default:
        return NULL;
    }
}

static int check_message(Skep__NetworkRecordKind kind, const ProtobufCMessage *m, struct err *e)
{
    switch (kind) {
    case SKEP__NETWORK_RECORD_KIND__RECORD_NETWORK:
        return check_head((const Skep__NetworkHead *)m, e);
    case SKEP__NETWORK_RECORD_KIND__RECORD_PEER:
        return check_peer((const Skep__NetworkPeer *)m, e);
    case SKEP__NETWORK_RECORD_KIND__RECORD_SERVICE:
        return check_service((const Skep__NetworkService *)m, e);
    case SKEP__NETWORK_RECORD_KIND__RECORD_ENDPOINT:
        return check_endpoint((const Skep__NetworkEndpoint *)m, e);
    case _SKEP__NETWORK_RECORD_KIND_IS_INT_SIZE:
    default:
        return err_set(e, ERR_INVALID, "unknown kind");
    }
}

int tables_check_record(const Skep__NetworkRecord *r, Skep__NetworkRecordKind *ret_kind,
                        const ProtobufCMessage **ret_message, struct err *e)
{
    static const char *const names[] = { "network", "peer", "service", "endpoint" };
    const ProtobufCMessage *m;
    Skep__NetworkRecordKind kind;

    if (r->record_case < SKEP__NETWORK_RECORD__RECORD_NETWORK ||
        r->record_case > SKEP__NETWORK_RECORD__RECORD_ENDPOINT)
        return err_set(e, ERR_INVALID, "record of an unknown kind");
    kind = (Skep__NetworkRecordKind)(r->record_case - SKEP__NETWORK_RECORD__RECORD_NETWORK);
    if (r->network == NULL) /* the members of a union of pointers */
        return err_set(e, ERR_INVALID, "record without content");
    m = &r->network->base;

    int rc = check_message(kind, m, e);

    if (rc < 0) {
        const char *id = tables_message_id(kind, m);

        return err_wrap(e, rc, "%s %.40s", names[kind], id == NULL ? "" : id);
    }
    *ret_kind = kind;
    *ret_message = m;
    return 0;
}

#include "agentd/dns/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/assert.h"

enum { ASKER_NETWORKS_MAX = 64 };

struct asker {
    const struct answer_request *request;
    const char *networks[ASKER_NETWORKS_MAX]; /* ids, the socket's first */
    size_t network_count;
};

static void find_networks(struct asker *a, const struct answer_request *r)
{
    const Skep__NetworkEndpoint *ep = tables_find_address(r->tables, r->network_id, &r->source);

    a->request = r;
    a->networks[0] = r->network_id;
    a->network_count = 1;
    for (size_t i = 0; ep != NULL && i < ep->n_networks; i++) {
        const char *id = ep->networks[i]->network_id;

        if (a->network_count < ASKER_NETWORKS_MAX && strcmp(id, r->network_id) != 0)
            a->networks[a->network_count++] = id;
    }
}

/* ---- addresses ---- */

struct collector {
    struct dns_builder *builder;
    const char *network_id;
    struct prng *random;
    uint8_t family; /* 0: the type has no addresses */
    size_t limit;
    bool truncated;
};

static void add_address(struct collector *c, uint32_t ttl_s, const struct ip *ip)
{
    if (c->builder->answer_count >= c->limit || !dns_build_address(c->builder, ttl_s, ip))
        c->truncated = true;
}

static void add_endpoint(struct collector *c, const Skep__NetworkEndpoint *ep)
{
    struct ip ip;

    if (ep->state == SKEP__NETWORK_ENDPOINT__STATE__UP &&
        tables_address(ep->networks, ep->n_networks, c->network_id, c->family, &ip))
        add_address(c, ANSWER_TASK_TTL_S, &ip);
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b != 0) {
        size_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* From a random place with a random stride that meets all: of many, a few random ones are found
 * without looking at the others. */
static void add_endpoints(struct collector *c, const Skep__NetworkEndpoint *const *list,
                          size_t count)
{
    if (count == 0 || c->family == 0)
        return;
    size_t at = prng_below(c->random, count), stride = prng_range(c->random, 1, count);

    while (common_divisor(stride, count) != 1)
        stride = prng_range(c->random, 1, count);
    for (size_t i = 0; i < count && !c->truncated; i++) {
        add_endpoint(c, list[at]);
        at = (at + stride) % count;
    }
}

/* Every order of what was collected is as likely. Address records are of one size. */
static void shuffle(struct collector *c, size_t start)
{
    uint8_t swap[12 + 16], *records = c->builder->data + start;
    size_t bytes = dns_address_bytes(c->family);

    for (size_t left = (c->builder->size - start) / bytes; left > 1; left--) {
        uint8_t *a = records + (left - 1) * bytes;
        uint8_t *b = records + prng_below(c->random, left) * bytes;

        memcpy(swap, a, bytes);
        memmove(a, b, bytes);
        memcpy(b, swap, bytes);
    }
}

static void add_tasks(struct collector *c, const struct tables *t, const char *service_id)
{
    const Skep__NetworkEndpoint *const *list;
    size_t count = tables_service_endpoints(t, service_id, &list);

    add_endpoints(c, list, count);
}

/* ---- names ---- */

/* The part after "tasks.", or NULL. */
static const char *after_tasks(const char *name)
{
    return strncasecmp(name, "tasks.", 6) == 0 && name[6] != '\0' ? name + 6 : NULL;
}

/* Adds what a name without its network means in c's network; false when nobody has it there. */
static bool add_name(struct collector *c, const struct tables *t, const char *name)
{
    const Skep__NetworkService *const *services;
    const Skep__NetworkEndpoint *const *endpoints;
    const char *of_tasks = after_tasks(name);
    size_t count = tables_named_services(t, c->network_id, name, &services);
    struct ip vip;

    for (size_t i = 0; i < count; i++) {
        if (services[i]->mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR)
            add_tasks(c, t, services[i]->id);
        else if (c->family == IP_V4 && tables_vip(services[i], c->network_id, &vip))
            add_address(c, ANSWER_VIP_TTL_S, &vip);
    }
    if (count > 0)
        return true; /* its tasks' aliases are the service's too: not their addresses beside it */
    count = tables_named_endpoints(t, c->network_id, name, &endpoints);
    add_endpoints(c, endpoints, count);
    if (count > 0 || of_tasks == NULL)
        return count > 0;
    count = tables_named_services(t, c->network_id, of_tasks, &services);
    for (size_t i = 0; i < count; i++)
        add_tasks(c, t, services[i]->id);
    return count > 0;
}

/* Removes ".<network>" from the end of name; false when that is not its end. */
static bool cut_network(const char *name, const char *network,
                        char ret_name[DNS_NAME_CHARS_MAX + 1])
{
    size_t size = strlen(name), suffix = strlen(network);

    if (suffix == 0 || size < suffix + 2 || name[size - suffix - 1] != '.' ||
        strcasecmp(name + size - suffix, network) != 0)
        return false;
    memcpy(ret_name, name, size - suffix - 1);
    ret_name[size - suffix - 1] = '\0';
    return true;
}

/* *ret_ours: the name is below one of the asker's networks, so nobody else can know it. */
static bool find_name(const struct asker *a, struct collector *c, bool *ret_ours)
{
    const struct tables *t = a->request->tables;
    const char *name = a->request->query->name;
    char inner[DNS_NAME_CHARS_MAX + 1];

    *ret_ours = false;
    for (size_t i = 0; i < a->network_count; i++) {
        c->network_id = a->networks[i];
        if (add_name(c, t, name))
            return true;
    }
    for (size_t i = 0; i < a->network_count; i++) {
        const Skep__NetworkHead *head = tables_network(t, a->networks[i]);

        if (head == NULL || !cut_network(name, head->name, inner))
            continue;
        *ret_ours = true;
        c->network_id = a->networks[i];
        if (add_name(c, t, inner))
            return true;
    }
    return false;
}

/* tasks.web: no one but us has such names. tasks.example.com may well exist. */
static bool is_tasks_name(const char *name)
{
    const char *rest = after_tasks(name);

    return rest != NULL && strchr(rest, '.') == NULL;
}

/* ---- addresses to names ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "5.1.0.10.in-addr.arpa" or 32 hexadecimal digits below ip6.arpa. */
static bool parse_reverse(const char *name, struct ip *ret)
{
    char part[DNS_NAME_CHARS_MAX + 1];
    struct ip ip = { 0 };

    if (cut_network(name, "in-addr.arpa", part)) {
        unsigned b[4];
        char rest;

        if (strspn(part, "0123456789.") != strlen(part) || strlen(part) > 15 ||
            sscanf(part, "%3u.%3u.%3u.%3u%c", &b[3], &b[2], &b[1], &b[0], &rest) != 4)
            return false;
        ip.family = IP_V4;
        for (int i = 0; i < 4; i++) {
            if (b[i] > 255)
                return false;
            ip.bytes[i] = (uint8_t)b[i];
        }
    } else if (cut_network(name, "ip6.arpa", part) && strlen(part) == 63) {
        ip.family = IP_V6;
        for (int i = 0; i < 32; i++) {
            int digit = hex_digit(part[2 * i]);

            if (digit < 0 || (i < 31 && part[2 * i + 1] != '.'))
                return false;
            ip.bytes[15 - i / 2] |= (uint8_t)(digit << (i % 2 * 4));
        }
    }
    *ret = ip;
    return ip.family != 0;
}

/* Is the address one that this network gives? */
static bool in_network(const Skep__NetworkHead *head, const struct ip *ip)
{
    struct ip_net net;

    for (size_t i = 0; i < head->n_ipam; i++) {
        if (ip_net_parse(head->ipam[i]->subnet, &net, NULL) == 0 && ip_net_has(&net, ip))
            return true;
    }
    return false;
}

static enum answer reply(const struct answer_request *r, struct dns_builder *b,
                         enum dns_rcode rcode, size_t *ret_size)
{
    if (rcode != DNS_NOERROR && !tables_complete(r->tables))
        rcode = DNS_SERVFAIL; /* it may be in what has not come yet */
    *ret_size = dns_build_end(b, rcode, rcode != DNS_SERVFAIL, false);
    return ANSWER_REPLY;
}

static enum answer answer_reverse(const struct asker *a, struct dns_builder *b, const struct ip *ip,
                                  size_t *ret_size)
{
    const struct answer_request *r = a->request;
    char text[2 * DNS_NAME_CHARS_MAX + 2];
    bool ours = false;

    for (size_t i = 0; i < a->network_count; i++) {
        const Skep__NetworkHead *head = tables_network(r->tables, a->networks[i]);
        const Skep__NetworkEndpoint *ep = tables_find_address(r->tables, a->networks[i], ip);
        const Skep__NetworkService *s = tables_find_vip(r->tables, a->networks[i], ip);
        const char *name = s != NULL ? s->name : NULL;

        if (head == NULL || !in_network(head, ip))
            continue;
        ours = true;
        if (ep != NULL && ep->state == SKEP__NETWORK_ENDPOINT__STATE__UP)
            name = ep->name;
        if (name == NULL)
            continue;
        (void)snprintf(text, sizeof(text), "%s.%s", name, head->name);
        if (r->query->type == DNS_TYPE_PTR || r->query->type == DNS_TYPE_ANY)
            (void)dns_build_ptr(b, ANSWER_TASK_TTL_S, text); /* a name DNS cannot say: none */
        return reply(r, b, DNS_NOERROR, ret_size);
    }
    return ours ? reply(r, b, DNS_NXDOMAIN, ret_size) : ANSWER_FORWARD;
}

/* ---- */

static uint8_t family_of(uint16_t type)
{
    if (type == DNS_TYPE_A || type == DNS_TYPE_ANY) /* one kind is enough: RFC 8482 §4.1 */
        return IP_V4;
    return type == DNS_TYPE_AAAA ? IP_V6 : 0;
}

static enum answer answer_name(const struct asker *a, struct dns_builder *b, size_t *ret_size)
{
    const struct answer_request *r = a->request;
    struct collector c = { .builder = b, .random = r->random, .family = family_of(r->query->type) };
    size_t start = b->size;
    bool ours;

    c.limit = r->tcp ? UINT16_MAX : ANSWER_UDP_ADDRESSES_MAX;
    if (find_name(a, &c, &ours)) {
        if (c.family != 0)
            shuffle(&c, start);
        /* Over TCP, what fits into a message is all there is. */
        *ret_size = dns_build_end(b, DNS_NOERROR, true, c.truncated && !r->tcp);
        return ANSWER_REPLY;
    }
    if (ours || is_tasks_name(r->query->name))
        return reply(r, b, DNS_NXDOMAIN, ret_size);
    if (!tables_complete(r->tables) && strchr(r->query->name, '.') == NULL)
        return reply(r, b, DNS_SERVFAIL, ret_size);
    return ANSWER_FORWARD;
}

enum answer answer_query(const struct answer_request *r, uint8_t *mem, size_t max, size_t *ret_size)
{
    const struct dns_query *q = r->query;
    struct dns_builder b;
    struct asker a;
    struct ip ip;
    enum answer answer;

    ASSERT(q->question_bytes > 0);
    if (q->class != DNS_CLASS_IN) {
        *ret_size = dns_encode_refusal(mem, max, q, DNS_REFUSED);
        return ANSWER_REPLY;
    }
    dns_build(&b, mem, r->tcp ? max : MIN(max, q->udp_bytes_max), q);
    find_networks(&a, r);
    if (!q->plain)
        answer = ANSWER_FORWARD; /* no name of ours looks like this */
    else if (parse_reverse(q->name, &ip))
        answer = answer_reverse(&a, &b, &ip, ret_size);
    else
        answer = answer_name(&a, &b, ret_size);
    if (answer == ANSWER_FORWARD && !q->recursion_desired) {
        *ret_size = dns_encode_refusal(mem, max, q, DNS_REFUSED);
        answer = ANSWER_REPLY;
    }
    return answer;
}

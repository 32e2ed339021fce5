#include "test/lib/networks_text.h"

#include <string.h>

#include "common/assert.h"
#include "common/id.h"

enum { WORDS_MAX = 16, LIST_MAX = 64 };

struct words {
    char *w[WORDS_MAX];
    size_t count;
};

char *networks_id(struct arena *a, const char *text)
{
    char *id = arena_alloc(a, ID_CHARS + 1);
    size_t size = strlen(text);

    if (size > ID_CHARS || strcmp(text, "-") == 0)
        return arena_strdup(a, size > ID_CHARS ? text : "");
    memset(id, '0', ID_CHARS);
    memcpy(id, text, size);
    return id;
}

static struct words split(char *text, const char *separators)
{
    struct words r = { .count = 0 };
    char *rest = text;

    for (char *w; (w = strsep(&rest, separators)) != NULL;) {
        ASSERT(r.count < WORDS_MAX);
        if (w[0] != '\0' || separators[0] != ' ')
            r.w[r.count++] = w;
    }
    return r;
}

static char *text_of(char *word)
{
    return strcmp(word, "-") == 0 ? word + 1 : word;
}

static void add(struct arena *a, void *list, size_t *count, void *item)
{
    void ***l = list;

    if (*l == NULL)
        *l = arena_array(a, LIST_MAX, sizeof(void *));
    ASSERT(*count < LIST_MAX);
    (*l)[(*count)++] = item;
}

/* "n1=10.0.1.5/24+fd01::5/64,alias": the words after the first are aliases. */
static Skep__NetworkAttachment *attachment(struct arena *a, char *word)
{
    Skep__NetworkAttachment *n = ARENA_NEW(a, Skep__NetworkAttachment);
    char *value = strchr(word, '=');

    ASSERT(value != NULL);
    *value++ = '\0';
    skep__network_attachment__init(n);
    n->network_id = networks_id(a, word);
    struct words names = split(value, ",");
    struct words addresses = split(names.w[0], "+");
    for (size_t i = 0; i < addresses.count; i++) {
        if (addresses.w[i][0] != '\0')
            add(a, &n->addresses, &n->n_addresses, addresses.w[i]);
    }
    for (size_t i = 1; i < names.count; i++)
        add(a, &n->aliases, &n->n_aliases, names.w[i]);
    return n;
}

/* "key=<epoch>/<byte>": 32 of these bytes. */
static void head_key(struct arena *a, Skep__NetworkHead *h, const char *value)
{
    enum { KEY_BYTES = 32 };
    Skep__NetworkKey *k = ARENA_NEW(a, Skep__NetworkKey);
    char *fill;

    skep__network_key__init(k);
    k->epoch = (uint32_t)strtoul(value, &fill, 10);
    ASSERT(*fill == '/');
    k->key.len = KEY_BYTES;
    k->key.data = arena_alloc(a, KEY_BYTES);
    memset(k->key.data, (int)strtoul(fill + 1, NULL, 10), KEY_BYTES);
    add(a, &h->keys, &h->n_keys, k);
}

static bool head_option(struct arena *a, Skep__NetworkHead *h, const char *word)
{
    if (strncmp(word, "key=", 4) == 0)
        head_key(a, h, word + 4);
    else if (strncmp(word, "send=", 5) == 0)
        h->key_epoch = (uint32_t)strtoul(word + 5, NULL, 10);
    else if (strncmp(word, "ports=", 6) == 0)
        h->encryption_port = (uint32_t)strtoul(word + 6, NULL, 10);

    h->internal = h->internal || strcmp(word, "internal") == 0;
    h->ingress = h->ingress || strcmp(word, "ingress") == 0;
    h->encrypted = h->encrypted || strcmp(word, "encrypted") == 0;
    if (strncmp(word, "vni=", 4) == 0)
        h->vni = (uint32_t)strtoul(word + 4, NULL, 10);
    else if (strncmp(word, "mtu=", 4) == 0)
        h->mtu = (uint32_t)strtoul(word + 4, NULL, 10);
    return word[0] >= 'a' && strchr(word, ':') == NULL; /* others are subnets, good or bad */
}

static Skep__NetworkHead *head(struct arena *a, const struct words *w)
{
    Skep__NetworkHead *h = ARENA_NEW(a, Skep__NetworkHead);

    skep__network_head__init(h);
    h->id = networks_id(a, w->w[1]);
    h->name = text_of(w->w[2]);
    h->vni = 4096;
    h->mtu = 1450;
    for (size_t i = 3; i < w->count; i++) {
        Skep__IpamConfig *c;

        if (head_option(a, h, w->w[i]))
            continue;
        c = ARENA_NEW(a, Skep__IpamConfig);
        skep__ipam_config__init(c);
        c->subnet = w->w[i];
        add(a, &h->ipam, &h->n_ipam, c);
    }
    return h;
}

static Skep__NetworkPeer *peer(struct arena *a, const struct words *w)
{
    Skep__NetworkPeer *p = ARENA_NEW(a, Skep__NetworkPeer);

    skep__network_peer__init(p);
    p->node_id = networks_id(a, w->w[1]);
    p->hostname = text_of(w->w[2]);
    p->address = text_of(w->w[3]);
    for (size_t i = 4; i < w->count; i++) {
        if (strncmp(w->w[i], "instance=", 9) == 0)
            p->encryption_instance = w->w[i] + 9;
        else
            add(a, &p->networks, &p->n_networks, attachment(a, w->w[i]));
    }
    return p;
}

/* "publish=8080:80/tcp/ingress[/host ip]" */
static Skep__PortConfig *published(struct arena *a, char *word)
{
    Skep__PortConfig *p = ARENA_NEW(a, Skep__PortConfig);
    struct words w = split(word + strlen("publish="), "/");
    char *target;

    ASSERT(w.count >= 3);
    skep__port_config__init(p);
    p->published_port = (uint32_t)strtoul(w.w[0], &target, 10);
    p->target_port = (uint32_t)strtoul(target + 1, NULL, 10);
    p->protocol =
        strcmp(w.w[1], "udp") == 0 ? SKEP__PROTOCOL__PROTOCOL_UDP : SKEP__PROTOCOL__PROTOCOL_TCP;
    p->publish_mode = strcmp(w.w[2], "host") == 0 ? SKEP__PUBLISH_MODE__PUBLISH_HOST
                                                  : SKEP__PUBLISH_MODE__PUBLISH_INGRESS;
    if (w.count > 3)
        p->host_ip = w.w[3];
    return p;
}

static Skep__NetworkService *service(struct arena *a, const struct words *w)
{
    Skep__NetworkService *s = ARENA_NEW(a, Skep__NetworkService);

    skep__network_service__init(s);
    s->id = networks_id(a, w->w[1]);
    s->name = text_of(w->w[2]);
    s->mode = strcmp(w->w[3], "dnsrr") == 0 ? SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR
                                            : SKEP__ENDPOINT_MODE__ENDPOINT_VIP;
    for (size_t i = 4; i < w->count; i++) {
        if (strncmp(w->w[i], "publish=", 8) == 0) {
            add(a, &s->ports, &s->n_ports, published(a, w->w[i]));
            continue;
        }
        Skep__NetworkAttachment *n = attachment(a, w->w[i]);
        Skep__NetworkServiceAliases *names = ARENA_NEW(a, Skep__NetworkServiceAliases);

        skep__network_service_aliases__init(names);
        names->network_id = n->network_id;
        names->aliases = n->aliases;
        names->n_aliases = n->n_aliases;
        add(a, &s->aliases, &s->n_aliases, names);
        if (n->n_addresses == 0)
            continue;
        Skep__VirtualIp *v = ARENA_NEW(a, Skep__VirtualIp);

        skep__virtual_ip__init(v);
        v->network_id = n->network_id;
        v->address = n->addresses[0];
        add(a, &s->virtual_ips, &s->n_virtual_ips, v);
    }
    return s;
}

static Skep__NetworkEndpoint__State state_of(const char *word)
{
    if (strcmp(word, "STARTING") == 0)
        return SKEP__NETWORK_ENDPOINT__STATE__STARTING;
    if (strcmp(word, "DRAINING") == 0)
        return SKEP__NETWORK_ENDPOINT__STATE__DRAINING;
    ASSERT(strcmp(word, "UP") == 0);
    return SKEP__NETWORK_ENDPOINT__STATE__UP;
}

static Skep__NetworkEndpoint *endpoint(struct arena *a, const struct words *w)
{
    Skep__NetworkEndpoint *ep = ARENA_NEW(a, Skep__NetworkEndpoint);

    ASSERT(w->count >= 6);
    skep__network_endpoint__init(ep);
    ep->task_id = networks_id(a, w->w[1]);
    ep->name = text_of(w->w[2]);
    ep->service_id = networks_id(a, w->w[3]);
    ep->node_id = networks_id(a, w->w[4]);
    ep->state = state_of(w->w[5]);
    for (size_t i = 6; i < w->count; i++) {
        if (strncmp(w->w[i], "hostname=", 9) == 0)
            ep->hostname = w->w[i] + 9;
        else
            add(a, &ep->networks, &ep->n_networks, attachment(a, w->w[i]));
    }
    return ep;
}

static Skep__NetworkRecord *record(struct arena *a, const struct words *w)
{
    Skep__NetworkRecord *r = ARENA_NEW(a, Skep__NetworkRecord);

    skep__network_record__init(r);
    ASSERT(w->count >= 3);
    if (strcmp(w->w[0], "network") == 0) {
        r->record_case = SKEP__NETWORK_RECORD__RECORD_NETWORK;
        r->network = head(a, w);
    } else if (strcmp(w->w[0], "peer") == 0) {
        r->record_case = SKEP__NETWORK_RECORD__RECORD_PEER;
        r->peer = peer(a, w);
    } else if (strcmp(w->w[0], "service") == 0) {
        r->record_case = SKEP__NETWORK_RECORD__RECORD_SERVICE;
        r->service = service(a, w);
    } else {
        ASSERT(strcmp(w->w[0], "endpoint") == 0);
        r->record_case = SKEP__NETWORK_RECORD__RECORD_ENDPOINT;
        r->endpoint = endpoint(a, w);
    }
    return r;
}

static Skep__NetworkRecordRef *removed(struct arena *a, const struct words *w)
{
    static const char *const kinds[] = { "network", "peer", "service", "endpoint" };
    Skep__NetworkRecordRef *r = ARENA_NEW(a, Skep__NetworkRecordRef);

    skep__network_record_ref__init(r);
    ASSERT(w->count == 3);
    while (strcmp(kinds[r->kind], w->w[1]) != 0) {
        r->kind++;
        ASSERT(r->kind < ARRAY_LEN(kinds));
    }
    r->id = networks_id(a, w->w[2]);
    return r;
}

Skep__NetworksResponse *networks_parse(struct arena *a, const char *text)
{
    Skep__NetworksResponse *resp = ARENA_NEW(a, Skep__NetworksResponse);
    char *rest = arena_strdup(a, text);

    skep__networks_response__init(resp);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        struct words w = split(line, " ");

        if (w.count == 0)
            continue;
        if (strcmp(w.w[0], "complete") == 0)
            resp->complete = true;
        else if (strcmp(w.w[0], "more") == 0)
            resp->more = true;
        else if (strcmp(w.w[0], "removed") == 0)
            add(a, &resp->removed, &resp->n_removed, removed(a, &w));
        else
            add(a, &resp->records, &resp->n_records, record(a, &w));
    }
    return resp;
}

#include "agentd/net/encrypt_internal.h"

#include <inttypes.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"

#define TABLE "skep-encrypt"
enum { ENCRYPT_TEXT_MAX = 256 << 10 };

/* ---- life ---- */

static int open_tunnel(struct encrypt *x, struct err *e)
{
    struct err other = { 0 };

    if (wg_open(&x->wg, x->host_ns, e) == 0) {
        x->kind = "wireguard";
        return 0;
    }
    int rc = nl_open(&x->xfrm, NETLINK_XFRM, x->host_ns, &other);

    if (rc == 0)
        rc = xfrm_probe(&x->xfrm, &other);
    if (rc == 0)
        rc = encrypt_esp_instance(x, ENCRYPT_INSTANCE_LEARN, &other);
    if (rc == 0) {
        x->kind = "esp";
        return 0;
    }
    nl_close(&x->xfrm);
    (void)snprintf(x->why_none, sizeof(x->why_none),
                   "this host cannot encrypt networks: %.80s; %.80s", e->message, other.message);
    return 0;
}

struct encrypt *encrypt_new(int host_ns, struct err *e)
{
    struct encrypt *x = xcalloc(1, sizeof(*x));
    struct err why = { 0 };

    x->host_ns = host_ns;
    x->kind = "";
    x->rt = x->xfrm = x->wg.nl = (struct nl)NL_CLOSED;
    x->nft = nft_open(host_ns, e);
    if (x->nft == NULL || nl_open(&x->rt, NETLINK_ROUTE, host_ns, e) < 0 ||
        open_tunnel(x, &why) < 0) {
        encrypt_free(x, true);
        return NULL;
    }
    keeper_init(&x->table, x->nft, TABLE);
    return x;
}

static void secured_free(struct secured *s)
{
    for (unsigned slot = 0; slot < ENCRYPT_SLOTS; slot++) {
        wg_deinit(&s->wg[slot]);
        encrypt_forget_keys(&s->known[slot]);
    }
    xfrm_deinit(&s->esp);
    free(s->id);
    free(s);
}

static int sweep(struct encrypt *x, struct err *e)
{
    if (strcmp(x->kind, "wireguard") == 0)
        return encrypt_wg_sweep(x, e);
    return strcmp(x->kind, "esp") == 0 ? encrypt_esp_sweep(x, e) : 0;
}

void encrypt_free(struct encrypt *x, bool keep)
{
    struct err e = { 0 };

    if (x == NULL)
        return;
    for (size_t i = 0; i < x->count; i++)
        secured_free(x->items[i]);
    x->count = 0;
    free(x->items);
    x->items = NULL;
    x->ending = true;
    if (!keep && sweep(x, &e) < 0)
        log_warn("net.encrypt", "error=\"%s\" left=yes", e.message);
    if (!keep && x->nft != NULL)
        keeper_remove(&x->table);
    keeper_deinit(&x->table);
    if (x->nft != NULL)
        nft_close(x->nft);
    nl_close(&x->rt);
    nl_close(&x->xfrm);
    genl_close(&x->wg);
    free(x);
}

const char *encrypt_instance(const struct encrypt *x)
{
    return x != NULL ? x->instance : "";
}

const char *encrypt_kind(const struct encrypt *x)
{
    return x != NULL ? x->kind : "";
}

/* ---- which networks ---- */

static struct secured *secured_find(const struct encrypt *x, const char *id)
{
    for (size_t i = 0; i < x->count; i++)
        if (strcmp(x->items[i]->id, id) == 0)
            return x->items[i];
    return NULL;
}

const struct secured *encrypt_by_tag(const struct encrypt *x, uint32_t tag)
{
    for (size_t i = 0; i < x->count; i++)
        if (encrypt_tag(x->items[i]) == tag)
            return x->items[i];
    return NULL;
}

/* VNI and port of a network never change; should they all the same, it begins anew. */
static struct secured *secured_get(struct encrypt *x, const struct net_plan *p)
{
    struct secured *s = secured_find(x, p->id);

    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->id = xstrdup(p->id);
        x->items = xrealloc_array(x->items, x->count + 1, sizeof(struct secured *));
        x->items[x->count++] = s;
    }
    if (s->vni != p->vni || s->port != p->vxlan_port) {
        x->swept = x->swept && s->vni == 0;
        s->done = false;
    }
    s->vni = p->vni;
    s->port = p->vxlan_port;
    return s;
}

/* Everything that the wanted state is made from; equal means that nothing is to be computed. */
static void plan_digest(const struct encrypt *x, const struct net_plan *p, uint8_t ret[32])
{
    mbedtls_sha256_context c;

    mbedtls_sha256_init(&c);
    (void)mbedtls_sha256_starts_ret(&c, 0);
    const uint32_t numbers[] = { p->mtu, p->vxlan_port, p->vni, p->head->key_epoch,
                                 p->head->encryption_port };

    (void)mbedtls_sha256_update_ret(&c, (const void *)numbers, sizeof(numbers));
    (void)mbedtls_sha256_update_ret(&c, (const void *)&p->self_vtep, sizeof(p->self_vtep));
    (void)mbedtls_sha256_update_ret(&c, (const void *)x->instance, sizeof(x->instance));
    for (size_t i = 0; i < p->peer_count; i++) {
        (void)mbedtls_sha256_update_ret(&c, (const void *)p->peers[i].node_id,
                                        strlen(p->peers[i].node_id) + 1);
        (void)mbedtls_sha256_update_ret(&c, (const void *)&p->peers[i].vtep, sizeof(struct ip));
        (void)mbedtls_sha256_update_ret(&c, (const void *)p->peers[i].encryption_instance,
                                        strlen(p->peers[i].encryption_instance) + 1);
    }
    for (size_t i = 0; i < p->head->n_keys; i++) {
        (void)mbedtls_sha256_update_ret(&c, (const void *)&p->head->keys[i]->epoch, 4);
        (void)mbedtls_sha256_update_ret(&c, p->head->keys[i]->key.data, p->head->keys[i]->key.len);
    }
    (void)mbedtls_sha256_finish_ret(&c, ret);
    mbedtls_sha256_free(&c);
}

/* ---- the table ---- */

/* A rule of one network in each of two chains. */
static int add_rules(const struct encrypt *x, const struct secured *s, struct buf chains[2])
{
    char match[96], a[ENCRYPT_DEVICE_BYTES], b[ENCRYPT_DEVICE_BYTES];
    CLEANUP_FREE char *leave = NULL, *arrive = NULL;

    (void)snprintf(match, sizeof(match), "udp sport %u udp dport %u", s->port, s->port);
    encrypt_device(s->vni, 0, a);
    encrypt_device(s->vni, 1, b);
    if (strcmp(x->kind, "wireguard") == 0) {
        leave = xasprintf("%s oifname != { \"%s\", \"%s\" } drop\n", match, a, b);
        arrive = xasprintf("%s iifname != { \"%s\", \"%s\" } drop\n", match, a, b);
    } else if (strcmp(x->kind, "esp") == 0) {
        leave = xasprintf("%s rt ipsec missing drop\n", match);
        arrive = xasprintf("%s meta ipsec missing drop\n", match);
    } else {
        leave = xasprintf("%s drop\n", match);
        arrive = xasprintf("%s drop\n", match);
    }
    int rc = buf_append_str(&chains[0], leave);

    return rc == 0 ? buf_append_str(&chains[1], arrive) : rc;
}

static int table_apply(struct encrypt *x, struct err *e)
{
    struct buf chains[2] = { BUF_INIT(ENCRYPT_TEXT_MAX), BUF_INIT(ENCRYPT_TEXT_MAX) };
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < x->count; i++)
        rc = add_rules(x, x->items[i], chains);
    if (rc == 0) {
        CLEANUP_FREE char *text =
            xasprintf("chain leave { type filter hook postrouting priority filter;\n%s}\n"
                      "chain arrive { type filter hook input priority filter - 10;\n%s}\n",
                      buf_str(&chains[0]), buf_str(&chains[1]));

        rc = keeper_apply(&x->table, text, e);
    } else {
        rc = err_set(e, ERR_TOO_BIG, "more than %zu encrypted networks", x->count - 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(chains); i++)
        buf_deinit(&chains[i]);
    return rc;
}

/* ---- programming ---- */

static int check_plan(const struct encrypt *x, const struct net_plan *p, struct err *e)
{
    if (x->kind[0] == '\0')
        return err_set(e, ERR_UNSUPPORTED, "%s", x->why_none);
    if (p->self_vtep.family != IP_V4)
        return err_set(e, ERR_UNAVAILABLE, "encrypted networks need an IPv4 data path address");
    if (p->head->n_keys == 0 || p->head->encryption_port == 0)
        return err_set(e, ERR_UNAVAILABLE, "the managers have sent no keys yet");
    for (size_t i = 0; i < p->head->n_keys; i++)
        if (p->head->keys[i]->key.len != ENCRYPT_SECRET_BYTES)
            return err_set(e, ERR_PROTO, "a key of %zu bytes", p->head->keys[i]->key.len);
    for (size_t i = 0; i < p->peer_count; i++)
        if (p->peers[i].vtep.family != IP_V4)
            return err_set(e, ERR_UNSUPPORTED,
                           "encrypted networks need IPv4 data paths; node %s "
                           "has none",
                           p->peers[i].node_id);
    return 0;
}

static int program(struct encrypt *x, struct secured *s, bool write, struct err *e)
{
    return strcmp(x->kind, "wireguard") == 0 ? encrypt_wg_program(x, s, write, e)
                                             : encrypt_esp_program(x, s, write, e);
}

static int secure(struct encrypt *x, struct secured *s, struct err *e)
{
    int rc = check_plan(x, s->plan, e);

    s->mtu = s->plan->mtu;
    if (rc == 0)
        rc = strcmp(x->kind, "wireguard") == 0 ? encrypt_wg_want(x, s, e)
                                               : encrypt_esp_want(x, s, e);
    if (rc == 0)
        rc = program(x, s, true, e);
    return rc;
}

static void take_plan(struct encrypt *x, const struct net_plan *p)
{
    struct secured *s = secured_get(x, p);
    uint8_t digest[32];

    s->here = true;
    s->plan = p;
    plan_digest(x, p, digest);
    if (memcmp(digest, s->digest, sizeof(digest)) != 0) {
        memcpy(s->digest, digest, sizeof(digest));
        s->done = false;
    }
}

/* Networks that left: their VXLAN devices are gone already. */
static void drop_absent(struct encrypt *x)
{
    size_t kept = 0;

    for (size_t i = 0; i < x->count; i++) {
        if (x->items[i]->here) {
            x->items[kept++] = x->items[i];
            continue;
        }
        secured_free(x->items[i]);
        x->swept = false;
    }
    x->count = kept;
}

/* After the last one the table goes too; of one that an agent before this one made nothing but its
 * name is known. */
static void clean(struct encrypt *x)
{
    struct err e = { 0 };

    x->swept = sweep(x, &e) == 0;
    if (!x->swept)
        log_warn("net.encrypt", "error=\"%s\" next=retry", e.message);
    if (x->count == 0) {
        keeper_remove(&x->table);
        keeper_deinit(&x->table);
    }
}

static void set_problem(struct secured *s, int rc, const struct err *e)
{
    if (rc < 0 && strcmp(s->problem, e->message) != 0)
        log_warn("net.encrypt", "network=%s error=\"%s\" next=retry", s->id, e->message);
    (void)snprintf(s->problem, sizeof(s->problem), "%s", rc < 0 ? err_message(e, rc) : "");
    s->done = rc >= 0;
}

static void secure_all(struct encrypt *x)
{
    struct err table = { 0 };
    int closed = table_apply(x, &table); /* first: nothing leaves in clear */

    for (size_t i = 0; i < x->count; i++) {
        struct secured *s = x->items[i];
        struct err e = { 0 };

        if (closed < 0)
            set_problem(s, closed, &table);
        else if (!s->done && s->plan != NULL)
            set_problem(s, secure(x, s, &e), &e);
        s->plan = NULL;
    }
}

void encrypt_apply(struct encrypt *x, const struct net_plan *const *plans, size_t count,
                   bool complete, const char *self_node_id)
{
    if (x == NULL)
        return;
    x->self = self_node_id;
    for (size_t i = 0; i < x->count; i++)
        x->items[i]->here = false;
    for (size_t i = 0; i < count; i++)
        if (plans[i]->encrypted && plans[i]->vni != 0)
            take_plan(x, plans[i]);
    if (complete)
        drop_absent(x);
    if (x->count > 0)
        secure_all(x);
    if (complete && !x->swept)
        clean(x);
}

const char *encrypt_problem(const struct encrypt *x, const char *network_id)
{
    const struct secured *s = x != NULL ? secured_find(x, network_id) : NULL;

    if (s == NULL)
        return "its encryption is not set up yet";
    return s->done ? "" : s->problem;
}

int encrypt_check(struct encrypt *x, bool repair, struct differences *d, struct err *e)
{
    bool changed;

    if (x == NULL)
        return 0;
    int differing = 0, rc = keeper_check(&x->table, repair, d, &changed, e);

    if (rc < 0)
        return rc;
    differing += changed;
    for (size_t i = 0; i < x->count; i++) {
        struct secured *s = x->items[i];
        struct err why = { 0 };

        if (!s->done)
            continue;
        rc = program(x, s, repair, &why);
        if (rc > 0 && d != NULL) {
            d->network_id = s->id;
            differences_add(d, x->kind, "differs: keys, peers or routes", "vni %" PRIu32, s->vni);
        }
        if (rc < 0) {
            set_problem(s, rc, &why);
            s->digest[0] ^= 1; /* made anew by the next apply */
        }
        differing += rc != 0;
    }
    return differing;
}

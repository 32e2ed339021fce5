#include "agentd/net/xfrm.h"

#include <arpa/inet.h>
#include <linux/xfrm.h>
#include <mbedtls/platform_util.h>
#include <string.h>

#include "common/clock.h"

enum {
    REPLAY_WINDOW = 128, /* packets */
    ICV_BITS = 128,
    PRIORITY = 100,
    PRIORITY_BLOCK = 0x536b6570, /* after ours; tells that it is ours */
    PROBE_SPI = 0x00000fff,      /* below ENCRYPT_SPI_MIN: nobody's */
};
static const char algorithm[] = "rfc4106(gcm(aes))";

/* ---- sets ---- */

void xfrm_deinit(struct xfrm_set *s)
{
    if (s->sas != NULL)
        mbedtls_platform_zeroize(s->sas, s->sa_count * sizeof(*s->sas));
    free(s->sas);
    free(s->policies);
    memset(s, 0, sizeof(*s));
}

struct xfrm_sa *xfrm_add_sa(struct xfrm_set *s)
{
    s->sas = xrealloc_array(s->sas, s->sa_count + 1, sizeof(*s->sas));
    memset(&s->sas[s->sa_count], 0, sizeof(*s->sas));
    return &s->sas[s->sa_count++];
}

struct xfrm_policy *xfrm_add_policy(struct xfrm_set *s)
{
    s->policies = xrealloc_array(s->policies, s->policy_count + 1, sizeof(*s->policies));
    memset(&s->policies[s->policy_count], 0, sizeof(*s->policies));
    return &s->policies[s->policy_count++];
}

int xfrm_compare_sas(const struct xfrm_sa *a, const struct xfrm_sa *b)
{
    int order = ip_compare(&a->to, &b->to);

    if (order != 0)
        return order;
    return a->esp.spi < b->esp.spi ? -1 : a->esp.spi > b->esp.spi;
}

static int compare_sas(const void *a, const void *b)
{
    return xfrm_compare_sas(a, b);
}

static int compare_policies(const void *a, const void *b)
{
    const struct xfrm_policy *x = a, *y = b;
    int order = ip_compare(&x->to, &y->to);

    if (order == 0)
        order = ip_compare(&x->from, &y->from);
    return order != 0 ? order : (int)x->port - (int)y->port;
}

void xfrm_sort(struct xfrm_set *s)
{
    if (s->sa_count > 1)
        qsort(s->sas, s->sa_count, sizeof(*s->sas), compare_sas);
    if (s->policy_count > 1)
        qsort(s->policies, s->policy_count, sizeof(*s->policies), compare_policies);
}

/* ---- reading ---- */

typedef bool filter_fn(void *ctx, uint32_t tag, uint16_t port); /* 0: it does not say */

struct reading {
    struct xfrm_set *set;
    filter_fn *takes;
    void *ctx;
};

static int on_sa_attribute(const struct nlattr *a, void *ctx)
{
    struct xfrm_sa *sa = ctx;
    const struct xfrm_algo_aead *aead = mnl_attr_get_payload(a);

    if (mnl_attr_get_type(a) == XFRMA_ALG_AEAD &&
        mnl_attr_get_payload_len(a) == sizeof(*aead) + ENCRYPT_ESP_BYTES)
        memcpy(sa->esp.key, aead->alg_key, ENCRYPT_ESP_BYTES);
    return MNL_CB_OK;
}

static void on_sa(void *ctx, const struct nlmsghdr *h)
{
    struct reading *r = ctx;

    if (h == NULL || h->nlmsg_type != XFRM_MSG_NEWSA ||
        mnl_nlmsg_get_payload_len(h) < sizeof(struct xfrm_usersa_info))
        return;
    const struct xfrm_usersa_info *info = mnl_nlmsg_get_payload(h);

    if (info->family != AF_INET || info->id.proto != IPPROTO_ESP ||
        !r->takes(r->ctx, info->reqid, 0))
        return;
    struct xfrm_sa *sa = xfrm_add_sa(r->set);

    sa->from = ip_from_v4(&info->saddr.a4);
    sa->to = ip_from_v4(&info->id.daddr.a4);
    sa->esp.spi = ntohl(info->id.spi);
    sa->old =
        (int64_t)info->curlft.add_time + XFRM_KEEP_SECONDS < clock_wall_ns() / INT64_C(1000000000);
    (void)mnl_attr_parse(h, sizeof(*info), on_sa_attribute, sa);
}

static int on_policy_attribute(const struct nlattr *a, void *ctx)
{
    const struct xfrm_user_tmpl **tmpl = ctx;

    if (mnl_attr_get_type(a) == XFRMA_TMPL && mnl_attr_get_payload_len(a) == sizeof(**tmpl))
        *tmpl = mnl_attr_get_payload(a);
    return MNL_CB_OK;
}

static void on_policy(void *ctx, const struct nlmsghdr *h)
{
    struct reading *r = ctx;
    const struct xfrm_user_tmpl *tmpl = NULL;

    if (h == NULL || h->nlmsg_type != XFRM_MSG_NEWPOLICY ||
        mnl_nlmsg_get_payload_len(h) < sizeof(struct xfrm_userpolicy_info))
        return;
    const struct xfrm_userpolicy_info *info = mnl_nlmsg_get_payload(h);

    (void)mnl_attr_parse(h, sizeof(*info), on_policy_attribute, &tmpl);
    bool blocks = info->action == XFRM_POLICY_BLOCK && info->priority == PRIORITY_BLOCK;
    if (info->dir != XFRM_POLICY_OUT || info->sel.family != AF_INET ||
        info->sel.proto != IPPROTO_UDP || (tmpl == NULL && !blocks) ||
        !r->takes(r->ctx, tmpl != NULL ? tmpl->reqid : 0, ntohs(info->sel.dport)))
        return;
    struct xfrm_policy *p = xfrm_add_policy(r->set);

    p->port = ntohs(info->sel.dport);
    if (blocks)
        return;
    p->from = ip_from_v4(&info->sel.saddr.a4);
    p->to = ip_from_v4(&info->sel.daddr.a4);
    p->spi = ntohl(tmpl->id.spi);
}

static int read_all(struct nl *x, struct reading *r, struct err *e)
{
    struct xfrm_usersa_id any_sa = { 0 };
    struct xfrm_userpolicy_id any_policy = { 0 };
    struct nl_request ask;

    memset(r->set, 0, sizeof(*r->set));
    (void)nl_request(&ask, XFRM_MSG_GETSA, NLM_F_DUMP, &any_sa, sizeof(any_sa));
    int rc = nl_ask(x, &ask, on_sa, r, e);

    (void)nl_request(&ask, XFRM_MSG_GETPOLICY, NLM_F_DUMP, &any_policy, sizeof(any_policy));
    if (rc == 0)
        rc = nl_ask(x, &ask, on_policy, r, e);
    xfrm_sort(r->set);
    return rc < 0 ? err_wrap(e, rc, "read IPsec state") : 0;
}

static bool of_network(void *ctx, uint32_t tag, uint16_t port)
{
    const struct xfrm_scope *s = ctx;

    return tag != 0 ? tag == s->tag : port == s->port;
}

int xfrm_read(struct nl *x, const struct xfrm_scope *scope, struct xfrm_set *ret, struct err *e)
{
    struct xfrm_scope copy = *scope;
    struct reading r = { ret, of_network, &copy };

    return read_all(x, &r, e);
}

/* ---- writing ---- */

static xfrm_address_t address_of(const struct ip *ip)
{
    xfrm_address_t a = { 0 };

    memcpy(&a.a4, ip->bytes, sizeof(a.a4));
    return a;
}

static struct xfrm_lifetime_cfg for_ever(void)
{
    return (struct xfrm_lifetime_cfg){ .soft_byte_limit = XFRM_INF,
                                       .hard_byte_limit = XFRM_INF,
                                       .soft_packet_limit = XFRM_INF,
                                       .hard_packet_limit = XFRM_INF };
}

static void put_sa(struct nl *x, uint32_t tag, const struct xfrm_sa *sa)
{
    struct xfrm_usersa_info info = {
        .id = { .daddr = address_of(&sa->to), .spi = htonl(sa->esp.spi), .proto = IPPROTO_ESP },
        .saddr = address_of(&sa->from),
        .lft = for_ever(),
        .reqid = tag,
        .family = AF_INET,
        .mode = XFRM_MODE_TRANSPORT,
        .flags = XFRM_STATE_ESN
    };
    struct {
        struct xfrm_algo_aead aead;
        uint8_t key[ENCRYPT_ESP_BYTES];
    } crypt = { .aead = { .alg_key_len = ENCRYPT_ESP_BYTES * 8, .alg_icv_len = ICV_BITS } };
    struct {
        struct xfrm_replay_state_esn esn;
        uint32_t bits[REPLAY_WINDOW / 32];
    } replay = { .esn = { .bmp_len = REPLAY_WINDOW / 32, .replay_window = REPLAY_WINDOW } };
    struct nlmsghdr *h = nl_message(x, XFRM_MSG_NEWSA, 0, &info, sizeof(info), 0);

    memcpy(crypt.aead.alg_name, algorithm, sizeof(algorithm));
    memcpy(crypt.aead.alg_key, sa->esp.key, ENCRYPT_ESP_BYTES);
    mnl_attr_put(h, XFRMA_ALG_AEAD, sizeof(crypt.aead) + ENCRYPT_ESP_BYTES, &crypt);
    mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof(replay), &replay);
    mbedtls_platform_zeroize(&crypt, sizeof(crypt));
}

static void put_sa_removal(struct nl *x, const struct xfrm_sa *sa)
{
    struct xfrm_usersa_id id = { .daddr = address_of(&sa->to),
                                 .spi = htonl(sa->esp.spi),
                                 .family = AF_INET,
                                 .proto = IPPROTO_ESP };

    (void)nl_message(x, XFRM_MSG_DELSA, 0, &id, sizeof(id), 0);
}

static struct xfrm_selector selector_of(const struct xfrm_policy *p)
{
    return (struct xfrm_selector){ .daddr = address_of(&p->to),
                                   .saddr = address_of(&p->from),
                                   .sport = htons(p->port),
                                   .sport_mask = 0xffff,
                                   .dport = htons(p->port),
                                   .dport_mask = 0xffff,
                                   .family = AF_INET,
                                   .prefixlen_d = p->to.family != 0 ? 32 : 0,
                                   .prefixlen_s = p->from.family != 0 ? 32 : 0,
                                   .proto = IPPROTO_UDP };
}

static void put_policy(struct nl *x, uint32_t tag, const struct xfrm_policy *p)
{
    bool blocks = p->to.family == 0;
    struct xfrm_userpolicy_info info = { .sel = selector_of(p),
                                         .lft = for_ever(),
                                         .priority = blocks ? PRIORITY_BLOCK : PRIORITY,
                                         .dir = XFRM_POLICY_OUT,
                                         .action = blocks ? XFRM_POLICY_BLOCK : XFRM_POLICY_ALLOW };
    struct xfrm_user_tmpl tmpl = {
        .id = { .daddr = address_of(&p->to), .spi = htonl(p->spi), .proto = IPPROTO_ESP },
        .family = AF_INET,
        .saddr = address_of(&p->from),
        .reqid = tag,
        .mode = XFRM_MODE_TRANSPORT,
        .aalgos = UINT32_MAX,
        .ealgos = UINT32_MAX,
        .calgos = UINT32_MAX
    };
    struct nlmsghdr *h = nl_message(x, XFRM_MSG_UPDPOLICY, 0, &info, sizeof(info), 0);

    x->slots[x->count - 1].missing_ok = false; /* its number looks like a removal's */
    if (!blocks)
        mnl_attr_put(h, XFRMA_TMPL, sizeof(tmpl), &tmpl);
}

static void put_policy_removal(struct nl *x, const struct xfrm_policy *p)
{
    struct xfrm_userpolicy_id id = { .sel = selector_of(p), .dir = XFRM_POLICY_OUT };

    (void)nl_message(x, XFRM_MSG_DELPOLICY, 0, &id, sizeof(id), 0);
    x->slots[x->count - 1].missing_ok = true;
}

/* ---- differences ---- */

struct step { /* of a walk over two sorted arrays */
    size_t have, want;
    bool in_have, in_want;
};

static void step_order(struct step *s, size_t have_count, size_t want_count, int order)
{
    if (s->have == have_count)
        order = 1;
    else if (s->want == want_count)
        order = -1;
    s->in_have = order <= 0;
    s->in_want = order >= 0;
}

static int program_sas(struct nl *x, uint32_t tag, const struct xfrm_set *have,
                       const struct xfrm_set *want, int write)
{
    int differing = 0;

    for (struct step s = { 0 }; s.have < have->sa_count || s.want < want->sa_count;
         s.have += s.in_have, s.want += s.in_want) {
        const struct xfrm_sa *h = &have->sas[s.have], *w = &want->sas[s.want];

        step_order(&s, have->sa_count, want->sa_count,
                   s.have < have->sa_count && s.want < want->sa_count ? compare_sas(h, w) : 0);
        bool other =
            s.in_have && s.in_want && memcmp(h->esp.key, w->esp.key, sizeof(w->esp.key)) != 0;

        differing += !s.in_have || other || (!s.in_want && h->old);
        if (write > 0 && s.in_want && (!s.in_have || other)) {
            if (other)
                put_sa_removal(x, h);
            put_sa(x, tag, w);
        } else if (write < 0 && !s.in_want && h->old) {
            put_sa_removal(x, h);
        }
    }
    return differing;
}

static int program_policies(struct nl *x, uint32_t tag, const struct xfrm_set *have,
                            const struct xfrm_set *want, bool write)
{
    int differing = 0;

    for (struct step s = { 0 }; s.have < have->policy_count || s.want < want->policy_count;
         s.have += s.in_have, s.want += s.in_want) {
        const struct xfrm_policy *h = &have->policies[s.have], *w = &want->policies[s.want];

        step_order(&s, have->policy_count, want->policy_count,
                   s.have < have->policy_count && s.want < want->policy_count
                       ? compare_policies(h, w)
                       : 0);
        bool put = s.in_want && (!s.in_have || h->spi != w->spi);

        differing += put || !s.in_want;
        if (write && put)
            put_policy(x, tag, w);
        else if (write && !s.in_want)
            put_policy_removal(x, h);
    }
    return differing;
}

int xfrm_program(struct nl *x, uint32_t tag, const struct xfrm_set *have,
                 const struct xfrm_set *want, bool write, struct err *e)
{
    int differing = program_sas(x, tag, have, want, write ? 1 : 0);

    differing += program_policies(x, tag, have, want, write);
    if (write) /* associations that nothing uses any more go last */
        (void)program_sas(x, tag, have, want, -1);
    int rc = nl_commit_all(x, e, "set up IPsec");

    return rc < 0 ? rc : differing;
}

int xfrm_probe(struct nl *x, struct err *e)
{
    struct xfrm_sa sa = { .esp = { .spi = PROBE_SPI } };

    sa.from = ip_from_v4((const uint8_t[]){ 127, 0, 0, 1 });
    sa.to = ip_from_v4((const uint8_t[]){ 127, 0, 0, 2 });
    put_sa(x, PROBE_SPI, &sa);
    put_sa_removal(x, &sa);
    return nl_commit_all(x, e, "try IPsec");
}

static bool is_left(void *ctx, uint32_t tag, uint16_t port)
{
    const struct xfrm_broom *b = ctx;

    return (tag == 0 || (tag & 0xff000000) == b->tag_base) && !b->keep(b->ctx, tag, port);
}

int xfrm_sweep(struct nl *x, const struct xfrm_broom *b, struct err *e)
{
    struct xfrm_broom copy = *b;
    struct xfrm_set left, none = { 0 };
    struct reading r = { &left, is_left, &copy };
    int rc = read_all(x, &r, e);

    for (size_t i = 0; i < left.sa_count; i++)
        left.sas[i].old |= b->all;
    if (rc == 0)
        rc = xfrm_program(x, 0, &left, &none, true, e);
    xfrm_deinit(&left);
    return rc < 0 ? rc : 0;
}

#include "managerd/ca/ca.h"

#include <string.h>
#include <uthash.h>

#include "common/token.h"
#include "common/x509.h"

/* Tokens of a bucket are counted in thousandths, so that slow refills are exact. */
struct bucket {
    uint64_t milli;
    uint64_t filled_ms;
};

struct source {
    char address[64];
    struct bucket bucket;
    UT_hash_handle hh;
};

struct ca_policy {
    struct bucket total;
    struct source *sources; /* oldest first */
    uint64_t refused_rate, refused_token;
};

struct ca_policy *ca_policy_new(void)
{
    return xcalloc(1, sizeof(struct ca_policy));
}

void ca_policy_free(struct ca_policy *p)
{
    struct source *s, *next;

    if (p == NULL)
        return;
    HASH_ITER(hh, p->sources, s, next)
    {
        HASH_DEL(p->sources, s);
        free(s);
    }
    free(p);
}

static bool bucket_take(struct bucket *b, uint64_t burst, uint64_t per_second, uint64_t now_ms)
{
    if (b->filled_ms == 0)
        b->milli = burst * 1000;
    else
        b->milli = MIN(burst * 1000, b->milli + (now_ms - b->filled_ms) * per_second);
    b->filled_ms = MAX(now_ms, (uint64_t)1);
    if (b->milli < 1000)
        return false;
    b->milli -= 1000;
    return true;
}

/* The port says nothing about the source. */
static struct source *source_of(struct ca_policy *p, const char *address)
{
    char host[sizeof(((struct source *)0)->address)];
    struct source *s;

    (void)snprintf(host, sizeof(host), "%s", address);
    char *colon = strrchr(host, ':');
    if (colon != NULL)
        *colon = '\0';
    HASH_FIND_STR(p->sources, host, s);
    if (s != NULL)
        return s;
    if (HASH_COUNT(p->sources) >= CA_SOURCES_MAX) {
        s = p->sources;
        HASH_DEL(p->sources, s);
        free(s);
    }
    s = xcalloc(1, sizeof(*s));
    memcpy(s->address, host, sizeof(host));
    HASH_ADD_STR(p->sources, address, s);
    return s;
}

static int check_rate(struct ca_policy *p, const struct core_env *env, const char *source,
                      struct err *e)
{
    struct source *s = source_of(p, source);

    if (!bucket_take(&s->bucket, CA_ENROL_PER_SOURCE, 1, env->now_ms) ||
        !bucket_take(&p->total, CA_ENROL_TOTAL, CA_ENROL_TOTAL_PER_SECOND, env->now_ms)) {
        p->refused_rate++;
        return err_set(e, ERR_RATE, "too many attempts to join; try again in a few seconds");
    }
    return 0;
}

static int check_token(struct ca_policy *p, const Skep__Cluster *cluster, const char *token,
                       Skep__NodeRole *ret_role, struct err *e)
{
    /* Both are always compared: the time taken tells nothing. */
    bool worker = token_matches(token, cluster->join_token_worker);
    bool manager = token_matches(token, cluster->join_token_manager);

    if (!worker && !manager) {
        p->refused_token++;
        return err_set(e, ERR_PERMISSION,
                       "invalid join token: it is not, or no longer, a token of this cluster; "
                       "'ctl swarm join-token worker' on a manager shows the current one");
    }
    *ret_role = manager ? SKEP__NODE_ROLE__ROLE_MANAGER : SKEP__NODE_ROLE__ROLE_WORKER;
    return 0;
}

static int check_csr(ProtobufCBinaryData csr, struct err *e)
{
    int rc =
        csr.len == 0 ? err_set(e, ERR_INVALID, "missing") : x509_check_csr(csr.data, csr.len, e);

    return rc < 0 ? err_wrap(e, rc, "csr_pem") : 0;
}

int ca_check_enrol(struct ca_policy *p, const struct core_env *env, const char *source,
                   const Skep__EnrolRequest *req, Skep__NodeRole *ret_role, struct err *e)
{
    const Skep__Cluster *cluster = store_cluster(env->store);
    int rc = check_rate(p, env, source, e);

    if (rc == 0 && cluster == NULL)
        rc = err_set(e, ERR_UNAVAILABLE, "the cluster is still being created; try again");
    if (rc == 0)
        rc = check_token(p, cluster, req->token, ret_role, e);
    if (rc == 0)
        rc = check_csr(req->csr_pem, e);
    return rc;
}

int ca_check_renew(struct ca_policy *p, const struct core_env *env, const char *node_id,
                   const Skep__CertificateRenewRequest *req, Skep__NodeRole *ret_role,
                   struct err *e)
{
    const Skep__Node *node = store_node(env->store, node_id);

    (void)p; /* a member's renewals are not limited */
    if (node == NULL)
        return err_set(e, ERR_PERMISSION, "node %s was removed from this cluster", node_id);
    *ret_role = node->role;
    return check_csr(req->csr_pem, e);
}

int64_t ca_renew_at(int64_t not_before_ns, int64_t not_after_ns, struct prng *prng)
{
    uint64_t life = not_after_ns > not_before_ns ? (uint64_t)(not_after_ns - not_before_ns) : 0;

    return not_before_ns + (int64_t)prng_range(prng, life / 2, life / 10 * 8 + 1);
}

void ca_counters(const struct ca_policy *p, uint64_t *ret_rate, uint64_t *ret_token)
{
    *ret_rate = p->refused_rate;
    *ret_token = p->refused_token;
}

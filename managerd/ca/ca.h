/* Certificate policy: who may get which certificate. Pure; signing is common/x509.h's.
 * swarmkit ca/server.go; features.md 3.13; reliability.md N31-N41. */
#ifndef SKEP_MANAGERD_CA_CA_H
#define SKEP_MANAGERD_CA_CA_H

#include "managerd/store/core.h"
#include "proto/ca.pb-c.h"

enum {
    CA_ENROL_PER_SOURCE = 20, /* burst per source address; one more per second */
    CA_ENROL_TOTAL = 200,     /* burst over all sources; CA_ENROL_TOTAL_PER_SECOND more */
    CA_ENROL_TOTAL_PER_SECOND = 50,
    CA_SOURCES_MAX = 4096,
};

struct ca_policy;
struct ca_policy *ca_policy_new(void);
void ca_policy_free(struct ca_policy *p);

/* A stranger with a token and a CSR. source: ip:port. *ret_role is what the token gives.
 * -ERR_RATE, -ERR_PERMISSION (token; compared in constant time), -ERR_INVALID (CSR). Wrong tokens
 * count against the source and are never written anywhere. */
int ca_check_enrol(struct ca_policy *p, const struct core_env *env, const char *source,
                   const Skep__EnrolRequest *req, Skep__NodeRole *ret_role,
                   struct err *e) MUST_CHECK;
/* A node renews its own certificate: *ret_role is its role in the store. -ERR_PERMISSION when the
 * node was removed. */
int ca_check_renew(struct ca_policy *p, const struct core_env *env, const char *node_id,
                   const Skep__CertificateRenewRequest *req, Skep__NodeRole *ret_role,
                   struct err *e) MUST_CHECK;
/* Wall time of the next renewal: drawn between 50 % and 80 % of the life. */
int64_t ca_renew_at(int64_t not_before_ns, int64_t not_after_ns, struct prng *prng);
/* Refused so far, by reason. */
void ca_counters(const struct ca_policy *p, uint64_t *ret_rate, uint64_t *ret_token);

#endif

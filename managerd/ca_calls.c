/* Enrolment and certificate renewal. The store decides who gets what role (managerd/ca); signing
 * runs on the worker thread, because P-256 takes milliseconds. */
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/x509.h"
#include "managerd/ca/ca.h"
#include "managerd/control/validate.h"
#include "managerd/manager.h"
#include "proto/ca.pb-c.h"

/* One certificate on its way: request → (node in the store) → signature → answer. */
struct issue_job {
    struct incoming *in;
    struct id node_id;
    Skep__NodeRole role;
    bool enrol;
    char *ca_pem, *ca_key; /* copies: the root may rotate meanwhile */
    size_t ca_key_size;
    ProtobufCBinaryData csr; /* in the request */
    struct tls_identity identity;
    int64_t now_ns;
    struct buf pem;
    int rc;
    struct err err;
    struct issue_job *prev, *next; /* of those at the worker */
};

static void job_free(struct issue_job *j)
{
    free(j->ca_pem);
    xfree_secret(j->ca_key, j->ca_key_size);
    buf_deinit(&j->pem);
    free(j);
}

static void job_fail(struct issue_job *j, int rc, const struct err *e)
{
    incoming_fail(j->in, rc, e);
    job_free(j);
}

static void job_sign(void *arg)
{
    struct issue_job *j = arg;
    struct x509_ca *ca = x509_ca_new(j->ca_pem, j->ca_key, &j->err);
    struct x509_issue issue = {
        .csr_pem = j->csr.data, .csr_size = j->csr.len, .identity = j->identity, .now_ns = j->now_ns
    };

    j->rc = ca == NULL ? -ERR_INTERNAL : x509_ca_issue(ca, &issue, &j->pem, &j->err);
    x509_ca_free(ca);
}

static void answer_enrol(struct issue_job *j)
{
    struct incoming *in = j->in;
    Skep__EnrolResponse answer = SKEP__ENROL_RESPONSE__INIT;

    answer.node_id = j->node_id.s;
    answer.certificate_pem = (ProtobufCBinaryData){ .len = j->pem.size, .data = j->pem.data };
    answer.root_ca_pem =
        (ProtobufCBinaryData){ .len = strlen(j->ca_pem), .data = (uint8_t *)j->ca_pem };
    answer.role = j->role;
    answer.n_managers = peers_addresses(in->manager, &in->arena, &answer.managers);
    incoming_reply(in, &answer.base);
}

static void answer_renew(struct issue_job *j)
{
    Skep__CertificateRenewResponse answer = SKEP__CERTIFICATE_RENEW_RESPONSE__INIT;

    answer.certificate_pem = (ProtobufCBinaryData){ .len = j->pem.size, .data = j->pem.data };
    answer.root_ca_pem =
        (ProtobufCBinaryData){ .len = strlen(j->ca_pem), .data = (uint8_t *)j->ca_pem };
    answer.role = j->role;
    incoming_reply(j->in, &answer.base);
}

static void on_signed(void *ctx, void *arg)
{
    struct issue_job *j = arg;

    (void)ctx; /* the job knows its manager */
    DL_DELETE(j->in->manager->signing, j);
    if (j->in->call == NULL) { /* answered by ca_calls_drop() */
        incoming_free(j->in);
        job_free(j);
        return;
    }
    if (j->rc < 0) {
        job_fail(j, j->rc, &j->err);
        return;
    }
    log_info("ca.issue", "node=%s role=%s", j->node_id.s,
             j->role == SKEP__NODE_ROLE__ROLE_MANAGER ? "manager" : "worker");
    if (j->enrol)
        answer_enrol(j);
    else
        answer_renew(j);
    job_free(j);
}

/* The node object is committed: the certificate may exist. */
static void on_node_stored(void *ctx, int rc, const struct err *e)
{
    struct issue_job *j = ctx;
    struct err busy = { 0 };

    if (rc < 0) {
        job_fail(j, rc, e);
        return;
    }
    if (worker_submit(j->in->manager->worker, job_sign, on_signed, NULL, j) < 0) {
        (void)err_set(&busy, ERR_BUSY, "too many certificates are being signed; try again");
        job_fail(j, -ERR_BUSY, &busy);
        return;
    }
    DL_APPEND(j->in->manager->signing, j);
}

/* The worker reads the requests, so they stay; their calls go with the listeners. */
void ca_calls_drop(struct manager *m)
{
    const struct err e = { .code = ERR_UNAVAILABLE,
                           .message = "this manager is leaving or stopping" };
    struct issue_job *j;

    DL_FOREACH(m->signing, j)
    {
        if (j->in->call != NULL)
            calls_fail(TAKE_PTR(j->in->call), -ERR_UNAVAILABLE, &e);
    }
}

static struct issue_job *job_new(struct incoming *in, const char *node_id, Skep__NodeRole role,
                                 ProtobufCBinaryData csr)
{
    struct manager *m = in->manager;
    const Skep__Cluster *cluster = store_cluster(m->store);
    struct issue_job *j = xcalloc(1, sizeof(*j));

    j->in = in;
    j->node_id = id_from_str(node_id);
    j->role = role;
    j->csr = csr;
    j->now_ns = clock_wall_ns();
    j->ca_pem = xstrndup((const char *)cluster->root_ca->certificate_pem.data,
                         cluster->root_ca->certificate_pem.len);
    j->ca_key =
        xstrndup((const char *)cluster->root_ca->key_pem.data, cluster->root_ca->key_pem.len);
    j->ca_key_size = cluster->root_ca->key_pem.len;
    j->identity.node = j->node_id;
    j->identity.cluster = id_from_str(cluster->id);
    j->identity.role = role == SKEP__NODE_ROLE__ROLE_MANAGER ? TLS_ROLE_MANAGER : TLS_ROLE_WORKER;
    j->identity.not_after_ns = j->now_ns + cluster->spec->certificate_expiry;
    buf_init(&j->pem, X509_PEM_BYTES_MAX);
    return j;
}

void root_ca_call(struct incoming *in)
{
    struct manager *m = in->manager;
    Skep__RootCaResponse answer = SKEP__ROOT_CA_RESPONSE__INIT;
    const char *pem = m->identity->root_ca_pem;

    answer.certificate_pem = (ProtobufCBinaryData){ .len = strlen(pem), .data = (uint8_t *)pem };
    incoming_reply(in, &answer.base);
}

static void create_node(struct store_tx *tx, const struct issue_job *j,
                        const Skep__EnrolRequest *req)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;

    spec.annotations = &annotations;
    spec.desired_role = j->role;
    spec.availability = req->availability;
    /* Until an agent describes the host, which on a dedicated manager never happens. */
    description.hostname = req->hostname;
    if (req->hostname[0] != '\0' && control_validate_description(&description, NULL) == 0)
        node.description = &description;
    status.since = j->now_ns;
    node.id = (char *)j->node_id.s;
    node.spec = &spec;
    node.status = &status;
    node.role = j->role;
    node.certificate_expires_at = j->identity.not_after_ns;
    store_tx_create(tx, &node.base);
}

void enrol_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__EnrolRequest *req = (const Skep__EnrolRequest *)in->request;
    struct core_env env = manager_env(m);
    Skep__NodeRole role = SKEP__NODE_ROLE__ROLE_WORKER;
    struct err e = { 0 };
    int rc = ca_check_enrol(m->ca, &env, in->caller.address, req, &role, &e);

    if (rc < 0) {
        log_warn("ca.enrol_refused", "from=%s error=\"%s\"", in->caller.address, e.message);
        incoming_fail(in, rc, &e);
        return;
    }
    struct id node_id = id_from_prng(&m->prng);
    struct issue_job *j = job_new(in, node_id.s, role, req->csr_pem);
    struct store_tx *tx = store_tx_new();

    j->enrol = true;
    create_node(tx, j, req);
    leader_propose(m, tx, in->has_request_id ? in->request_id : NULL, on_node_stored, j);
    store_tx_free(tx);
}

void renew_call(struct incoming *in)
{
    struct manager *m = in->manager;
    const Skep__CertificateRenewRequest *req = (const Skep__CertificateRenewRequest *)in->request;
    struct core_env env = manager_env(m);
    Skep__NodeRole role = SKEP__NODE_ROLE__ROLE_WORKER;
    struct err e = { 0 };
    int rc = ca_check_renew(m->ca, &env, in->caller.node_id, req, &role, &e);

    if (rc < 0) {
        log_warn("ca.renew_refused", "node=%s error=\"%s\"", in->caller.node_id, e.message);
        incoming_fail(in, rc, &e);
        return;
    }
    struct issue_job *j = job_new(in, in->caller.node_id, role, req->csr_pem);
    struct store_tx *tx = store_tx_new();
    const Skep__Node *old = store_node(m->store, in->caller.node_id);
    Skep__Node node = *old;

    node.certificate_expires_at = j->identity.not_after_ns;
    store_tx_update(tx, &node.base, old->meta->version, 0);
    leader_propose(m, tx, NULL, on_node_stored, j);
    store_tx_free(tx);
}

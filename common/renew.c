#include "common/renew.h"

#include <string.h>

#include "common/x509.h"
#include "proto/ca.pb-c.h"

enum { RENEW_DEADLINE_MS = 15000 };

struct renewal {
    char *state_dir;
    struct tls_identity current;
    struct buf key;
    renew_done_fn *done;
    void *ctx;
};

static void renewal_free(struct renewal *r)
{
    if (r->key.data != NULL)
        explicit_bzero(r->key.data, r->key.size);
    buf_deinit(&r->key);
    free(r->state_dir);
    free(r);
}

/* A manager's answer decides our role, but never who we are. */
static int check_answer(const struct renewal *r, const char *pem, struct err *e)
{
    struct tls_identity id;
    int rc = x509_identity(pem, &id, e);

    if (rc < 0)
        return err_wrap(e, rc, "certificate in the answer");
    if (!id_equal(&id.node, &r->current.node) || !id_equal(&id.cluster, &r->current.cluster))
        return err_set(e, ERR_PROTO, "the answer's certificate is for node %s, not for us",
                       id.node.s);
    return 0;
}

static int store_answer(struct renewal *r, const Skep__CertificateRenewResponse *a, struct err *e)
{
    CLEANUP_BUF struct buf pem = BUF_INIT(X509_PEM_BYTES_MAX), root = BUF_INIT(X509_PEM_BYTES_MAX);
    int rc = buf_append(&pem, a->certificate_pem.data, a->certificate_pem.len);

    if (rc == 0)
        rc = buf_append(&root, a->root_ca_pem.data, a->root_ca_pem.len);
    if (rc < 0)
        return err_set(e, ERR_TOO_BIG, "certificates of more than %d bytes", X509_PEM_BYTES_MAX);
    rc = check_answer(r, buf_str(&pem), e);
    if (rc == 0)
        rc = buf_append(&pem, r->key.data, r->key.size);
    if (rc == 0)
        rc = identity_check(buf_str(&pem), buf_str(&root), e);
    if (rc == 0)
        rc = identity_save(r->state_dir, buf_str(&pem), buf_str(&root), e);
    if (pem.data != NULL)
        explicit_bzero(pem.data, pem.size);
    return rc;
}

static void on_answer(void *ctx, int rc, const Skep__Response *response, const struct err *e)
{
    struct renewal *r = ctx;
    struct err err = *e;
    ProtobufCMessage *answer = NULL;

    if (rc == 0)
        rc = rpc_decode(&response->body, &skep__certificate_renew_response__descriptor, &answer,
                        &err);
    if (rc == 0)
        rc = store_answer(r, (const Skep__CertificateRenewResponse *)answer, &err);
    if (answer != NULL)
        protobuf_c_message_free_unpacked(answer, NULL);
    r->done(r->ctx, rc, &err);
    renewal_free(r);
}

int renew_start(struct rpc_client *client, const char *state_dir, const struct identity *current,
                renew_done_fn *done, void *ctx, struct err *e)
{
    struct renewal *r = xcalloc(1, sizeof(*r));
    CLEANUP_BUF struct buf csr = BUF_INIT(X509_PEM_BYTES_MAX);
    Skep__CertificateRenewRequest req = SKEP__CERTIFICATE_RENEW_REQUEST__INIT;

    r->state_dir = xstrdup(state_dir);
    r->current = current->tls;
    r->done = done;
    r->ctx = ctx;
    buf_init(&r->key, X509_PEM_BYTES_MAX);
    int rc = x509_generate_key(&r->key, e);
    if (rc == 0)
        rc = x509_create_csr(buf_str(&r->key), &csr, e);
    if (rc == 0) {
        struct rpc_request call = { .method = SKEP__METHOD__METHOD_CERTIFICATE_RENEW,
                                    .body = &req.base,
                                    .deadline_ms = RENEW_DEADLINE_MS };

        req.csr_pem = (ProtobufCBinaryData){ .len = csr.size, .data = csr.data };
        rc = rpc_call_start(client, &call, on_answer, r, e);
    }
    if (rc < 0)
        renewal_free(r);
    return rc;
}

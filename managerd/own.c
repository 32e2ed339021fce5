#include "managerd/own.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/identity.h"
#include "common/x509.h"

enum { ADDRESSES_BYTES_MAX = 4096 };

static int issue(const struct own_identity *o, const struct buf *key, struct buf *ret_pem,
                 struct err *e)
{
    CLEANUP_BUF struct buf csr = BUF_INIT(X509_PEM_BYTES_MAX);
    struct x509_ca *ca = x509_ca_new(o->root_pem, o->root_key, e);
    struct x509_issue issue = { .now_ns = o->now_ns };
    int rc = ca == NULL ? -ERR_INTERNAL : x509_create_csr(buf_str(key), &csr, e);

    if (rc == 0) {
        issue.csr_pem = csr.data;
        issue.csr_size = csr.size;
        issue.identity = (struct tls_identity){ .node = o->node,
                                                .cluster = o->cluster,
                                                .role = TLS_ROLE_MANAGER,
                                                .not_after_ns = o->now_ns + o->life_ns };
        rc = x509_ca_issue(ca, &issue, ret_pem, e);
    }
    x509_ca_free(ca);
    return rc;
}

int own_identity_save(const struct own_identity *o, struct err *e)
{
    CLEANUP_BUF struct buf key = BUF_INIT(X509_PEM_BYTES_MAX), pem = BUF_INIT(X509_PEM_BYTES_MAX);
    char *own_address[] = { (char *)(uintptr_t)o->advertise }; /* only read */
    int rc = x509_generate_key(&key, e);

    if (rc == 0)
        rc = issue(o, &key, &pem, e);
    if (rc == 0)
        rc = identity_save_managers(o->state_dir, own_address, 1, e);
    if (rc == 0)
        rc = buf_append(&pem, key.data, key.size);
    if (rc == 0)
        rc = identity_save(o->state_dir, buf_str(&pem), o->root_pem, e);
    if (key.data != NULL)
        explicit_bzero(key.data, key.size);
    if (pem.data != NULL)
        explicit_bzero(pem.data, pem.size);
    return rc;
}

int own_addresses_save(const char *state_dir, const char *listen, const char *advertise,
                       struct err *e)
{
    CLEANUP_FREE char *text = xasprintf("%s\n%s\n", listen, advertise);

    CLEANUP_FREE char *path = xasprintf("%s/managerd.addresses", state_dir);
    CLEANUP_BUF struct buf old = BUF_INIT(ADDRESSES_BYTES_MAX);

    /* Every start comes here: one on a full disk must not need a write. */
    if (buf_read_file(&old, path, NULL) == 0 && strcmp(buf_str(&old), text) == 0)
        return 0;
    return buf_replace_file(state_dir, "managerd.addresses", text, e);
}

void own_generation_add(const struct store *s, uint64_t generation, const char *own_id,
                        struct store_tx *tx)
{
    const Skep__Cluster *old = store_cluster(s);
    const ProtobufCMessage *o;

    if (old != NULL) {
        Skep__Cluster cluster = *old;

        cluster.generation = generation;
        store_tx_update(tx, &cluster.base, 0, 0);
    }
    for (o = store_first(s, SKEP__KIND__KIND_NODE); o != NULL;
         o = store_after(s, SKEP__KIND__KIND_NODE, object_id(o))) {
        Skep__Node node = *(const Skep__Node *)o;
        Skep__NodeSpec spec = *node.spec;

        if (strcmp(node.id, own_id) == 0 || spec.desired_role != SKEP__NODE_ROLE__ROLE_MANAGER)
            continue;
        spec.desired_role = SKEP__NODE_ROLE__ROLE_WORKER;
        node.spec = &spec;
        node.role = SKEP__NODE_ROLE__ROLE_WORKER;
        node.manager = NULL;
        store_tx_update(tx, &node.base, 0, 0);
    }
}

void own_node_add(const struct tls_identity *id, Skep__NodeAvailability availability,
                  struct store_tx *tx)
{
    Skep__Node node = SKEP__NODE__INIT;
    Skep__NodeSpec spec = SKEP__NODE_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__NodeStatus status = SKEP__NODE_STATUS__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    char hostname[HOST_NAME_MAX + 1] = "";

    /* Until an agent describes the host, which on a dedicated manager never happens. */
    if (gethostname(hostname, sizeof(hostname) - 1) == 0) {
        description.hostname = hostname;
        node.description = &description;
    }
    spec.annotations = &annotations;
    spec.desired_role = SKEP__NODE_ROLE__ROLE_MANAGER;
    spec.availability = availability;
    node.id = (char *)(uintptr_t)id->node.s; /* only read: copied */
    node.spec = &spec;
    node.status = &status;
    node.role = SKEP__NODE_ROLE__ROLE_MANAGER;
    node.certificate_expires_at = id->not_after_ns;
    store_tx_create(tx, &node.base);
}

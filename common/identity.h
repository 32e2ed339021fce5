/* The host's one identity, shared by managerd and agentd: <state-dir>/identity/ with
 *
 *   node.pem   certificate chain (leaf first) and private key, 0600, replaced atomically
 *   ca.pem     the cluster's root certificate(s)
 *   managers   known manager addresses, host:port per line
 *   generation highest generation of the cluster that this host has served, missing: none
 *
 * The directory is ours and 0700; a symlink, a foreign owner or open modes are refused. Loop
 * thread. */
#ifndef SKEP_COMMON_IDENTITY_H
#define SKEP_COMMON_IDENTITY_H

#include "common/err.h"
#include "common/mem.h"
#include "common/tls.h"

enum { IDENTITY_MANAGERS_MAX = 32, IDENTITY_ADDRESS_CHARS_MAX = 127 };

struct identity {
    struct tls_identity tls; /* node, cluster, role, expiry: from the certificate */
    int64_t not_before_ns;
    char *node_pem; /* chain and key */
    char *root_ca_pem;
    char *managers[IDENTITY_MANAGERS_MAX];
    size_t manager_count;
    uint64_t generation;
};

/* -ERR_NOT_FOUND: this host belongs to no cluster. An expired certificate loads (renewal and the
 * error message need it). */
int identity_load(const char *state_dir, struct identity **ret, struct err *e) MUST_CHECK;
void identity_free(struct identity *id);
/* What a manager issued must serve before it replaces anything: chain to the root, valid now by
 * this host's clock, the key fits. */
int identity_check(const char *node_pem, const char *root_ca_pem, struct err *e) MUST_CHECK;
/* Writes node.pem and ca.pem durably, ca.pem first. */
int identity_save(const char *state_dir, const char *node_pem, const char *root_ca_pem,
                  struct err *e) MUST_CHECK;
/* Save the first list before the identity: whoever waits for node.pem then finds it there. */
int identity_save_managers(const char *state_dir, char *const *addresses, size_t count,
                           struct err *e) MUST_CHECK;
int identity_save_generation(const char *state_dir, uint64_t generation, struct err *e) MUST_CHECK;
/* The host leaves: the whole directory goes. Missing is success. */
int identity_remove(const char *state_dir, struct err *e) MUST_CHECK;
/* Differs whenever node.pem was replaced, appeared or went (inode and times hashed); 0 = none. */
uint64_t identity_stamp(const char *state_dir);

#endif

/* Keys of encrypted networks. The managers give a network one secret per epoch, to the nodes that
 * have a task in it and to nobody else; everything else is derived from it, so that no node has to
 * tell another anything: WireGuard's key pairs (of every node of the network), and one ESP key and
 * SPI per direction between two nodes. HKDF-SHA256 (RFC 5869), X25519 (RFC 7748). */
#ifndef SKEP_AGENTD_NET_ENCRYPT_KEYS_H
#define SKEP_AGENTD_NET_ENCRYPT_KEYS_H

#include <stdint.h>

#include "common/err.h"
#include "common/ip.h"

enum {
    ENCRYPT_SECRET_BYTES = 32,
    ENCRYPT_X25519_BYTES = 32,
    ENCRYPT_ESP_BYTES = 36, /* AES-256-GCM and its salt (RFC 4106) */
    ENCRYPT_SPI_MIN = 0x1000,
};

struct encrypt_secret { /* of one network and epoch */
    const char *network_id;
    uint32_t epoch;
    uint8_t key[ENCRYPT_SECRET_BYTES];
};

struct encrypt_pair {
    uint8_t private_key[ENCRYPT_X25519_BYTES], public_key[ENCRYPT_X25519_BYTES];
};

/* The pair of one node. */
int encrypt_wireguard_pair(const struct encrypt_secret *s, const char *node_id,
                           struct encrypt_pair *ret, struct err *e) MUST_CHECK;

struct encrypt_esp {
    uint32_t spi;
    uint8_t key[ENCRYPT_ESP_BYTES];
};
struct encrypt_end {
    struct ip vtep;
    const char *instance; /* of its IPsec state: NodeNetwork.encryption_instance */
};
/* What goes from one VXLAN address to another. */
int encrypt_esp_key(const struct encrypt_secret *s, const struct encrypt_end *from,
                    const struct encrypt_end *to, struct encrypt_esp *ret,
                    struct err *e) MUST_CHECK;

/* RFC 7748 §5: the public key of a private one (clamped here). */
int encrypt_x25519_public(const uint8_t private_key[ENCRYPT_X25519_BYTES],
                          uint8_t ret[ENCRYPT_X25519_BYTES], struct err *e) MUST_CHECK;

#endif

#include "agentd/net/encrypt_keys.h"

#include <mbedtls/ecp.h>
#include <mbedtls/hkdf.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <string.h>

/* HKDF with the network as salt; the info names purpose, epoch and whose key it is. */
static int derive(const struct encrypt_secret *s, const char *info, uint8_t *ret, size_t size,
                  struct err *e)
{
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);

    if (mbedtls_hkdf(sha256, (const uint8_t *)s->network_id, strlen(s->network_id), s->key,
                     sizeof(s->key), (const uint8_t *)info, strlen(info), ret, size) != 0)
        return err_set(e, ERR_INTERNAL, "derive the keys of network %s", s->network_id);
    return 0;
}

static void clamp(uint8_t k[ENCRYPT_X25519_BYTES])
{
    k[0] &= 248;
    k[31] = (uint8_t)((k[31] & 127) | 64);
}

/* Q = dG on Curve25519; both are little-endian on the wire. The scalar is used for one public
 * product on this host, so no blinding. */
static int base_multiple(const uint8_t d[ENCRYPT_X25519_BYTES], uint8_t ret[ENCRYPT_X25519_BYTES])
{
    mbedtls_ecp_group group;
    mbedtls_ecp_point q;
    mbedtls_mpi scalar;
    int rc;

    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&q);
    mbedtls_mpi_init(&scalar);
    rc = mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_CURVE25519);
    if (rc == 0)
        rc = mbedtls_mpi_read_binary_le(&scalar, d, ENCRYPT_X25519_BYTES);
    if (rc == 0)
        rc = mbedtls_ecp_mul(&group, &q, &scalar, &group.G, NULL, NULL);
    if (rc == 0)
        rc = mbedtls_mpi_write_binary_le(&q.X, ret, ENCRYPT_X25519_BYTES);
    mbedtls_mpi_free(&scalar);
    mbedtls_ecp_point_free(&q);
    mbedtls_ecp_group_free(&group);
    return rc;
}

int encrypt_x25519_public(const uint8_t private_key[ENCRYPT_X25519_BYTES],
                          uint8_t ret[ENCRYPT_X25519_BYTES], struct err *e)
{
    uint8_t d[ENCRYPT_X25519_BYTES];
    int rc;

    memcpy(d, private_key, sizeof(d));
    clamp(d);
    rc = base_multiple(d, ret);
    mbedtls_platform_zeroize(d, sizeof(d));
    return rc == 0 ? 0 : err_set(e, ERR_INTERNAL, "X25519 failed: %d", rc);
}

int encrypt_wireguard_pair(const struct encrypt_secret *s, const char *node_id,
                           struct encrypt_pair *ret, struct err *e)
{
    char info[128];
    int rc;

    (void)snprintf(info, sizeof(info), "skep wireguard %u %s", s->epoch, node_id);
    rc = derive(s, info, ret->private_key, sizeof(ret->private_key), e);
    if (rc < 0)
        return rc;
    clamp(ret->private_key);
    return encrypt_x25519_public(ret->private_key, ret->public_key, e);
}

int encrypt_esp_key(const struct encrypt_secret *s, const struct encrypt_end *from,
                    const struct encrypt_end *to, struct encrypt_esp *ret, struct err *e)
{
    char info[320], a[IP_CHARS + 1], b[IP_CHARS + 1];
    uint8_t material[4 + ENCRYPT_ESP_BYTES];
    int rc;

    (void)snprintf(info, sizeof(info), "skep esp %u %s %.64s %s %.64s", s->epoch,
                   ip_format(&from->vtep, a), from->instance, ip_format(&to->vtep, b),
                   to->instance);
    rc = derive(s, info, material, sizeof(material), e);
    if (rc == 0) {
        ret->spi = (uint32_t)material[0] << 24 | (uint32_t)material[1] << 16 |
                   (uint32_t)material[2] << 8 | material[3];
        ret->spi = ret->spi < ENCRYPT_SPI_MIN ? ret->spi + ENCRYPT_SPI_MIN : ret->spi;
        memcpy(ret->key, material + 4, sizeof(ret->key));
    }
    mbedtls_platform_zeroize(material, sizeof(material));
    return rc;
}

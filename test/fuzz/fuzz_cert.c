/* Certificates and CSRs of strangers (common/x509.h): nothing crashes, and an identity that is
 * accepted is one that we could have issued. The first byte says what follows: PEM text, or the DER
 * of a certificate or of a CSR, which is wrapped in PEM here so that mutations reach the parser. */
#include <mbedtls/pem.h>
#include <string.h>

#include "common/assert.h"
#include "common/x509.h"

enum { INPUT_MAX = 6000, PEM_MAX = 2 * INPUT_MAX };
enum shape { SHAPE_TEXT, SHAPE_CERTIFICATE, SHAPE_CSR, SHAPE_COUNT };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_certificate(const char *pem)
{
    char digest[TOKEN_DIGEST_CHARS + 1];
    struct tls_identity id;
    int64_t from_ns, to_ns;
    struct err e;

    if (x509_identity(pem, &id, &e) == 0) {
        ASSERT(id_valid(id.node.s));
        ASSERT(id_valid(id.cluster.s));
        ASSERT(id.role == TLS_ROLE_MANAGER || id.role == TLS_ROLE_WORKER);
        ASSERT(x509_validity(pem, &from_ns, &to_ns, &e) == 0);
        ASSERT(to_ns == id.not_after_ns);
        ASSERT(from_ns >= 0);
    } else {
        ASSERT(e.message[0] != '\0');
    }
    if (x509_root_digest(pem, digest, &e) == 0)
        ASSERT(strlen(digest) == TOKEN_DIGEST_CHARS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char pem[PEM_MAX];
    size_t pem_size = 0;
    struct err e;

    if (size == 0 || size > INPUT_MAX || data[0] >= SHAPE_COUNT)
        return 0;
    if (data[0] == SHAPE_TEXT) {
        memcpy(pem, data + 1, size - 1);
        pem[size - 1] = '\0';
    } else {
        bool csr = data[0] == SHAPE_CSR;

        ASSERT(mbedtls_pem_write_buffer(
                   csr ? "-----BEGIN CERTIFICATE REQUEST-----\n" : "-----BEGIN CERTIFICATE-----\n",
                   csr ? "-----END CERTIFICATE REQUEST-----\n" : "-----END CERTIFICATE-----\n",
                   data + 1, size - 1, (unsigned char *)pem, sizeof(pem), &pem_size) == 0);
    }
    if (data[0] != SHAPE_CSR)
        check_certificate(pem);
    if (data[0] != SHAPE_CERTIFICATE && x509_check_csr(pem, strlen(pem), &e) < 0)
        ASSERT(e.message[0] != '\0');
    return 0;
}

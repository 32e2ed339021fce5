/* Between tls.c (credentials), tls_engine.c (nng's side) and rpc*.c: what nng's types are needed
 * for. nng hands an engine nothing but PEM texts and shows nothing of it but one flag, so both
 * directions go through thread-local slots that live for the length of one call: the context goes
 * in with tls_config_new(), the peer comes out with tls_stream_peer().
 *
 * Engine callbacks run on nng's threads, one at a time per connection. */
#ifndef SKEP_COMMON_TLS_ENGINE_H
#define SKEP_COMMON_TLS_ENGINE_H

#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crt.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/tls.h"

enum { TLS_ADDRESS_CHARS_MAX = 128 };

/* What a context's options became; immutable, shared by the connections made with it. */
struct tls_credentials {
    atomic_uint refs;
    struct tls_context *context; /* outlives: whoever holds credentials holds the context */
    enum tls_peer_check check;
    bool has_own;
    struct tls_identity own;
    char root_digest[64]; /* "" without roots */
    mbedtls_x509_crt roots, chain;
    mbedtls_pk_context key;
    mbedtls_ssl_config server, client;
    struct tls_tickets *tickets;
};

/* Registers the engine with nng; nng is initialised on the way. */
int tls_engine_register(struct err *e) MUST_CHECK;

/* A config for nng's stream dialers and listeners. address names the remote end of a dialer: its
 * sessions are kept under it. Returns NULL with e set. Freed with nng_tls_config_free(). */
nng_tls_config *tls_config_new(struct tls_context *t, nng_tls_mode mode, const char *address,
                               struct err *e);

struct tls_peer {
    bool handshake_done; /* and the peer accepted */
    bool resumed;
    bool has_identity; /* false where no certificate is asked for */
    struct tls_identity identity;
    struct err why; /* why the handshake failed, if it did; code 0 otherwise */
};
/* State of a TLS stream; false for one that is not TLS. Any thread. */
bool tls_stream_peer(nng_stream *s, struct tls_peer *ret);

/* tls.c for tls_engine.c */
void tls_context_ref(struct tls_context *t);
void tls_context_unref(struct tls_context *t);
/* The current credentials, with references on them and on the context. */
struct tls_credentials *tls_credentials_get(struct tls_context *t);
void tls_credentials_put(struct tls_credentials *c);
int64_t tls_context_now(const struct tls_context *t);
void tls_context_count(struct tls_context *t, const struct tls_peer *peer);
/* The rules for a peer's leaf, apart from its chain. server_side: this end is the server. */
int tls_check_peer(const struct tls_credentials *c, const mbedtls_x509_crt *leaf, bool server_side,
                   struct tls_identity *ret, struct err *e) MUST_CHECK;
/* 0, or the MBEDTLS_X509_BADCERT_* flag that says how now is outside of a validity. */
uint32_t tls_check_time(const struct tls_context *t, const mbedtls_x509_crt *crt);
bool tls_context_is_removed(struct tls_context *t, const struct id *node);
/* Session of an address, copied into ssl; false when there is none to resume. */
bool tls_session_load(const struct tls_credentials *c, const char *address,
                      mbedtls_ssl_context *ssl);
void tls_session_save(const struct tls_credentials *c, const char *address,
                      const mbedtls_ssl_context *ssl);
void tls_session_forget(struct tls_context *t, const char *address);

#endif

#include "common/rpc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/rpc_conn.h"

/* nng's threads start with the first use and stay: nng_fini() may pull the ground from under a
 * connection that is still being freed, and a process that ends needs no such thing. */
static int library_start(struct err *e)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool started;
    int rc = 0;

    (void)pthread_mutex_lock(&lock);
    if (!started) {
        /* nng starts several threads per core; an arena for each of them would cost more than the
         * rest of an idle daemon. */
        (void)mallopt(M_ARENA_MAX, 2);
        rc = tls_engine_register(e);
        started = rc == 0;
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

struct rpc *rpc_new(struct loop *l, struct err *e)
{
    struct rpc *rpc = xcalloc(1, sizeof(*rpc));

    rpc->loop = l;
    buf_init(&rpc->scratch, RPC_MESSAGE_BYTES_MAX);
    rpc->inbox = inbox_new(l, RPC_INBOX_RECORDS_MAX, e);
    if (rpc->inbox == NULL || library_start(e) < 0) {
        inbox_free(rpc->inbox);
        free(rpc);
        return NULL;
    }
    return rpc;
}

static void dig_up(void *ctx, uint64_t now_ms)
{
    struct rpc *rpc = ctx;

    (void)now_ms;
    for (struct rpc_grave *g; (g = rpc->graves) != NULL; free(g)) {
        rpc->graves = g->next;
        free(g->mem);
    }
}

void rpc_bury(struct rpc *rpc, void *mem)
{
    struct rpc_grave *g = xmalloc(sizeof(*g));

    *g = (struct rpc_grave){ .next = rpc->graves, .mem = mem };
    rpc->graves = g;
    if (!loop_timer_armed(&rpc->graves_timer))
        loop_timer_set(rpc->loop, &rpc->graves_timer, 0, dig_up, rpc);
}

void rpc_free(struct rpc *rpc)
{
    if (rpc == NULL)
        return;
    loop_timer_cancel(rpc->loop, &rpc->graves_timer);
    dig_up(rpc, 0);
    inbox_free(rpc->inbox);
    buf_deinit(&rpc->scratch);
    free(rpc);
}

const char *rpc_address_of(const char *url)
{
    const char *at = strstr(url, "://");

    return at != NULL ? at + 3 : url;
}

int rpc_nng_err(struct err *e, int nng_rc)
{
    switch (nng_rc) {
    case NNG_ECONNREFUSED:
        return err_set(e, ERR_UNAVAILABLE, "connection refused");
    case NNG_ENOENT:
        return err_set(e, ERR_NOT_FOUND, "no such file or directory");
    case NNG_EUNREACHABLE:
        return err_set(e, ERR_UNAVAILABLE, "host or network unreachable");
    case NNG_ETIMEDOUT:
        return err_set(e, ERR_UNAVAILABLE, "no answer");
    case NNG_ECONNSHUT:
    case NNG_ECONNRESET:
    case NNG_ECONNABORTED:
    case NNG_ECLOSED:
        return err_set(e, ERR_UNAVAILABLE, "connection closed by the other side");
    case NNG_EADDRINVAL:
        return err_set(e, ERR_UNAVAILABLE, "the name does not resolve");
    case NNG_EPERM:
        return err_set(e, ERR_PERMISSION, "permission denied");
    case NNG_EADDRINUSE:
        return err_set(e, ERR_EXISTS, "address in use");
    case NNG_ENOFILES:
        return err_set(e, ERR_BUSY, "too many open files");
    case NNG_EPEERAUTH:
    case NNG_ECRYPTO:
        return err_set(e, ERR_UNAUTHENTICATED, "TLS handshake failed");
    default:
        return err_set(e, ERR_UNAVAILABLE, "%s", nng_strerror(nng_rc));
    }
}

#include "agentd/net/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <nftables/libnftables.h>
#include <string.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/nl.h"
#include "common/clock.h"

/* After it, the kernel has freed what the transaction removed, and closing the socket is free. */
static const uint64_t REST_NS = 200000000;

struct nft {
    int ns;              /* -1: the thread's own */
    struct nft_ctx *ctx; /* since the last command, for REST_NS at least; NULL = none */
    uint64_t used_ns;    /* when that was */
    struct nl netlink;   /* for the generation */
};

static struct nft *resting; /* the only one that has a context between two commands */

static void context_free(struct nft *n)
{
    if (resting == n)
        resting = NULL;
    if (n->ctx != NULL)
        nft_ctx_free(n->ctx);
    n->ctx = NULL;
}

void nft_close(struct nft *n)
{
    if (n == NULL)
        return;
    context_free(n);
    if (n->ns >= 0)
        (void)close(n->ns);
    nl_close(&n->netlink);
    free(n);
}

static int context_in(void *ctx, struct err *e)
{
    struct nft *n = ctx;

    n->ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    if (n->ctx == NULL || nft_ctx_buffer_output(n->ctx) != 0 || nft_ctx_buffer_error(n->ctx) != 0)
        return err_set(e, ERR_UNAVAILABLE, "nftables: no context");
    return 0;
}

/* Its socket is in the namespace it was made in. */
static int context(struct nft *n, struct err *e)
{
    int rc;

    if (resting != NULL && resting != n)
        context_free(resting);
    rc = n->ctx != NULL ? 0 : netns_inside(n->ns, context_in, n, e);
    if (rc < 0)
        context_free(n);
    else
        resting = n;
    return rc;
}

struct nft *nft_open(int ns, struct err *e)
{
    struct nft *n = xcalloc(1, sizeof(*n));

    int rc = 0;

    n->netlink = (struct nl)NL_CLOSED;
    n->ns = ns < 0 ? -1 : fcntl(ns, F_DUPFD_CLOEXEC, 0);
    if (ns >= 0 && n->ns < 0)
        rc = err_errno(e, errno, "nftables: namespace");
    if (rc == 0)
        rc = nl_open(&n->netlink, NETLINK_NETFILTER, ns, e);
    if (rc == 0)
        rc = context(n, e);
    context_free(n);
    if (rc < 0) {
        nft_close(n);
        return NULL;
    }
    return n;
}

/* nft's first line says what is wrong; the rest repeats the text. */
static int failed(struct nft *n, struct err *e)
{
    const char *text = nft_ctx_get_error_buffer(n->ctx);
    const char *line = strstr(text, "Error: ");
    int width;

    line = line != NULL ? line + strlen("Error: ") : text;
    width = (int)MIN(strcspn(line, "\n"), (size_t)160);
    return err_set(e,
                   strstr(text, strerror(ENOENT)) != NULL    ? ERR_NOT_FOUND
                   : strstr(text, strerror(EPERM)) != NULL   ? ERR_PERMISSION
                   : strstr(text, strerror(ENOBUFS)) != NULL ? ERR_BUSY
                                                             : ERR_IO,
                   "nftables: %.*s", width, line[0] != '\0' ? line : "failed");
}

int nft_apply(struct nft *n, const char *text, struct err *e)
{
    int rc = context(n, e);

    if (rc == 0 && nft_run_cmd_from_buffer(n->ctx, text) != 0)
        rc = failed(n, e);
    n->used_ns = clock_now_ns();
    return rc;
}

static int dump(struct nft *n, const char *table, json_t **ret, struct err *e)
{
    CLEANUP_FREE char *command = xasprintf("list table ip %s", table);
    json_error_t problem;
    json_t *root, *items;

    nft_ctx_output_set_flags(n->ctx, NFT_CTX_OUTPUT_JSON);
    if (nft_run_cmd_from_buffer(n->ctx, command) != 0)
        return failed(n, e);
    root = json_loads(nft_ctx_get_output_buffer(n->ctx), 0, &problem);
    if (root == NULL)
        return err_set(e, ERR_PROTO, "nftables: list of table %s: %s", table, problem.text);
    items = json_object_get(root, "nftables");
    if (!json_is_array(items)) {
        json_decref(root);
        return err_set(e, ERR_PROTO, "nftables: list of table %s has no objects", table);
    }
    *ret = json_incref(items);
    json_decref(root);
    return 0;
}

int nft_dump(struct nft *n, const char *table, json_t **ret, struct err *e)
{
    int rc = context(n, e);

    if (rc == 0)
        rc = dump(n, table, ret, e);
    n->used_ns = clock_now_ns();
    return rc;
}

static void on_generation(void *ctx, const struct nlmsghdr *m)
{
    const struct nlattr *a;
    uint32_t *ret = ctx;

    if (m == NULL)
        return;
    mnl_attr_for_each(a, m, sizeof(struct nfgenmsg))
    {
        if (mnl_attr_get_type(a) == NFTA_GEN_ID && mnl_attr_get_payload_len(a) >= sizeof(*ret))
            *ret = ntohl(mnl_attr_get_u32(a));
    }
}

int nft_generation(struct nft *n, uint32_t *ret, struct err *e)
{
    const struct nfgenmsg head = { .nfgen_family = AF_UNSPEC };
    struct nl_request r;
    uint32_t generation = 0;
    int rc;

    if (n->ctx != NULL && clock_now_ns() - n->used_ns > REST_NS)
        context_free(n);
    (void)nl_request(&r, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, &head, sizeof(head));
    rc = nl_ask(&n->netlink, &r, on_generation, &generation, e);
    if (rc < 0)
        return err_wrap(e, rc, "nftables: generation");
    *ret = generation;
    return 0;
}

#include "ctl/client.h"

#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "common/random.h"
#include "common/text.h"

struct client {
    struct client_transport t;
    uint32_t timeout_ms;
    struct arena arena; /* for the advice */
    const char *advice;
};

struct client *client_new(const struct client_transport *t, uint32_t timeout_ms)
{
    struct client *c = xcalloc(1, sizeof(*c));

    c->t = *t;
    c->timeout_ms = timeout_ms;
    c->advice = "";
    return c;
}

void client_close(struct client *c)
{
    if (c == NULL)
        return;
    if (c->t.free != NULL)
        c->t.free(c->t.ctx);
    arena_deinit(&c->arena);
    free(c);
}

const char *client_advice(const struct client *c)
{
    return c->advice;
}

void client_catch_interrupt(struct client *c)
{
    if (c->t.catch_interrupt != NULL)
        c->t.catch_interrupt(c->t.ctx);
}

uint64_t client_now_ms(const struct client *c)
{
    return c->t.now_ms(c->t.ctx);
}

int client_sleep(struct client *c, uint32_t ms, struct err *e)
{
    uint64_t until = client_now_ms(c) + ms;

    for (uint64_t now = client_now_ms(c); now < until; now = client_now_ms(c)) {
        int rc = c->t.wait(c->t.ctx, (uint32_t)(until - now), e);

        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- messages in the arena ---- */

static void *unpack_alloc(void *ctx, size_t size)
{
    return arena_alloc(ctx, size);
}

static void unpack_free(void *ctx, void *mem)
{
    (void)ctx; /* the arena frees everything at once */
    (void)mem;
}

ProtobufCMessage *client_unpack(struct arena *a, const ProtobufCMessageDescriptor *type,
                                const uint8_t *body, size_t size)
{
    ProtobufCAllocator allocator = { .alloc = unpack_alloc, .free = unpack_free };

    allocator.allocator_data = a;
    return protobuf_c_message_unpack(type, &allocator, size, body);
}

ProtobufCMessage *client_clone(struct arena *a, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = arena_alloc(a, size + 1);
    ProtobufCMessage *copy;

    (void)protobuf_c_message_pack(m, bytes);
    copy = client_unpack(a, m->descriptor, bytes, size);
    ASSERT(copy != NULL);
    return copy;
}

/* ---- what is wrong with the cluster ---- */

static void explain_member(FILE *b, const Skep__ManagerInfo *m, const char *self)
{
    char age[TEXT_SHORT_MAX];
    const char *name = m->hostname[0] != '\0' ? m->hostname : m->node_id;

    if (strcmp(m->node_id, self) == 0)
        (void)fprintf(b, "  %-16s %-22s this manager\n", name, m->address);
    else if (m->last_contact_ms < 0)
        (void)fprintf(b, "  %-16s %-22s not seen since this manager started\n", name, m->address);
    else
        (void)fprintf(b, "  %-16s %-22s last seen %s ago\n", name, m->address,
                      text_format_age(age, m->last_contact_ms * TEXT_NS_PER_MS));
}

static void explain_quorum(FILE *b, const Skep__InfoResponse *info)
{
    uint32_t voters = 0;

    for (size_t i = 0; i < info->n_members; i++)
        voters += info->members[i]->voter ? 1 : 0;
    (void)fprintf(b, "Managers:\n");
    for (size_t i = 0; i < info->n_members; i++)
        explain_member(b, info->members[i], info->node_id);
    if (voters > 0)
        (void)fprintf(b, "%" PRIu32 " of %" PRIu32 " managers must reach each other.\n",
                      voters / 2 + 1, voters);
    (void)fprintf(
        b,
        "Start managerd where it is down and check port %d/tcp between the managers. If a\n"
        "majority is lost for good, run 'ctl swarm init --force-new-cluster' on one survivor.\n"
        "Until then, ls, ps and inspect show with --stale what this manager last knew.\n",
        CLIENT_PORT);
}

const char *client_explain(struct arena *a, const Skep__InfoResponse *info)
{
    char *text = NULL;
    size_t size = 0;
    const char *copy;
    FILE *b = open_memstream(&text, &size);

    ASSERT(b != NULL);
    bool explained = !info->quorum && info->n_members > 0; /* member by member, below */

    if (info->error[0] != '\0' && !explained)
        (void)fprintf(b, "%s\n", info->error);
    if (info->state == SKEP__INFO_RESPONSE__STATE__INACTIVE)
        (void)fprintf(b, "This node is not part of a swarm. Use \"ctl swarm init\" or \"ctl "
                         "swarm join\" first.\n");
    else if (explained)
        explain_quorum(b, info);
    (void)fclose(b);
    copy = arena_strdup(a, text);
    free(text);
    return copy;
}

/* ---- calls ---- */

static void flight_drop(struct client_flight *f)
{
    if (f == NULL)
        return;
    if (!f->done) {
        f->abandoned = true;
        return;
    }
    free(f->body);
    free(f);
}

static int flight_start(struct client *c, const struct client_wire *w, struct client_flight **ret,
                        struct err *e)
{
    struct client_flight *f = xcalloc(1, sizeof(*f));
    int rc = c->t.start(c->t.ctx, w, f, e);

    if (rc < 0) {
        free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

/* Waits until f is done or the clock says until. */
static int flight_wait(struct client *c, const struct client_flight *f, uint64_t until_ms,
                       struct err *e)
{
    while (!f->done) {
        uint64_t now = client_now_ms(c);
        int rc;

        if (now >= until_ms)
            return 0;
        rc = c->t.wait(c->t.ctx, (uint32_t)MIN(until_ms - now, 60000), e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Asks the manager what it knows, without a quorum. NULL when it does not answer either. */
static const Skep__InfoResponse *ask_info(struct client *c)
{
    Skep__InfoRequest body = SKEP__INFO_REQUEST__INIT;
    struct client_wire w = { SKEP__METHOD__METHOD_INFO, &body.base, CLIENT_INFO_MS, NULL };
    struct client_flight *f = NULL;
    const Skep__InfoResponse *info = NULL;

    if (flight_start(c, &w, &f, NULL) < 0)
        return NULL;
    if (flight_wait(c, f, client_now_ms(c) + CLIENT_INFO_MS, NULL) == 0 && f->done && f->rc == 0)
        info = (const Skep__InfoResponse *)client_unpack(
            &c->arena, &skep__info_response__descriptor, f->body, f->body_size);
    flight_drop(f);
    return info;
}

static int no_answer(struct client *c, struct err *e)
{
    const char *why = c->t.diagnose != NULL ? c->t.diagnose(c->t.ctx) : "";

    c->advice = "Name another manager with --host HOST:PORT, or look at managerd's log there.\n";
    return err_set(e, ERR_UNAVAILABLE, "No answer from managerd at %.120s%s%.90s", c->t.name,
                   why[0] != '\0' ? ": " : "", why);
}

static int no_leader(struct client *c, const Skep__InfoResponse *info, struct err *e)
{
    c->advice = client_explain(&c->arena, info);
    return err_set(e, ERR_UNAVAILABLE,
                   "Error response from daemon: The swarm does not have a leader. It's possible "
                   "that too few managers are online. Make sure more than half of the managers are "
                   "online.");
}

static bool is_leaderless(const struct client_flight *f)
{
    return f->rc == -ERR_NOT_LEADER || f->rc == -ERR_UNAVAILABLE || f->rc == -ERR_STALE;
}

/* One attempt. *ret_flight is done on success (its rc may still be an error of the manager's). */
static int attempt(struct client *c, const struct client_request *r, const uint8_t *request_id,
                   uint64_t patience_until_ms, struct client_flight **ret_flight, struct err *e)
{
    struct client_wire w = {
        .method = r->method,
        .body = r->body,
        .deadline_ms = r->wait_ms > 0 ? r->wait_ms + CLIENT_PATIENCE_MS : c->timeout_ms,
        .request_id = request_id,
    };
    uint64_t deadline_ms =
        client_now_ms(c) + (r->grace_ms > 0 ? r->wait_ms + r->grace_ms : w.deadline_ms);
    const Skep__InfoResponse *info;
    int rc = flight_start(c, &w, ret_flight, e);

    if (rc < 0)
        return rc;
    rc = flight_wait(c, *ret_flight, r->wait_ms > 0 ? deadline_ms : patience_until_ms, e);
    if (rc < 0 || (*ret_flight)->done)
        return rc;
    if (r->grace_ms > 0)
        return err_set(e, ERR_TIMEOUT, "nothing new");
    info = ask_info(c);
    if ((*ret_flight)->done)
        return 0;
    if (info == NULL)
        return no_answer(c, e);
    if (info->state != SKEP__INFO_RESPONSE__STATE__INACTIVE && !info->quorum)
        return no_leader(c, info, e);
    rc = flight_wait(c, *ret_flight, deadline_ms, e);
    if (rc < 0 || (*ret_flight)->done)
        return rc;
    return err_set(e, ERR_TIMEOUT, "No answer from managerd at %.120s within %" PRIu32 " ms",
                   c->t.name, w.deadline_ms);
}

/* The manager said no: its words, and what it knows when the cluster has no leader. */
static int refused(struct client *c, const struct client_flight *f, struct err *e)
{
    const Skep__InfoResponse *info;

    if (!f->answered && f->rc != -ERR_UNAVAILABLE && f->rc != -ERR_TIMEOUT) {
        *e = f->e;
        return f->rc;
    }
    if (is_leaderless(f) || f->rc == -ERR_TIMEOUT) {
        info = ask_info(c);
        if (info == NULL && !f->answered)
            return no_answer(c, e);
        if (info != NULL && info->state != SKEP__INFO_RESPONSE__STATE__INACTIVE && !info->quorum)
            return no_leader(c, info, e);
        if (info != NULL && info->state != SKEP__INFO_RESPONSE__STATE__INACTIVE)
            c->advice = client_explain(&c->arena, info);
    }
    return err_set(e, (enum err_code) - f->rc, "Error response from daemon: %s",
                   err_message(&f->e, f->rc));
}

static int decode(const struct client_request *r, const struct client_flight *f, struct arena *a,
                  ProtobufCMessage **ret, struct err *e)
{
    ProtobufCMessage *m;

    if (r->answer == NULL || ret == NULL)
        return 0;
    m = client_unpack(a, r->answer, f->body, f->body_size);
    if (m == NULL)
        return err_set(e, ERR_PROTO,
                       "managerd's answer does not decode as %s; are ctl and managerd "
                       "of the same version?",
                       r->answer->short_name);
    *ret = m;
    return 0;
}

/* Without a leader it is worth asking again for as long as patience lasts, and beyond that while
 * the managers can still elect one. */
static bool worth_retrying(struct client *c, const struct client_request *r,
                           const struct client_flight *f, uint64_t start_ms,
                           uint64_t *patience_until_ms)
{
    uint64_t next_ms = client_now_ms(c) + CLIENT_RETRY_MS;
    const Skep__InfoResponse *info;

    if (!is_leaderless(f) || r->wait_ms > 0)
        return false;
    if (next_ms < *patience_until_ms)
        return true;
    if (!f->answered || next_ms >= start_ms + c->timeout_ms)
        return false;
    info = ask_info(c);
    if (info == NULL || info->state == SKEP__INFO_RESPONSE__STATE__INACTIVE || !info->quorum)
        return false;
    *patience_until_ms = client_now_ms(c) + CLIENT_PATIENCE_MS;
    return true;
}

int client_call(struct client *c, const struct client_request *r, struct arena *a,
                ProtobufCMessage **ret, struct err *e)
{
    uint64_t start_ms = client_now_ms(c), patience_until_ms = start_ms + CLIENT_PATIENCE_MS;
    uint8_t request_id[CLIENT_REQUEST_ID_BYTES];
    struct err own = { 0 };
    int rc;

    if (e == NULL)
        e = &own;
    if (r->mutation)
        random_bytes(request_id, sizeof(request_id));
    c->advice = "";
    for (;;) {
        struct client_flight *f = NULL;

        rc = attempt(c, r, r->mutation ? request_id : NULL, patience_until_ms, &f, e);
        if (rc == 0 && f->rc < 0) {
            if (worth_retrying(c, r, f, start_ms, &patience_until_ms)) {
                flight_drop(f);
                rc = client_sleep(c, CLIENT_RETRY_MS, e);
                if (rc < 0)
                    return rc;
                continue;
            }
            rc = refused(c, f, e);
        } else if (rc == 0) {
            rc = decode(r, f, a, ret, e);
        }
        flight_drop(f);
        return rc;
    }
}

/* ---- addresses ---- */

static bool is_ipv6(const char *host)
{
    const char *first = strchr(host, ':');

    return host[0] != '[' && first != NULL && strchr(first + 1, ':') != NULL;
}

int client_url(struct arena *a, const char *host, char **ret_url, struct err *e)
{
    const char *name = host;
    const char *colon;
    uint64_t port = CLIENT_PORT;

    if (strncmp(host, "unix://", 7) == 0) {
        if (host[7] != '/')
            return err_set(e, ERR_INVALID,
                           "invalid --host \"%.100s\": a socket needs an absolute path, as in "
                           "unix:///run/skep/control.sock",
                           host);
        *ret_url = arena_printf(a, "ipc://%s", host + 7);
        return 0;
    }
    if (host[0] == '/') {
        *ret_url = arena_printf(a, "ipc://%s", host);
        return 0;
    }
    if (strncmp(name, "tcp://", 6) == 0)
        name += 6;
    if (is_ipv6(name)) {
        *ret_url = arena_printf(a, "tls+tcp://[%s]:%d", name, CLIENT_PORT);
        return 0;
    }
    colon = name[0] == '[' ? strchr(name, ']') : name;
    colon = colon != NULL ? strchr(colon, ':') : NULL;
    if (colon != NULL && (text_parse_u64(colon + 1, &port, NULL) < 0 || port == 0 || port > 65535))
        return err_set(e, ERR_INVALID, "invalid --host \"%.100s\": the port is not 1 to 65535",
                       host);
    if (name[0] == '\0' || colon == name || strpbrk(name, "/ \t@") != NULL ||
        (name[0] == '[' && strchr(name, ']') == NULL))
        return err_set(e, ERR_INVALID, "invalid --host \"%.100s\": use unix:///PATH or HOST[:PORT]",
                       host);
    *ret_url = arena_printf(a, "tls+tcp://%.*s:%d",
                            (int)(colon != NULL ? colon - name : (ptrdiff_t)strlen(name)), name,
                            (int)port);
    return 0;
}

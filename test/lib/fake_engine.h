/* A Docker Engine that misbehaves on demand, on a unix socket, served by the test's own loop: rules
 * say how a request is answered, hung up on, dripped, flooded or answered with rubbish. The newest
 * matching rule wins; without one the answer is 404. Loop thread. */
#ifndef SKEP_TEST_LIB_FAKE_ENGINE_H
#define SKEP_TEST_LIB_FAKE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/loop.h"

enum fake_how {
    FAKE_ANSWER, /* status and body, with Content-Length */
    FAKE_HANG,   /* never answers */
    FAKE_RAW,    /* body verbatim, then closes the connection */
    FAKE_OPEN,   /* head and body in chunks, then the stream stays open: fake_engine_push() */
    FAKE_DRIP,   /* one byte of the body every FAKE_DRIP_MS */
    FAKE_FLOOD,  /* a body without end */
    FAKE_CUT,    /* closes in the middle of the body */
    FAKE_REFUSE, /* closes at once */
};

enum { FAKE_DRIP_MS = 20, FAKE_RULES_MAX = 64, FAKE_CONNECTIONS_MAX = 256 };

struct fake_rule {
    const char *match; /* how "METHOD /path?query" begins, without the version */
    enum fake_how how;
    unsigned status;  /* 0 = 200 */
    const char *body; /* NULL = "" */
    unsigned times;   /* uses left; 0 = for ever */
};

struct fake_engine;

/* Answers GET /_ping with API version 1.41 unless a rule says otherwise. Aborts on failure. */
struct fake_engine *fake_engine_new(struct loop *l, const char *socket_path);
void fake_engine_free(struct fake_engine *f);
void fake_engine_rule(struct fake_engine *f, const struct fake_rule *r); /* strings are borrowed */
/* Requests that began with match so far. */
unsigned fake_engine_count(const struct fake_engine *f, const char *match);
/* The body of the latest such request; "" without. */
const char *fake_engine_body(const struct fake_engine *f, const char *match);
/* The latest such request's head. */
const char *fake_engine_head(const struct fake_engine *f, const char *match);
/* More of every FAKE_OPEN stream whose request began with match. */
void fake_engine_push(struct fake_engine *f, const char *match, const char *data);
/* Closes every connection, as a restart does. */
void fake_engine_hang_up(struct fake_engine *f);
unsigned fake_engine_connections(const struct fake_engine *f);

/* ---- a model of containers behind the rules (fake_model.c) ---- */

enum {
    FAKE_CONTAINERS_MAX = 512,
    FAKE_PID = 4999999, /* of every container; more than any kernel gives */
};

struct fake_container {
    char id[65], name[200], task_id[32];
    char *create_body;
    bool running, removed; /* removed ones stay listed here */
    int exit_code;
    unsigned starts;
    const char *health;     /* NULL: no check */
    const char *hosts_path; /* NULL: "" */
    char connected[200];    /* ",name" per network connected after its creation */
};

enum { FAKE_NETWORKS_MAX = 16 };
struct fake_network {
    char id[65], name[64], network_id[32], cluster_id[32]; /* the last two from labels, or "" */
    bool removed;
};

/* From now on requests without a rule act on containers, images and events as an engine does.
 * Images are present when their name begins with "box"; they run ["serve"], those of "boxempty"
 * nothing. */
void fake_engine_model(struct fake_engine *f);
/* Faults on that share of requests, drawn from p (borrowed): refused before they take effect, cut
 * after they took effect, or answered with 500. ppm 0 ends them. */
struct prng;
void fake_engine_chaos(struct fake_engine *f, struct prng *p, uint32_t ppm);
/* NULL when there is none, else the latest of that task. */
struct fake_container *fake_engine_container(struct fake_engine *f, const char *task_id);
/* How many were ever created for a task; how many exist at all now. */
unsigned fake_engine_created(const struct fake_engine *f, const char *task_id);
unsigned fake_engine_existing(const struct fake_engine *f);
const struct fake_container *fake_engine_container_at(const struct fake_engine *f, unsigned i);
/* The latest network of that name that is there; NULL: none. And one made by others. */
struct fake_network *fake_engine_network(struct fake_engine *f, const char *name);
void fake_engine_foreign_network(struct fake_engine *f, const char *name);
/* The process ends, or its health changes: with the event, if there is a reader. */
void fake_engine_exit(struct fake_engine *f, struct fake_container *c, int exit_code);
void fake_engine_health(struct fake_engine *f, struct fake_container *c, const char *health);
/* A container that appears without the agent: as a leftover of earlier days. */
struct fake_container *fake_engine_leftover(struct fake_engine *f, const char *task_id,
                                            const char *cluster_id, const char *node_id);

#endif

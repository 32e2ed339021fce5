/* A manager behind ctl's transport, for tests: it keeps a few objects, answers the calls that ctl
 * makes of them, refuses as it is told, and notes what was sent. No threads, no clock of its own.
 */
#ifndef SKEP_TEST_LIB_CTL_FAKE_H
#define SKEP_TEST_LIB_CTL_FAKE_H

#include "common/arena.h"
#include "ctl/client.h"
#include "proto/control.pb-c.h"

#define FAKE_WEB "web00000000000000000000id"
#define FAKE_API "api00000000000000000000id"
#define FAKE_NET "net00000000000000000000id"
#define FAKE_NODE "node0000000000000000000id"
#define FAKE_NOW_NS (INT64_C(1767366245) * 1000000000) /* 2026-01-02T15:04:05Z */

enum { FAKE_OBJECTS_MAX = 16, FAKE_HELD_MAX = 64, FAKE_ARGS_MAX = 64 };

struct fake {
    struct arena arena;
    Skep__Object *objects[FAKE_OBJECTS_MAX];
    size_t object_count;
    uint64_t now_ms;
    bool silent;    /* nothing is answered but INFO */
    bool no_leader; /* INFO says so, the rest is refused but stale reads */
    int conflicts;  /* refuse that many updates with CONFLICT */
    int leaderless; /* refuse that many calls with NOT_LEADER */
    int mutations;
    uint8_t last_id[CLIENT_REQUEST_ID_BYTES];
    bool ids_differ;         /* a repeated mutation came with another request id */
    Skep__ServiceSpec *sent; /* by create or update */
    Skep__NetworkSpec *sent_network;
    const char *removed_network;
    const Skep__NetworkCheckResponse *check; /* the answer to network check */
    uint64_t sent_version;
    bool sent_rollback;
    struct client_flight *held[FAKE_HELD_MAX];
    size_t held_count;
};

/* One command's outcome; result_free() afterwards. */
struct result {
    int status;
    char *out, *err;
};

/* Two services, a node, two tasks of the service FAKE_WEB, and the overlay network "back" that the
 * running one is in. */
void fake_fill(struct fake *k);
/* Runs ctl with args (ended by NULL) against k, or against no transport at all when k is NULL. */
struct result fake_run(struct fake *k, const char *const args[]);
void result_free(struct result *r);
/* Frees what k holds; after looking at what was sent. */
void fake_deinit(struct fake *k);

#endif

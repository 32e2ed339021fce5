/* A store with a clock and an index for tests of cores: objects are built in one line, a
 * transaction is applied in one more. Ids are whatever the test calls them. */
#ifndef SKEP_TEST_LIB_FIXTURE_H
#define SKEP_TEST_LIB_FIXTURE_H

#include "common/arena.h"
#include "common/prng.h"
#include "managerd/store/store.h"

struct fixture {
    struct store *s;
    struct store_tx *tx;
    uint64_t index;  /* of the last transaction */
    int64_t wall_ns; /* one second later with each transaction */
    struct prng prng;
    struct err e;       /* of the last refusal */
    struct arena arena; /* what the builders below return */
};

void fixture_init(struct fixture *f, uint64_t seed);
void fixture_deinit(struct fixture *f);

/* Applies f->tx, packed and unpacked again as the log would, and clears it. */
int fixture_apply(struct fixture *f, store_event_fn *fn, void *ctx);

/* Messages in f->arena, complete enough to be stored; change them, then store_tx_create() or
 * fixture_add(). */
Skep__Node *fixture_node(struct fixture *f, const char *id, const char *hostname);
Skep__Service *fixture_service(struct fixture *f, const char *id, const char *name,
                               uint64_t replicas);
/* Of the service's current version when it is in the store. */
Skep__Task *fixture_task(struct fixture *f, const char *id, const char *service_id, uint64_t slot);
Skep__Secret *fixture_secret(struct fixture *f, const char *id, const char *name);
Skep__Cluster *fixture_cluster(struct fixture *f, const char *id);
/* A copy of a stored object to change and hand to store_tx_update(). */
void *fixture_edit(struct fixture *f, Skep__Kind kind, const char *id);

/* A transaction of its own. */
int fixture_add(struct fixture *f, const void *object);
int fixture_update(struct fixture *f, const void *object);
int fixture_remove(struct fixture *f, Skep__Kind kind, const char *id);
/* A task delta: 0, "" and -1 leave things as they are. */
int fixture_task_delta(struct fixture *f, const char *id, Skep__TaskState desired,
                       const char *node_id, int state);
char *fixture_str(struct fixture *f, const char *s);

#endif

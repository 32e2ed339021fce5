/* What fake_engine.c and fake_model.c share. */
#ifndef SKEP_TEST_LIB_FAKE_INTERNAL_H
#define SKEP_TEST_LIB_FAKE_INTERNAL_H

#include "common/buf.h"
#include "common/prng.h"
#include "test/lib/fake_engine.h"

enum { REQUEST_BYTES_MAX = 4 << 20, LOG_MAX = 200000 };

struct connection {
    struct fake_engine *f;
    int fd; /* -1: free */
    struct buf in;
    struct buf out;
    struct loop_timer drip;
    size_t drip_left;
    bool close_after, flood, open;
    bool muted;        /* what it is answered is dropped */
    char request[512]; /* METHOD /path of the current request, version cut */
};

struct logged {
    char *request, *head, *body;
};

struct fake_engine {
    struct loop *loop;
    int fd;
    char *path;
    struct fake_rule rules[FAKE_RULES_MAX];
    unsigned rule_count;
    struct connection connections[FAKE_CONNECTIONS_MAX];
    struct logged *log;
    size_t log_count;
    bool model;
    struct fake_container containers[FAKE_CONTAINERS_MAX];
    unsigned container_count;
    struct fake_network networks[FAKE_NETWORKS_MAX];
    unsigned network_count;
    struct prng *chaos;
    uint32_t chaos_ppm;
};

/* fake_engine.c */
void fake_reply(struct connection *c, unsigned status, const char *body);
void fake_open(struct connection *c); /* a stream without end */
void fake_close(struct connection *c);

/* fake_model.c: answers c->request. */
void fake_model_answer(struct connection *c, const char *body);
void fake_model_free(struct fake_engine *f);

#endif

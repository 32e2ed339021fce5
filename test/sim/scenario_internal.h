/* Shared by scenario.c (stepping, output, files) and scenario_commands.c (the command table). */
#ifndef SKEP_TEST_SIM_SCENARIO_INTERNAL_H
#define SKEP_TEST_SIM_SCENARIO_INTERNAL_H

#include <stdarg.h>

#include "managerd/raft/internal.h"
#include "test/sim/scenario.h"

enum {
    SCENARIO_NODES_MAX = 9,
    SCENARIO_MESSAGES_MAX = 4096,
    SCENARIO_WRITES_MAX = 256,
    SCENARIO_WORDS_MAX = 16,
};

struct scenario_disk {
    struct raft_hard_state hard;
    struct raft_snapshot_meta snapshot;
    struct raft_entry *entries;
    size_t entry_count;
};

struct scenario_write {
    uint64_t seq;
    struct raft_hard_state hard;
    bool drop_log;
    bool install;
    struct raft_snapshot_meta snapshot;
    struct raft_entry *entries;
    size_t entry_count;
};

struct scenario_node {
    uint64_t id; /* raft id = number in the script */
    bool up;
    bool held; /* writes wait for `persist` */
    struct raft *raft;
    struct scenario_disk disk;
    struct scenario_write writes[SCENARIO_WRITES_MAX];
    size_t write_count;
    uint64_t timer_at_ms;
    uint64_t last, commit; /* as last told */
};

struct scenario {
    struct scenario_node nodes[SCENARIO_NODES_MAX + 1]; /* by id */
    bool cut[SCENARIO_NODES_MAX + 1][SCENARIO_NODES_MAX + 1];
    struct raft_message *messages[SCENARIO_MESSAGES_MAX]; /* under way, oldest first */
    size_t message_count;
    uint64_t now_ms;
    uint64_t seed;
    uint32_t message_bytes; /* per append; an entry without data is 32 */
    struct buf *out;
    bool failed;
};

void scenario_say(struct scenario *s, const char *format, ...) PRINTF(2, 3);
void scenario_say_message(struct scenario *s, const struct raft_message *m);
int scenario_step(struct scenario *s, struct scenario_node *n, struct raft_event *ev);
void scenario_persist(struct scenario *s, struct scenario_node *n);
void scenario_start(struct scenario *s, struct scenario_node *n, bool fenced);
void scenario_crash(struct scenario_node *n);
void scenario_wipe(struct scenario_node *n);
/* 0, or -ERR_INVALID when the line makes no sense. */
int scenario_command(struct scenario *s, int count, char **words);

#endif

/* The commands of scenario files. NODE and friends are numbers; A->B names a link. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/codec.h"
#include "test/sim/scenario_internal.h"

enum { CONVERGENCE_STEPS_MAX = 20000 };

static uint64_t number(const char *word)
{
    return word == NULL ? 0 : strtoull(word, NULL, 10);
}

static struct scenario_node *node(struct scenario *s, const char *word)
{
    uint64_t id = number(word);

    return id >= 1 && id <= SCENARIO_NODES_MAX ? &s->nodes[id] : NULL;
}

static struct scenario_node *live(struct scenario *s, const char *word)
{
    struct scenario_node *n = node(s, word);

    return n != NULL && n->up ? n : NULL;
}

/* Value of KEY=VALUE among the words, NULL if absent. */
static const char *option(int count, char **words, const char *key)
{
    size_t size = strlen(key);

    for (int i = 1; i < count; i++) {
        if (strncmp(words[i], key, size) == 0 && words[i][size] == '=')
            return words[i] + size + 1;
    }
    return NULL;
}

static bool has(int count, char **words, const char *word)
{
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], word) == 0)
            return true;
    }
    return false;
}

static void report(struct scenario *s, const struct scenario_node *n, int rc)
{
    if (rc < 0)
        scenario_say(s, "%" PRIu64 "> refused: %s", n->id, err_str(rc));
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static struct raft_member make_member(uint64_t id, enum raft_role role)
{
    struct raft_member m = { .raft_id = id,
                             .role = role,
                             .node_id = id_from_str("a000000000000000000000001") };

    memcpy(m.address, "m:1", 4);
    return m;
}

/* Entry 1 is the configuration; the digits name the terms of all entries, e.g. 1144. */
static int give_log(struct scenario_node *n, const struct raft_data *config, const char *digits)
{
    size_t count = strspn(digits, "0123456789");

    if (count == 0 || digits[0] != '1')
        return -ERR_INVALID;
    n->disk.entries = xcalloc(count, sizeof(*n->disk.entries));
    n->disk.entry_count = count;
    for (size_t i = 0; i < count; i++) {
        struct raft_entry *e = &n->disk.entries[i];

        *e = (struct raft_entry){ .index = i + 1, .term = (uint64_t)(digits[i] - '0') };
        if (i == 0) {
            e->type = RAFT_ENTRY_CONFIG;
            e->data = raft_data_ref((struct raft_data *)(uintptr_t)config);
        }
        n->disk.hard.term = MAX(n->disk.hard.term, e->term);
    }
    return 0;
}

/* "3:114" or "3:7" within a comma-separated list; NULL if the node is not named. */
static const char *for_node(const char *list, uint64_t id)
{
    while (list != NULL && *list != '\0') {
        char *rest;
        uint64_t named = strtoull(list, &rest, 10);

        if (*rest != ':')
            return NULL;
        if (named == id)
            return rest + 1;
        list = strchr(list, ',');
        list = list == NULL ? NULL : list + 1;
    }
    return NULL;
}

/* cluster nodes=N [learners=N] [log=1:114,2:1…] [term=1:6,…] [bytes=N]: all start with the same
 * configuration; learners have the highest numbers. Unnamed logs are "1". */
static int cmd_cluster(struct scenario *s, int count, char **words)
{
    CLEANUP_BUF struct buf packed = BUF_INIT(1 << 16);
    uint64_t nodes = number(option(count, words, "nodes"));
    uint64_t learners = number(option(count, words, "learners"));
    struct raft_config c = { 0 };
    struct raft_data *data;
    int rc;

    if (option(count, words, "bytes") != NULL)
        s->message_bytes = (uint32_t)number(option(count, words, "bytes"));
    if (nodes < 1 || nodes > SCENARIO_NODES_MAX || learners >= nodes)
        return -ERR_INVALID;
    for (uint64_t id = 1; id <= nodes; id++)
        c.members[c.member_count++] =
            make_member(id, id > nodes - learners ? RAFT_LEARNER : RAFT_VOTER);
    rc = raft_config_pack(&c, &packed);
    if (rc < 0)
        return rc;
    data = raft_data_new(packed.data, packed.size);
    for (uint64_t id = 1; id <= nodes && rc == 0; id++) {
        struct scenario_node *n = &s->nodes[id];
        const char *log = for_node(option(count, words, "log"), id);
        const char *term = for_node(option(count, words, "term"), id);

        n->id = id;
        rc = give_log(n, data, log != NULL ? log : "1");
        n->disk.hard.term = MAX(n->disk.hard.term, number(term));
    }
    raft_data_unref(data);
    for (uint64_t id = 1; id <= nodes && rc == 0; id++)
        scenario_start(s, &s->nodes[id], false);
    buf_clear(s->out); /* everybody says the same */
    return rc;
}

static int cmd_start(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = node(s, words[1]);

    if (n == NULL || n->up)
        return -ERR_INVALID;
    n->id = number(words[1]);
    scenario_start(s, n, has(count, words, "fenced"));
    return 0;
}

static int cmd_crash(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    scenario_crash(n);
    return 0;
}

static int cmd_wipe(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = node(s, words[1]);

    (void)count;
    if (n == NULL || n->up)
        return -ERR_INVALID;
    scenario_wipe(n);
    return 0;
}

/* ---- disk ------------------------------------------------------------------------------------ */

static int cmd_hold(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    n->held = true;
    return 0;
}

/* persist NODE: finishes what waits; release NODE: and holds no more. */
static int cmd_persist(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    if (strcmp(words[0], "release") == 0)
        n->held = false;
    scenario_persist(s, n);
    return 0;
}

/* ---- network --------------------------------------------------------------------------------- */

struct filter {
    uint64_t from, to; /* 0: any */
};

static int parse_filter(int count, char **words, struct filter *ret_f)
{
    char *rest;

    *ret_f = (struct filter){ 0 };
    if (count < 2)
        return -ERR_INVALID;
    if (strcmp(words[1], "all") == 0)
        return 0;
    if (strncmp(words[1], "to=", 3) == 0) {
        ret_f->to = number(words[1] + 3);
        return 0;
    }
    if (strncmp(words[1], "from=", 5) == 0) {
        ret_f->from = number(words[1] + 5);
        return 0;
    }
    ret_f->from = strtoull(words[1], &rest, 10);
    if (strncmp(rest, "->", 2) != 0)
        return -ERR_INVALID;
    ret_f->to = number(rest + 2);
    return 0;
}

static struct raft_message *take(struct scenario *s, const struct filter *f)
{
    for (size_t i = 0; i < s->message_count; i++) {
        struct raft_message *m = s->messages[i];

        if ((f->from != 0 && m->from != f->from) || (f->to != 0 && m->to != f->to))
            continue;
        s->message_count--;
        memmove(&s->messages[i], &s->messages[i + 1],
                (s->message_count - i) * sizeof(s->messages[0]));
        return m;
    }
    return NULL;
}

static int deliver_one(struct scenario *s, struct raft_message *m)
{
    struct raft_event ev = { .type = RAFT_EV_RECEIVE, .message = m };
    struct scenario_node *n = &s->nodes[m->to];
    int rc = scenario_step(s, n, &ev);

    report(s, n, rc);
    raft_message_free(m);
    return 0;
}

/* deliver A->B | to=N | from=N: what waits there now, each shown. deliver all: until all is quiet.
 */
static int cmd_deliver(struct scenario *s, int count, char **words)
{
    struct filter f;
    struct raft_message *m;
    struct raft_message *batch[SCENARIO_MESSAGES_MAX];
    size_t batch_count = 0;
    int rc = parse_filter(count, words, &f);

    if (rc < 0)
        return rc;
    if (f.from == 0 && f.to == 0) {
        for (int i = 0; i < CONVERGENCE_STEPS_MAX && (m = take(s, &f)) != NULL; i++)
            (void)deliver_one(s, m);
        return s->message_count == 0 ? 0 : -ERR_INVALID;
    }
    while ((m = take(s, &f)) != NULL)
        batch[batch_count++] = m;
    for (size_t i = 0; i < batch_count; i++) {
        scenario_say_message(s, batch[i]);
        (void)deliver_one(s, batch[i]);
    }
    return 0;
}

/* reverse A->B: the newest message there comes first from now on. repeat A->B: each comes twice. */
static int cmd_reorder(struct scenario *s, int count, char **words)
{
    struct filter f;
    struct raft_message *m, *batch[SCENARIO_MESSAGES_MAX];
    size_t batch_count = 0;
    bool repeat = strcmp(words[0], "repeat") == 0;
    int rc = parse_filter(count, words, &f);

    while (rc == 0 && (m = take(s, &f)) != NULL)
        batch[batch_count++] = m;
    for (size_t i = 0; i < batch_count; i++) {
        m = batch[repeat ? i : batch_count - 1 - i];
        if (repeat && s->message_count < SCENARIO_MESSAGES_MAX - 1) {
            struct raft_message *copy = xmemdup(m, sizeof(*m));

            copy->entries = raft_entries_clone(m->entries, m->entry_count);
            s->messages[s->message_count++] = copy;
        }
        s->messages[s->message_count++] = m;
    }
    return rc;
}

static int cmd_drop(struct scenario *s, int count, char **words)
{
    struct filter f;
    struct raft_message *m;
    int rc = parse_filter(count, words, &f);

    while (rc == 0 && (m = take(s, &f)) != NULL)
        raft_message_free(m);
    return rc;
}

static int cmd_messages(struct scenario *s, int count, char **words)
{
    (void)count;
    (void)words;
    for (size_t i = 0; i < s->message_count; i++)
        scenario_say_message(s, s->messages[i]);
    return 0;
}

/* isolate NODE; cut A->B; heal: messages over a cut link are lost, also those under way. */
static int cmd_cut(struct scenario *s, int count, char **words)
{
    struct filter f;
    uint64_t id = count > 1 ? number(words[1]) : 0;

    if (strcmp(words[0], "heal") == 0) {
        memset(s->cut, 0, sizeof(s->cut));
        return 0;
    }
    if (strcmp(words[0], "isolate") == 0) {
        for (uint64_t other = 0; other <= SCENARIO_NODES_MAX; other++)
            s->cut[id][other] = s->cut[other][id] = true;
    } else if (parse_filter(count, words, &f) == 0 && f.from != 0 && f.to != 0) {
        s->cut[f.from][f.to] = true;
    } else {
        return -ERR_INVALID;
    }
    for (size_t i = 0; i < s->message_count;) {
        struct raft_message *m = s->messages[i];

        if (!s->cut[m->from][m->to]) {
            i++;
            continue;
        }
        raft_message_free(m);
        s->message_count--;
        memmove(&s->messages[i], &s->messages[i + 1],
                (s->message_count - i) * sizeof(s->messages[0]));
    }
    return 0;
}

/* ---- time ------------------------------------------------------------------------------------ */

static int cmd_pass(struct scenario *s, int count, char **words)
{
    (void)count;
    s->now_ms += number(words[1]);
    return 0;
}

/* campaign NODE: its election timeout is over. elect NODE: after everybody's patience, and all that
 * follows is delivered. */
static int cmd_campaign(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_TIMEOUT };
    char all[] = "all", *deliver[] = { words[0], all };

    (void)count;
    if (n == NULL || n->raft->state == RAFT_LEADER)
        return -ERR_INVALID;
    if (strcmp(words[0], "elect") == 0)
        s->now_ms += n->raft->options.election_ms;
    n->raft->election_at_ms = s->now_ms;
    (void)scenario_step(s, n, &ev); /* cannot be refused */
    return strcmp(words[0], "elect") == 0 ? cmd_deliver(s, 2, deliver) : 0;
}

/* heartbeat NODE: a heartbeat interval passes for the leader. expire NODE: an election timeout. */
static int cmd_heartbeat(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_TIMEOUT };

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    s->now_ms += strcmp(words[0], "expire") == 0 ? n->raft->options.election_ms
                                                 : n->raft->options.heartbeat_ms;
    (void)scenario_step(s, n, &ev); /* cannot be refused */
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* propose NODE [count=N] [size=N] [term=N] */
static int cmd_propose(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    const char *entries = option(count, words, "count"), *term = option(count, words, "term");
    struct raft_data *data[SCENARIO_WORDS_MAX * 4];
    struct raft_event ev = { .type = RAFT_EV_PROPOSE };
    size_t size = (size_t)number(option(count, words, "size"));
    CLEANUP_FREE char *payload = xcalloc(1, size);

    if (n == NULL)
        return -ERR_INVALID;
    ev.propose.count = entries != NULL ? (size_t)number(entries) : 1;
    ev.propose.term = term != NULL ? number(term) : n->raft->hard.term;
    ev.propose.data = data;
    if (ev.propose.count > ARRAY_LEN(data))
        return -ERR_INVALID;
    for (size_t i = 0; i < ev.propose.count; i++)
        data[i] = raft_data_new(payload, size);
    report(s, n, scenario_step(s, n, &ev));
    for (size_t i = 0; i < ev.propose.count; i++)
        raft_data_unref(data[i]);
    return 0;
}

static int cmd_read(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_READ_INDEX };

    if (n == NULL || count < 3)
        return -ERR_INVALID;
    ev.read_id = number(words[2]);
    report(s, n, scenario_step(s, n, &ev));
    return 0;
}

/* change NODE add|promote|demote|remove|address|readmit MEMBER [force] */
static int cmd_change(struct scenario *s, int count, char **words)
{
    static const char *const names[] = {
        "add", "promote", "demote", "remove", "address", "readmit"
    };
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_CONFIG_CHANGE };
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    size_t change = 0, peer_count;

    if (n == NULL || count < 4)
        return -ERR_INVALID;
    while (change < ARRAY_LEN(names) && strcmp(names[change], words[2]) != 0)
        change++;
    if (change == ARRAY_LEN(names))
        return -ERR_INVALID;
    ev.change.change = (enum raft_change)change;
    ev.change.raft_id = number(words[3]);
    ev.change.node_id = id_from_str("a000000000000000000000001");
    ev.change.address = "n:1";
    ev.change.force = has(count, words, "force");
    peer_count = raft_peers(n->raft, peers);
    for (size_t i = 0; i < peer_count; i++) {
        if (peers[i].raft_id == ev.change.raft_id && ev.change.change == RAFT_CHANGE_READMIT)
            ev.change.incarnation = peers[i].incarnation;
    }
    report(s, n, scenario_step(s, n, &ev));
    return 0;
}

static int cmd_transfer(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_TRANSFER };

    if (n == NULL)
        return -ERR_INVALID;
    ev.target = count > 2 ? number(words[2]) : RAFT_NONE;
    report(s, n, scenario_step(s, n, &ev));
    return 0;
}

/* snapshot NODE: of all it has applied. */
static int cmd_snapshot(struct scenario *s, int count, char **words)
{
    struct scenario_node *n = live(s, words[1]);
    struct raft_event ev = { .type = RAFT_EV_SNAPSHOT_TAKEN };

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    ev.snapshot_index = n->raft->log.applied_index;
    (void)scenario_step(s, n, &ev); /* cannot be refused */
    n->disk.snapshot = n->raft->log.snapshot;
    return 0;
}

/* ship A->B [fail]: B receives A's snapshot whole, A learns of it. */
static int cmd_ship(struct scenario *s, int count, char **words)
{
    struct filter f;
    struct scenario_node *from, *to;
    struct raft_event ev = { .type = RAFT_EV_RECEIVE };
    struct raft_message m = { .type = RAFT_MSG_SNAPSHOT };
    bool fail = has(count, words, "fail");

    if (parse_filter(count, words, &f) < 0 || f.from == 0 || f.to == 0)
        return -ERR_INVALID;
    from = &s->nodes[f.from];
    to = &s->nodes[f.to];
    m.from = f.from;
    m.to = f.to;
    m.term = from->raft->hard.term;
    m.snapshot = &from->raft->log.snapshot;
    ev.message = &m;
    if (!fail)
        report(s, to, scenario_step(s, to, &ev));
    ev = (struct raft_event){ .type = fail ? RAFT_EV_SNAPSHOT_FAILED : RAFT_EV_SNAPSHOT_SENT,
                              .peer = { f.to, from->raft->log.snapshot.index } };
    (void)scenario_step(s, from, &ev); /* cannot be refused */
    return 0;
}

/* ---- looking --------------------------------------------------------------------------------- */

static int cmd_status(struct scenario *s, int count, char **words)
{
    for (uint64_t id = 1; id <= SCENARIO_NODES_MAX; id++) {
        const struct scenario_node *n = &s->nodes[id];
        struct raft_status st;

        if (!n->up || (count > 1 && number(words[1]) != id))
            continue;
        raft_status(n->raft, &st);
        scenario_say(s,
                     "%" PRIu64 ": %s%s term=%" PRIu64 " leader=%" PRIu64 " last=%" PRIu64
                     "@%" PRIu64 " durable=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64,
                     id, raft_state_str(st.state), st.fenced ? " fenced" : "", st.term, st.leader,
                     st.last_index, raft_term_at(n->raft, st.last_index), st.durable_index,
                     st.commit_index, st.applied_index);
    }
    return 0;
}

/* log [NODE]: the terms of its entries, as digits. */
static int cmd_log(struct scenario *s, int count, char **words)
{
    for (uint64_t id = 1; id <= SCENARIO_NODES_MAX; id++) {
        const struct scenario_node *n = &s->nodes[id];
        char digits[256] = "";
        uint64_t last;
        size_t used = 0;

        if (!n->up || (count > 1 && number(words[1]) != id))
            continue;
        last = raft_log_last(&n->raft->log);
        for (uint64_t i = n->raft->log.base_index + 1; i <= last && used + 1 < sizeof(digits); i++)
            digits[used++] = (char)('0' + raft_term_at(n->raft, i) % 10);
        scenario_say(s, "%" PRIu64 ": %s%s commit=%" PRIu64, id,
                     n->raft->log.base_index > 0 ? "..." : "", digits, n->raft->log.commit_index);
    }
    return 0;
}

static int cmd_progress(struct scenario *s, int count, char **words)
{
    static const char *const names[] = { "probe", "replicate", "snapshot" };
    struct scenario_node *n = live(s, words[1]);
    struct raft_peer_status peers[RAFT_MEMBERS_MAX];
    size_t peer_count;

    (void)count;
    if (n == NULL)
        return -ERR_INVALID;
    peer_count = raft_peers(n->raft, peers);
    for (size_t i = 0; i < peer_count; i++)
        scenario_say(s, "%" PRIu64 ": %s match=%" PRIu64 " next=%" PRIu64 " inflight=%u%s%s",
                     peers[i].raft_id, names[peers[i].state], peers[i].match_index,
                     peers[i].next_index, peers[i].inflight_messages,
                     peers[i].role == RAFT_LEARNER ? " learner" : "",
                     peers[i].counted ? "" : " not counted");
    return 0;
}

static const struct command {
    const char *name;
    int words_min; /* with the name */
    int (*run)(struct scenario *s, int count, char **words);
} commands[] = {
    /* clang-format off */
    { "cluster",   2, cmd_cluster },   { "start",    2, cmd_start },   { "crash",     2, cmd_crash },
    { "wipe",      2, cmd_wipe },      { "hold",     2, cmd_hold },    { "persist",   2, cmd_persist },
    { "release",   2, cmd_persist },   { "deliver",  2, cmd_deliver }, { "drop",      2, cmd_drop },
    { "reverse",   2, cmd_reorder },   { "repeat",   2, cmd_reorder },
    { "messages",  1, cmd_messages },  { "isolate",  2, cmd_cut },     { "cut",       2, cmd_cut },
    { "heal",      1, cmd_cut },       { "pass",     2, cmd_pass },    { "campaign",  2, cmd_campaign },
    { "elect",     2, cmd_campaign },  { "expire",   2, cmd_heartbeat },
    { "heartbeat", 2, cmd_heartbeat }, { "propose",  2, cmd_propose }, { "read",      3, cmd_read },
    { "change",    4, cmd_change },    { "transfer", 2, cmd_transfer },
    { "snapshot",  2, cmd_snapshot },  { "ship",     2, cmd_ship },    { "status",    1, cmd_status },
    { "log",       1, cmd_log },       { "progress", 2, cmd_progress },
    /* clang-format on */
};

int scenario_command(struct scenario *s, int count, char **words)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, words[0]) == 0)
            return count < commands[i].words_min ? -ERR_INVALID : commands[i].run(s, count, words);
    }
    return -ERR_INVALID;
}

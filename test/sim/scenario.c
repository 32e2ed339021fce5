#include "test/sim/scenario.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/raft/codec.h"
#include "test/sim/scenario_internal.h"

/* ---- output ---------------------------------------------------------------------------------- */

void scenario_say(struct scenario *s, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args); /* cut if need be */
    va_end(args);
    if (buf_printf(s->out, "%s\n", line) < 0)
        s->failed = true;
}

static const char *config_text(const struct raft_config *c, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (uint32_t i = 0; i < c->member_count && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%" PRIu64 "%s", i > 0 ? " " : "",
                             c->members[i].raft_id, c->members[i].role == RAFT_LEARNER ? "l" : "");
    return text;
}

static const char *entries_text(const struct raft_entry *entries, size_t count, char *text,
                                size_t size)
{
    static const char *const suffix[] = { "", "(no-op)", "(config)" };
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRIu64 "@%" PRIu64 "%s",
                                 i > 0 ? " " : "", entries[i].index, entries[i].term,
                                 suffix[entries[i].type]);
    return text;
}

void scenario_say_message(struct scenario *s, const struct raft_message *m)
{
    static const char *const names[RAFT_MSG_TYPE_MAX + 1] = {
        [RAFT_MSG_PRE_VOTE] = "pre-vote",   [RAFT_MSG_PRE_VOTE_REPLY] = "pre-vote-reply",
        [RAFT_MSG_VOTE] = "vote",           [RAFT_MSG_VOTE_REPLY] = "vote-reply",
        [RAFT_MSG_APPEND] = "append",       [RAFT_MSG_APPEND_REPLY] = "append-reply",
        [RAFT_MSG_HEARTBEAT] = "heartbeat", [RAFT_MSG_HEARTBEAT_REPLY] = "heartbeat-reply",
        [RAFT_MSG_SNAPSHOT] = "snapshot",   [RAFT_MSG_TIMEOUT_NOW] = "timeout-now",
        [RAFT_MSG_READ] = "read",           [RAFT_MSG_READ_REPLY] = "read-reply",
    };
    char text[512], detail[640] = "";

    switch (m->type) {
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_VOTE:
        (void)snprintf(detail, sizeof(detail), " last=%" PRIu64 "@%" PRIu64 "%s", m->index,
                       m->log_term, m->flag ? " transferred" : "");
        break;
    case RAFT_MSG_PRE_VOTE_REPLY:
    case RAFT_MSG_VOTE_REPLY:
        (void)snprintf(detail, sizeof(detail), " %s", m->reject ? "refused" : "granted");
        break;
    case RAFT_MSG_APPEND:
        (void)snprintf(detail, sizeof(detail),
                       " after=%" PRIu64 "@%" PRIu64 " entries=[%s] commit=%" PRIu64, m->index,
                       m->log_term, entries_text(m->entries, m->entry_count, text, sizeof(text)),
                       m->commit);
        break;
    case RAFT_MSG_APPEND_REPLY:
        if (m->reject)
            (void)snprintf(detail, sizeof(detail), " refused=%" PRIu64 " hint=%" PRIu64 "@%" PRIu64,
                           m->context, m->hint_index, m->hint_term);
        else
            (void)snprintf(detail, sizeof(detail), " match=%" PRIu64, m->index);
        break;
    case RAFT_MSG_HEARTBEAT:
        (void)snprintf(detail, sizeof(detail), " commit=%" PRIu64 "%s", m->commit,
                       m->flag ? " fence-yourself" : "");
        break;
    case RAFT_MSG_HEARTBEAT_REPLY:
    case RAFT_MSG_READ_REPLY:
        (void)snprintf(detail, sizeof(detail), " index=%" PRIu64 "%s", m->index,
                       m->reject ? " refused" : "");
        break;
    case RAFT_MSG_SNAPSHOT:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ:
        break;
    }
    scenario_say(s, "%" PRIu64 "->%" PRIu64 " %s term=%" PRIu64 "%s", m->from, m->to,
                 names[m->type], m->term, detail);
}

static void say_effects(struct scenario *s, struct scenario_node *n, const struct raft_effects *fx)
{
    char text[512];

    if (fx->note != RAFT_NOTE_NONE)
        scenario_say(s, "%" PRIu64 "> %s", n->id, raft_note_str(fx->note));
    if (fx->leader_changed)
        scenario_say(s, "%" PRIu64 "> %s term=%" PRIu64 "%s", n->id, raft_state_str(fx->state),
                     fx->term, fx->leader == RAFT_NONE ? " no leader" : "");
    if (fx->install != NULL)
        scenario_say(s, "%" PRIu64 "> installs snapshot %" PRIu64 "@%" PRIu64, n->id,
                     fx->install->index, fx->install->term);
    if (fx->append_count > 0) {
        if (fx->append[0].index <= n->last)
            scenario_say(s, "%" PRIu64 "> drops from %" PRIu64, n->id, fx->append[0].index);
        scenario_say(s, "%" PRIu64 "> appends %s", n->id,
                     entries_text(fx->append, fx->append_count, text, sizeof(text)));
    }
    n->last = raft_log_last(&n->raft->log);
    if (fx->config_changed)
        scenario_say(s, "%" PRIu64 "> configuration [%s]", n->id,
                     config_text(raft_config(n->raft), text, sizeof(text)));
    if (n->raft->log.commit_index != n->commit)
        scenario_say(s, "%" PRIu64 "> commit %" PRIu64, n->id, n->raft->log.commit_index);
    n->commit = n->raft->log.commit_index;
    for (size_t i = 0; i < fx->send_snapshot_count; i++)
        scenario_say(s, "%" PRIu64 "> %" PRIu64 " needs snapshot %" PRIu64, n->id,
                     fx->send_snapshots[i].to, fx->send_snapshots[i].index);
    for (size_t i = 0; i < fx->read_count; i++) {
        if (fx->reads[i].failed)
            scenario_say(s, "%" PRIu64 "> read %" PRIu64 " failed", n->id, fx->reads[i].id);
        else
            scenario_say(s, "%" PRIu64 "> read %" PRIu64 " at %" PRIu64, n->id, fx->reads[i].id,
                         fx->reads[i].index);
    }
    if (fx->compact_index != 0)
        scenario_say(s, "%" PRIu64 "> forgets up to %" PRIu64, n->id, fx->compact_index);
}

/* ---- stepping -------------------------------------------------------------------------------- */

static void disk_free(struct scenario_disk *d)
{
    raft_entries_free(d->entries, d->entry_count);
    *d = (struct scenario_disk){ 0 };
}

static void write_take(struct scenario_node *n, const struct raft_effects *fx)
{
    struct scenario_write *w = &n->writes[n->write_count++];

    ASSERT(n->write_count <= SCENARIO_WRITES_MAX);
    *w = (struct scenario_write){ .seq = fx->write_seq,
                                  .hard = fx->hard_state,
                                  .drop_log = fx->drop_log,
                                  .entries = raft_entries_clone(fx->append, fx->append_count),
                                  .entry_count = fx->append_count };
    if (fx->install != NULL) {
        w->install = true;
        w->snapshot = *fx->install;
    }
}

static void write_finish(struct scenario_disk *d, struct scenario_write *w)
{
    size_t keep = 0;

    if (w->install)
        d->snapshot = w->snapshot;
    d->hard = w->hard;
    if (w->drop_log) {
        raft_entries_free(d->entries, d->entry_count);
        d->entries = NULL;
        d->entry_count = 0;
    }
    if (w->entry_count == 0)
        return;
    while (keep < d->entry_count && d->entries[keep].index < w->entries[0].index)
        keep++;
    for (size_t i = keep; i < d->entry_count; i++)
        raft_data_unref(d->entries[i].data);
    d->entries = xrealloc_array(d->entries, keep + w->entry_count, sizeof(*d->entries));
    memcpy(d->entries + keep, w->entries, w->entry_count * sizeof(*w->entries));
    d->entry_count = keep + w->entry_count;
    free(w->entries); /* their references moved */
    w->entries = NULL;
    w->entry_count = 0;
}

void scenario_persist(struct scenario *s, struct scenario_node *n)
{
    struct raft_event ev = { .type = RAFT_EV_PERSISTED };

    if (n->write_count == 0)
        return;
    for (size_t i = 0; i < n->write_count; i++)
        write_finish(&n->disk, &n->writes[i]);
    ev.persisted_seq = n->writes[n->write_count - 1].seq;
    n->write_count = 0;
    (void)scenario_step(s, n, &ev); /* cannot be refused */
}

static void post(struct scenario *s, const struct raft_message *m)
{
    struct raft_message *copy;

    if (s->cut[m->from][m->to])
        return;
    ASSERT(s->message_count < SCENARIO_MESSAGES_MAX);
    copy = xmemdup(m, sizeof(*m));
    copy->entries = raft_entries_clone(m->entries, m->entry_count);
    s->messages[s->message_count++] = copy;
}

int scenario_step(struct scenario *s, struct scenario_node *n, struct raft_event *ev)
{
    struct raft_effects fx;
    const char *broken;
    int rc;

    if (!n->up)
        return 0;
    ev->now_ms = s->now_ms;
    rc = raft_step(n->raft, ev, &fx);
    say_effects(s, n, &fx);
    broken = raft_invariants(n->raft, true);
    if (broken != NULL)
        scenario_say(s, "%" PRIu64 "> CONTRADICTION %s", n->id, broken);
    if (fx.write_seq != 0)
        write_take(n, &fx);
    for (size_t i = 0; i < fx.message_count; i++)
        post(s, &fx.messages[i]);
    n->timer_at_ms = fx.timer_at_ms;
    if (!n->held)
        scenario_persist(s, n);
    return rc;
}

void scenario_start(struct scenario *s, struct scenario_node *n, bool fenced)
{
    struct raft_options o;
    struct raft_event ev = { .type = RAFT_EV_START };
    int rc;

    raft_options_default(&o);
    o.raft_id = n->id;
    o.seed = ++s->seed;
    o.tail_entries = 0;
    o.inflight_messages_max = 4;
    o.message_bytes_max = s->message_bytes;
    o.uncommitted_bytes_max = 1000;
    o.promote_lag_max = 2;
    n->raft = raft_new(&o);
    n->up = true;
    n->commit = n->disk.snapshot.index;
    n->last = n->disk.entry_count > 0 ? n->disk.entries[n->disk.entry_count - 1].index
                                      : n->disk.snapshot.index;
    ev.start.hard_state = n->disk.hard;
    ev.start.snapshot = n->disk.snapshot.index > 0 ? &n->disk.snapshot : NULL;
    ev.start.entries = n->disk.entries;
    ev.start.entry_count = n->disk.entry_count;
    ev.start.log_may_have_gone_back = fenced;
    rc = scenario_step(s, n, &ev);
    if (rc < 0)
        scenario_say(s, "%" PRIu64 "> refuses to start: %s", n->id, err_str(rc));
}

void scenario_crash(struct scenario_node *n)
{
    for (size_t i = 0; i < n->write_count; i++)
        raft_entries_free(n->writes[i].entries, n->writes[i].entry_count);
    n->write_count = 0;
    n->up = false;
    raft_free(n->raft);
    n->raft = NULL;
}

void scenario_wipe(struct scenario_node *n)
{
    disk_free(&n->disk);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void scenario_deinit(struct scenario *s)
{
    for (size_t i = 0; i < s->message_count; i++)
        raft_message_free(s->messages[i]);
    for (uint64_t id = 1; id <= SCENARIO_NODES_MAX; id++) {
        if (s->nodes[id].up)
            scenario_crash(&s->nodes[id]);
        disk_free(&s->nodes[id].disk);
    }
    free(s);
}

static int split(char *line, char **words)
{
    int count = 0;

    for (char *save = NULL, *word = strtok_r(line, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save)) {
        if (count == SCENARIO_WORDS_MAX)
            return -1;
        words[count++] = word;
    }
    return count;
}

static int run_line(struct scenario *s, const char *line)
{
    CLEANUP_FREE char *copy = xstrdup(line);
    char *words[SCENARIO_WORDS_MAX];
    int count = split(copy, words);

    return count <= 0 ? -ERR_INVALID : scenario_command(s, count, words);
}

/* Copies one line of input and returns what follows it; NULL at the end. */
static const char *next_line(const char *text, char *line, size_t size)
{
    size_t length = strcspn(text, "\n");

    if (*text == '\0')
        return NULL;
    (void)snprintf(line, size, "%.*s", (int)MIN(length, size - 1), text);
    return text[length] == '\n' ? text + length + 1 : text + length;
}

static const char *skip_output(const char *text)
{
    while (*text != '\0' && *text != '\n') {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return text;
}

int scenario_run(const char *text, struct buf *ret_text, struct err *e)
{
    struct scenario *s = xcalloc(1, sizeof(*s));
    CLEANUP_BUF struct buf output = BUF_INIT(1 << 20);
    char line[512];
    int number = 0, rc = 0;

    s->out = &output;
    s->now_ms = 1000;
    s->message_bytes = 1 << 10;
    while (rc == 0 && (text = next_line(text, line, sizeof(line))) != NULL) {
        number++;
        if (strcmp(line, "----") == 0) {
            text = skip_output(text);
            rc = buf_printf(ret_text, "----\n%s", output.size > 0 ? buf_str(&output) : "ok\n");
            buf_clear(&output);
            continue;
        }
        rc = buf_printf(ret_text, "%s\n", line);
        if (rc == 0 && line[0] != '#' && line[0] != '\0')
            rc = run_line(s, line);
        if (rc < 0 || s->failed)
            rc = err_set(e, ERR_INVALID, "line %d after outputs: cannot run '%s'", number, line);
    }
    scenario_deinit(s);
    return rc;
}

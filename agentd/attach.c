/* ATTACH: a container that waits at its entrypoint gate (worker/gate.h) is given its networks, then
 * the gate is opened and the real process runs, or says why it cannot. Every step may be repeated,
 * also by an agent that was restarted in between: that the gate was opened is on disk before the
 * word is given, and that nobody waits there any more tells that it was heard. */
#include "agentd/executor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/files.h"
#include "agentd/worker/gate.h"
#include "agentd/worker/plain.h"
#include "common/buf.h"
#include "common/ip.h"
#include "common/log.h"

enum {
    WAIT_MS_FIRST = 1, /* between looks whether the program has reached the gate; doubles */
    WAIT_MS_MAX = 50,
    GATE_MS_MAX = 10 * 1000, /* to reach the gate, and then to become the real process */
    HOSTS_BYTES_MAX = 256 << 10,
};

struct attach {
    int gate_fd, result_fd;
    struct loop_timer timer;
    uint64_t give_up_ms;
    uint32_t wait_ms;
    struct container_place place;
    char text[GATE_TEXT_BYTES_MAX + 1]; /* from the gate */
    size_t text_size;
};

static void try_gate(struct job *j);

void attach_free(struct job *j)
{
    struct attach *at = j->attach;

    if (at == NULL)
        return;
    j->attach = NULL;
    loop_timer_cancel(j->ag->loop, &at->timer);
    if (at->result_fd >= 0) {
        loop_unwatch_fd(j->ag->loop, at->result_fd);
        (void)close(at->result_fd);
    }
    if (at->gate_fd >= 0)
        (void)close(at->gate_fd);
    free(at->place.hosts_path);
    free(at);
}

/* ---- behind the gate ---- */

static void finish(struct job *j)
{
    char text[TASK_ERROR_BYTES_MAX];

    if (j->attach->text_size == 0) {
        job_end(j, TASK_RESULT_OK, "");
        return;
    }
    plain_format(text, sizeof(text), "starting container failed: %s", j->attach->text);
    attach_free(j);
    job_end_looking(j, TASK_RESULT_FATAL, text);
}

/* The end of the pipe: the program was replaced by the real one, or has ended. */
static void result_ready(void *ctx, int fd, uint32_t events)
{
    struct job *j = ctx;
    struct attach *at = j->attach;
    ssize_t n;

    (void)events;
    do {
        char rest[64];
        size_t room = sizeof(at->text) - 1 - at->text_size;

        n = room > 0 ? read(fd, at->text + at->text_size, room) : read(fd, rest, sizeof(rest));
        if (n > 0 && room > 0)
            at->text_size += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (n == 0)
        finish(j);
}

/* It was told to go on and is still there: a frozen container perhaps. The task is as good as
 * running; how it ends will be seen. */
static void told_long_ago(void *ctx, uint64_t now_ms)
{
    struct job *j = ctx;

    (void)now_ms;
    log_warn("task.gate", "task=%s error=\"no word from the gate\" next=go_on", j->entry->id);
    job_end(j, TASK_RESULT_OK, "");
}

static void give_word(struct job *j)
{
    static const char go = GATE_GO;
    struct attach *at = j->attach;
    struct err e = { 0 };

    if (files_gate_mark(j->ag->files_dir, j->entry->id, &e) < 0) {
        job_end(j, TASK_RESULT_RETRY, e.message);
        return;
    }
    if (loop_watch_fd(j->ag->loop, at->result_fd, EPOLLIN, result_ready, j) < 0 ||
        write(at->gate_fd, &go, 1) != 1) {
        job_end(j, TASK_RESULT_RETRY, "gate cannot be opened");
        return;
    }
    (void)close(at->gate_fd);
    at->gate_fd = -1;
    loop_timer_set(j->ag->loop, &at->timer, loop_now_ms(j->ag->loop) + GATE_MS_MAX, told_long_ago,
                   j);
    agent_feed_type(j->ag, j->entry, TASK_EV_OPENED);
}

/* ---- its own name ---- */

/* Engines write a container's own name into its /etc/hosts; with NetworkMode none they have no
 * address to put there, and programs want to find themselves. */
static int add_host_line(const struct container_place *place, const char *address, struct err *e)
{
    CLEANUP_CLOSE int fd =
        open(place->hosts_path, O_RDWR | O_APPEND | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    CLEANUP_BUF struct buf content = BUF_INIT(HOSTS_BYTES_MAX);
    CLEANUP_FREE char *line = NULL;
    const char *dot = strchr(place->hostname, '.');
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, errno, "open %s", place->hosts_path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is no file", place->hosts_path);
    if (buf_read_all(&content, fd, e) < 0)
        return -ERR_IO;
    line = dot == NULL ? xasprintf("%s\t%s\n", address, place->hostname)
                       : xasprintf("%s\t%s %.*s\n", address, place->hostname,
                                   (int)(dot - place->hostname), place->hostname);
    if (strstr(buf_str(&content), line) == NULL &&
        write(fd, line, strlen(line)) != (ssize_t)strlen(line))
        return err_errno(e, errno, "write %s", place->hosts_path);
    return 0;
}

/* Its addresses in the first network; no reason to keep a task from running. */
static void add_hosts(struct job *j)
{
    CLEANUP_ARENA struct arena a = { 0 };
    const struct container_place *place = &j->attach->place;
    Skep__NetworkAttachment **list;

    if (place->hosts_path[0] != '/' || place->hostname[0] == '\0' ||
        networks_overlays(j->entry->assignment, &a, &list) == 0)
        return;
    for (size_t i = 0; i < list[0]->n_addresses; i++) {
        char text[IP_CHARS + 1];
        struct ip_net net;
        struct err e = { 0 };

        if (ip_net_parse_host(list[0]->addresses[i], &net, NULL) == 0 &&
            add_host_line(place, ip_format(&net.address, text), &e) < 0)
            log_warn("task.hosts", "task=%s error=\"%s\" next=go_on", j->entry->id, e.message);
    }
}

/* ---- up to the gate ---- */

static void try_fired(void *ctx, uint64_t now_ms)
{
    (void)now_ms;
    try_gate(ctx);
}

static void nobody_there(struct job *j)
{
    struct attach *at = j->attach;
    uint64_t now_ms = loop_now_ms(j->ag->loop);

    if (files_gate_marked(j->ag->files_dir, j->entry->id)) {
        job_end(j, TASK_RESULT_OK, ""); /* opened by an earlier attempt */
        return;
    }
    if (now_ms >= at->give_up_ms) {
        job_end(j, TASK_RESULT_RETRY, "container does not reach its gate");
        return;
    }
    loop_timer_set(j->ag->loop, &at->timer, now_ms + at->wait_ms, try_fired, j);
    at->wait_ms = MIN(2 * at->wait_ms, (uint32_t)WAIT_MS_MAX);
}

/* That the program is there also says that the process id is still its container's. */
static void try_gate(struct job *j)
{
    struct attach *at = j->attach;
    struct err e = { 0 };
    int rc = files_gate_open(j->ag->files_dir, j->entry->id, &at->gate_fd, &e);

    if (rc == -ERR_UNAVAILABLE) {
        nobody_there(j);
        return;
    }
    if (rc == 0)
        rc = networks_attach(j->ag, j->entry, j->facts.pid, &e);
    if (rc == -ERR_UNAVAILABLE) {
        j->for_networks = true;
        job_end(j, TASK_RESULT_RETRY, err_message(&e, rc));
    } else if (rc < 0) {
        job_end(j, TASK_RESULT_FATAL, err_message(&e, rc));
    } else {
        add_hosts(j);
        give_word(j);
    }
}

static void inspected(void *ctx, const struct engine_response *r)
{
    struct job *j = ctx;
    struct attach *at = j->attach;
    struct err e = { 0 };
    bool foreign;
    int rc;

    if (!job_answered(j, r))
        return;
    rc = job_take_facts(j, r, job_ref(j), &foreign, &e);
    if (rc == 0 && j->facts.phase != CONTAINER_RUNNING) {
        job_end(j, TASK_RESULT_OK, ""); /* the machine sees what became of it */
        return;
    }
    if (rc == 0)
        rc = container_parse_place(r, &at->place, &e);
    if (rc < 0) {
        job_end(j, TASK_RESULT_RETRY, e.message);
        return;
    }
    if (files_gate_result(j->ag->files_dir, j->entry->id, &at->result_fd, &e) < 0) {
        job_end(j, TASK_RESULT_FATAL, e.message);
        return;
    }
    at->give_up_ms = loop_now_ms(j->ag->loop) + GATE_MS_MAX;
    at->wait_ms = WAIT_MS_FIRST;
    try_gate(j);
}

void job_attach(struct job *j)
{
    struct err e = { 0 };

    j->attach = xcalloc(1, sizeof(*j->attach));
    j->attach->gate_fd = j->attach->result_fd = -1;
    job_sent(j, container_inspect(j->ag->engine, job_ref(j), job_reply(j, inspected), &e), &e);
}

/* managerd: flags, signals, systemd's notifications; the rest is manager.c. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/flags.h"
#include "common/log.h"
#include "common/loop.h"
#include "managerd/manager.h"
#include "managerd/offline.h"

/* clang-format off */
static const struct flag table[] = {
    { "state-dir", 0, FLAG_STRING, "DIR", "/var/lib/skep", "Where identity and Raft data live", NULL, false },
    { "run-dir", 0, FLAG_STRING, "DIR", "/run/skep", "Where the local control socket is", NULL, false },
    { "listen", 0, FLAG_STRING, "HOST:PORT", NULL, "Cluster port; enrolment listens on the next one (default: remembered, else 0.0.0.0:2377)", NULL, false },
    { "advertise", 0, FLAG_STRING, "HOST:PORT", NULL, "Address the others reach this manager at (default: remembered, else chosen)", NULL, false },
    { "raft-heartbeat", 0, FLAG_DURATION, NULL, "100ms", "Interval of the leader's heartbeats", NULL, false },
    { "raft-election", 0, FLAG_DURATION, NULL, "1s", "Silence after which a new leader is elected", NULL, false },
    { "log-level", 0, FLAG_STRING, NULL, "info", "error, warn, info or debug", "error|warn|info|debug", false },
    { "config", 0, FLAG_STRING, "FILE", "/etc/skep/managerd.conf", "File with the same options, one per line", "@file", false },
    { "generate-man", 0, FLAG_BOOL, NULL, NULL, "Print the manual page and exit", NULL, true },
    { "version", 'v', FLAG_BOOL, NULL, NULL, "Print version information and quit", NULL, false },
    { "help", 'h', FLAG_BOOL, NULL, NULL, "Print usage", NULL, false },
    { 0 },
};
/* clang-format on */

static const char synopsis[] = "managerd [OPTIONS] | managerd inspect [--dump|--verify] | managerd "
                               "restore FILE --advertise HOST:PORT";

static int print_help(void)
{
    printf("Usage:  %s\n\nKeeps a Skep cluster's desired state under Raft, orchestrates and "
           "schedules.\n"
           "It starts idle; \"ctl swarm init\" or \"ctl swarm join\" makes this host part of a "
           "cluster.\n\n",
           synopsis);
    flags_print_options(stdout, "Options", table, 100);
    return 0;
}

static int print_man(void)
{
    const struct flags_man man = {
        .name = "managerd",
        .section = 8,
        .summary = "manager daemon of the Skep container orchestrator",
        .synopsis = synopsis,
        .description =
            "managerd keeps the cluster's desired state under Raft, orchestrates services, "
            "schedules tasks, issues certificates and tells agents what to run.\n\n"
            "It starts idle and listens on RUN-DIR/control.sock. ctl swarm init or ctl swarm join "
            "makes it a cluster or part of one; on a worker it stays idle until the node is "
            "promoted.\n\n"
            "It may be stopped, killed and started again at any moment. A damaged log or snapshot "
            "refuses to start and names file, offset and remedy.\n\n"
            "managerd inspect verifies a stopped manager's data without changing it; --dump prints "
            "every log entry. It exits with 1 when something does not verify.\n\n"
            "managerd restore makes an empty host the only manager of a cluster that ctl cluster "
            "backup saved, with the same CA and a new identity. Workers find it when HOST:PORT is "
            "a "
            "former manager's address; their containers go on. --help after either shows its "
            "options.",
        .table = table,
        .see_also = "ctl(1), agentd(8)",
    };

    flags_print_man(stdout, &man);
    return 0;
}

static int read_options(struct flags *f, int argc, char **argv, struct err *e)
{
    int rc = flags_parse(f, argc - 1, argv + 1, FLAGS_MIXED, e);

    if (rc < 0)
        return rc;
    if (flags_arg_count(f) > 0)
        return err_set(e, ERR_INVALID, "managerd takes no arguments (\"%s\")", flags_arg(f, 0));
    rc = flags_read_file(f, flags_string(f, "config"), e);
    return rc == -ERR_NOT_FOUND && !flags_given(f, "config") ? 0 : rc;
}

static void on_signal(void *ctx, int fd, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events; /* only EPOLLIN is watched */
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_info("manager.signal", "signal=%u next=\"stopping\"", info.ssi_signo);
    if (*(struct manager **)ctx != NULL)
        manager_shutdown(*(struct manager **)ctx);
}

static struct loop_timer watchdog_timer;

static void on_watchdog(void *ctx, uint64_t now_ms)
{
    uint64_t interval_us = 0;

    if (sd_watchdog_enabled(0, &interval_us) <= 0)
        return;
    (void)sd_notify(0, "WATCHDOG=1"); /* without systemd nobody listens */
    loop_timer_set(ctx, &watchdog_timer, now_ms + interval_us / 3000, on_watchdog, ctx);
}

static int watch_signals(struct loop *l, struct manager **m, struct err *e)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return err_set(e, ERR_INTERNAL, "block signals");
    (void)signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_errno(e, errno, "signalfd");
    return loop_watch_fd(l, fd, EPOLLIN, on_signal, m);
}

static int run(const struct flags *f, struct err *e)
{
    struct manager_options o = {
        .state_dir = flags_string(f, "state-dir"),
        .run_dir = flags_string(f, "run-dir"),
        .listen = flags_string(f, "listen"),
        .advertise = flags_string(f, "advertise"),
        .heartbeat_ms = (uint32_t)(flags_duration(f, "raft-heartbeat") / 1000000),
        .election_ms = (uint32_t)(flags_duration(f, "raft-election") / 1000000),
    };
    struct manager *m = NULL;
    struct loop *l = loop_new(e);
    int rc = l == NULL ? -ERR_IO : watch_signals(l, &m, e);

    if (rc == 0)
        m = manager_new(&o, l, e);
    if (m == NULL) {
        loop_free(l);
        return rc < 0 ? rc : -ERR_UNAVAILABLE;
    }
    (void)sd_notify(0, "READY=1"); /* without systemd nobody listens */
    on_watchdog(l, loop_now_ms(l));
    rc = loop_run(l, e);
    if (rc == 0)
        rc = m->fatal_rc;
    (void)sd_notify(0, "STOPPING=1");
    manager_free(m);
    loop_timer_cancel(l, &watchdog_timer);
    loop_free(l);
    return rc;
}

int main(int argc, char **argv)
{
    int status = offline_main(argc, argv);

    if (status >= 0)
        return status;
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };
    enum log_level level = LOG_INFO;
    int rc = read_options(f, argc, argv, &e);

    /* One arena: many threads of nng allocate little, and idle memory is a promise. */
    (void)mallopt(M_ARENA_MAX, 2);
    if (rc < 0 || log_level_parse(flags_string(f, "log-level"), &level) < 0) {
        (void)fprintf(stderr, "managerd: %s\nSee 'managerd --help'.\n",
                      rc < 0 ? err_message(&e, rc) : "log-level: error, warn, info or debug");
        flags_free(f);
        return FLAGS_EXIT_USAGE;
    }
    log_set_level(level);
    if (flags_bool(f, "help")) {
        rc = print_help();
    } else if (flags_bool(f, "generate-man")) {
        rc = print_man();
    } else if (flags_bool(f, "version")) {
        printf("managerd version %s\n", SKEP_VERSION);
    } else {
        rc = run(f, &e);
        if (rc < 0)
            log_error("manager.exit", "error=\"%s\"", err_message(&e, rc));
    }
    flags_free(f);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

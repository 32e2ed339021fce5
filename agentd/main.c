/* agentd: options, signals, systemd. Everything else is agent.c and below. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agentd/agent.h"
#include "agentd/trim.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/flags.h"
#include "common/log.h"

#define CONFIG_PATH "/etc/skep/agentd.conf"
#define ENGINE_PREFIX "unix://"

enum { STATUS_MS = 1000, TRIM_MS = 10 * 1000 };

static const struct flag table[] = {
    { .name = "config",
      .kind = FLAG_STRING,
      .default_text = CONFIG_PATH,
      .help = "Read options from this file; the command line wins",
      .choices = "@file" },
    { .name = "state-dir",
      .kind = FLAG_STRING,
      .default_text = "/var/lib/skep",
      .help = "Where this host's identity is kept" },
    { .name = "run-dir",
      .kind = FLAG_STRING,
      .default_text = "/run/skep",
      .help = "For files that live until the next boot, secrets among them" },
    { .name = "docker",
      .kind = FLAG_STRING,
      .default_text = ENGINE_PREFIX "/run/docker.sock",
      .help = "Docker Engine to use" },
    { .name = "join",
      .kind = FLAG_LIST,
      .value_name = "HOST[:PORT],...",
      .help = "Managers to join through while this host has no identity" },
    { .name = "token", .kind = FLAG_STRING, .help = "Join token" },
    { .name = "token-file",
      .kind = FLAG_STRING,
      .help = "File with the join token",
      .choices = "@file" },
    { .name = "availability",
      .kind = FLAG_STRING,
      .default_text = "active",
      .help = "Availability of the node when it joins",
      .choices = "active|pause|drain" },
    { .name = "pull",
      .kind = FLAG_STRING,
      .default_text = "always",
      .help = "Pull images named by tag for every task, or only when missing",
      .choices = "always|missing" },
    { .name = "data-path-addr",
      .kind = FLAG_STRING,
      .value_name = "IP",
      .help = "Address for traffic of overlay networks; as the managers see this host by default" },
    { .name = "balancer",
      .kind = FLAG_STRING,
      .default_text = "auto",
      .help = "How service addresses are balanced: ipvs where the kernel has it by default",
      .choices = "auto|ipvs|nftables" },
    { .name = "gate",
      .kind = FLAG_STRING,
      .value_name = "PATH",
      .help = "The program skep-gate; beside agentd or in ../libexec/skep by default",
      .choices = "@file" },
    { .name = "no-overlays",
      .kind = FLAG_BOOL,
      .help = "Leave this host's network alone; tasks with overlay networks run elsewhere" },
    { .name = "allow-engine-access",
      .kind = FLAG_BOOL,
      .help = "Let tasks mount host paths that hold the engine's socket or the agent's files" },
    { .name = "log-level",
      .kind = FLAG_STRING,
      .default_text = "info",
      .help = "error, warn, info or debug",
      .choices = "error|warn|info|debug" },
    { .name = "generate-man",
      .kind = FLAG_BOOL,
      .help = "Print the manual page and exit",
      .hidden = true },
    { .name = "version", .kind = FLAG_BOOL, .help = "Print the version and exit" },
    { .name = "help", .letter = 'h', .kind = FLAG_BOOL, .help = "Print this help and exit" },
    { .name = NULL },
};

struct daemon {
    struct loop *loop;
    struct agent *agent;
    struct loop_timer status_timer, trim_timer;
    uint64_t watchdog_ms, beat_at_ms; /* 0 = no watchdog */
    char status[256];
    unsigned trims_left; /* again once the connections are made */
    int signal_fd;
};

/* ---- options ---- */

struct settings {
    struct agent_options agent;
    char *joins[64], *join_text, *token;
    enum log_level level;
};

static int pick(const char *flag, const char *value, const char *const *choices, int *ret,
                struct err *e)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(value, choices[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return err_set(e, ERR_INVALID, "invalid value \"%s\" for --%s", value, flag);
}

/* "a,b" and repeated flags alike. */
static int settings_joins(struct settings *s, const struct flags *f, struct err *e)
{
    CLEANUP_BUF struct buf all = BUF_INIT(64 << 10);
    char *at, *end;

    for (size_t i = 0; i < flags_list_count(f, "join"); i++)
        if (buf_printf(&all, "%s,", flags_list_at(f, "join", i)) < 0)
            return err_set(e, ERR_INVALID, "--join is too long");
    s->join_text = xstrdup(buf_str(&all));
    for (at = s->join_text; (end = strchr(at, ',')) != NULL; at = end + 1) {
        *end = '\0';
        if (*at == '\0')
            continue;
        if (s->agent.join_count == ARRAY_LEN(s->joins))
            return err_set(e, ERR_INVALID, "more than %zu managers in --join", ARRAY_LEN(s->joins));
        s->joins[s->agent.join_count++] = at;
    }
    s->agent.join = s->joins;
    return 0;
}

static int settings_token(struct settings *s, const struct flags *f, struct err *e)
{
    const char *path = flags_string(f, "token-file");
    CLEANUP_BUF struct buf text = BUF_INIT(4096);
    int rc;

    if (path[0] == '\0') {
        s->token = xstrdup(flags_string(f, "token"));
    } else {
        rc = buf_read_file(&text, path, e);
        if (rc < 0)
            return rc;
        s->token = xstrndup(buf_str(&text), strcspn(buf_str(&text), " \t\r\n"));
    }
    s->agent.token = s->token;
    return 0;
}

static int settings_networks(struct settings *s, const struct flags *f, struct err *e)
{
    static const char *const balancers[] = { "auto", "ipvs", "nftables", NULL };
    const char *address = flags_string(f, "data-path-addr");
    int balancer = 0, rc = pick("balancer", flags_string(f, "balancer"), balancers, &balancer, e);

    s->agent.balancer = (enum net_balancer)balancer;
    s->agent.gate = flags_string(f, "gate");
    s->agent.no_overlays = flags_bool(f, "no-overlays");
    if (rc == 0 && address[0] != '\0')
        rc = ip_parse(address, &s->agent.data_path, e);
    if (rc == 0 && s->agent.gate[0] != '\0' && access(s->agent.gate, X_OK) < 0)
        rc = err_errno(e, errno, "--gate %s", s->agent.gate);
    if (rc < 0 || address[0] == '\0')
        return rc;
    if (ip_is_any(&s->agent.data_path) || ip_is_loopback(&s->agent.data_path) ||
        ip_is_multicast(&s->agent.data_path))
        return err_set(e, ERR_INVALID, "--data-path-addr must be an address of this host, not %s",
                       address);
    return 0;
}

static int settings_take(struct settings *s, const struct flags *f, struct err *e)
{
    static const char *const availabilities[] = { "active", "pause", "drain", NULL };
    static const char *const pulls[] = { "always", "missing", NULL };
    const char *engine = flags_string(f, "docker");
    int availability = 0, pull = 0, rc;

    if (strncmp(engine, ENGINE_PREFIX, strlen(ENGINE_PREFIX)) == 0)
        engine += strlen(ENGINE_PREFIX);
    if (engine[0] != '/')
        return err_set(e, ERR_INVALID, "--docker must be unix:///path, not \"%s\"", engine);
    s->agent.state_dir = flags_string(f, "state-dir");
    s->agent.run_dir = flags_string(f, "run-dir");
    s->agent.engine_socket = engine;
    s->agent.allow_engine_access = flags_bool(f, "allow-engine-access");
    if (log_level_parse(flags_string(f, "log-level"), &s->level) < 0)
        return err_set(e, ERR_INVALID, "invalid value \"%s\" for --log-level",
                       flags_string(f, "log-level"));
    rc = pick("availability", flags_string(f, "availability"), availabilities, &availability, e);
    if (rc == 0)
        rc = pick("pull", flags_string(f, "pull"), pulls, &pull, e);
    if (rc == 0)
        rc = settings_networks(s, f, e);
    if (rc == 0)
        rc = settings_joins(s, f, e);
    if (rc == 0)
        rc = settings_token(s, f, e);
    s->agent.availability = (Skep__NodeAvailability)availability;
    s->agent.pull = (enum agent_pull)pull;
    return rc;
}

static int parse_options(struct flags *f, int argc, char **argv, struct err *e)
{
    int rc = flags_parse(f, argc - 1, argv + 1, FLAGS_MIXED, e);

    if (rc == 0 && flags_arg_count(f) > 0)
        rc = err_set(e, ERR_INVALID, "unexpected argument \"%s\"", flags_arg(f, 0));
    if (rc == 0)
        rc = flags_parse_env(f, "SKEP_AGENTD_", getenv, e);
    if (rc == 0) {
        rc = flags_read_file(f, flags_string(f, "config"), e);
        if (rc == -ERR_NOT_FOUND && !flags_given(f, "config"))
            rc = 0;
    }
    return rc;
}

/* ---- the process ---- */

static void on_signal(void *ctx, int fd, uint32_t events)
{
    struct daemon *d = ctx;
    struct signalfd_siginfo info;

    (void)events;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_info("agentd.stop", "signal=%u containers=kept", info.ssi_signo);
    loop_stop(d->loop);
}

/* Tells systemd how things are; the loop being alive enough to do so is the watchdog's beat. */
static void status_fired(void *ctx, uint64_t now_ms)
{
    struct daemon *d = ctx;
    char status[sizeof(d->status)];

    loop_timer_set(d->loop, &d->status_timer, now_ms + STATUS_MS, status_fired, d);
    agent_describe(d->agent, status, sizeof(status));
    if (strcmp(status, d->status) != 0) {
        memcpy(d->status, status, sizeof(d->status));
        (void)sd_notifyf(0, "STATUS=%s", status); /* without systemd it does nothing */
    }
    if (d->watchdog_ms != 0 && now_ms >= d->beat_at_ms) {
        (void)sd_notify(0, "WATCHDOG=1");
        d->beat_at_ms = now_ms + d->watchdog_ms / 3;
    }
}

static void trim_fired(void *ctx, uint64_t now_ms)
{
    struct daemon *d = ctx;

    trim_memory();
    if (d->trims_left-- > 0)
        loop_timer_set(d->loop, &d->trim_timer, now_ms + TRIM_MS, trim_fired, d);
}

static int signals_watch(struct daemon *d, struct err *e)
{
    sigset_t set;

    (void)sigemptyset(&set); /* these cannot fail with valid signals */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(e, errno, "sigprocmask");
    (void)signal(SIGPIPE, SIG_IGN);
    d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (d->signal_fd < 0)
        return err_errno(e, errno, "signalfd");
    return loop_watch_fd(d->loop, d->signal_fd, EPOLLIN, on_signal, d);
}

static int run(const struct settings *s, struct err *e)
{
    struct daemon d = { .signal_fd = -1, .trims_left = 1 };
    uint64_t watchdog_us = 0;
    int rc = -ERR_IO;

    d.loop = loop_new(e);
    if (d.loop == NULL)
        return rc;
    rc = signals_watch(&d, e);
    if (rc == 0) {
        d.agent = agent_new(d.loop, &s->agent, e);
        rc = d.agent == NULL ? -ERR_IO : 0;
    }
    if (rc == 0) {
        if (sd_watchdog_enabled(0, &watchdog_us) > 0)
            d.watchdog_ms = watchdog_us / 1000;
        log_info("agentd.start", "version=%s state_dir=%s engine=%s", SKEP_VERSION,
                 s->agent.state_dir, s->agent.engine_socket);
        (void)sd_notify(0, "READY=1");
        status_fired(&d, loop_now_ms(d.loop));
        loop_timer_set(d.loop, &d.trim_timer, loop_now_ms(d.loop) + TRIM_MS, trim_fired, &d);
        rc = loop_run(d.loop, e);
        (void)sd_notify(0, "STOPPING=1");
    }
    loop_timer_cancel(d.loop, &d.status_timer);
    loop_timer_cancel(d.loop, &d.trim_timer);
    agent_free(d.agent);
    if (d.signal_fd >= 0) {
        loop_unwatch_fd(d.loop, d.signal_fd);
        (void)close(d.signal_fd);
    }
    loop_free(d.loop);
    return rc;
}

static void print_help(void)
{
    printf(
        "\nUsage:  agentd [OPTIONS]\n\nRuns the tasks that the managers assign to this host\n\n");
    flags_print_options(stdout, "Options", table, 0);
}

static void print_man(void)
{
    const struct flags_man man = {
        .name = "agentd",
        .section = 8,
        .summary = "agent of the Skep container orchestrator",
        .synopsis = "agentd [OPTIONS]",
        .description =
            "agentd runs on every host that carries containers. It asks the managers what this "
            "host has to run, has the Docker Engine run it, and reports what became of it.\n\n"
            "The host joins its cluster with ctl swarm join, or with --join and --token; from then "
            "on its identity and the list of managers on disk are enough. There is no database of "
            "tasks: after a restart agentd finds its containers by their labels and adopts them, "
            "none is restarted. Containers run on while agentd, the managers or both are away.",
        .table = table,
        .see_also = "ctl(1), managerd(8)",
    };

    flags_print_man(stdout, &man);
}

int main(int argc, char **argv)
{
    struct flags *f = flags_new(table, NULL);
    struct settings s = { .level = LOG_INFO };
    struct err e = { 0 };
    int rc;

    (void)mallopt(M_ARENA_MAX, 1);            /* one heap: threads here allocate little */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* secrets of tasks pass through this memory */
    (void)umask(077);
    rc = parse_options(f, argc, argv, &e);
    if (rc == 0 && flags_bool(f, "help")) {
        print_help();
    } else if (rc == 0 && flags_bool(f, "generate-man")) {
        print_man();
    } else if (rc == 0 && flags_bool(f, "version")) {
        printf("agentd version %s\n", SKEP_VERSION);
    } else {
        if (rc == 0)
            rc = settings_take(&s, f, &e);
        if (rc < 0) {
            fprintf(stderr, "%s\nSee 'agentd --help'.\n", e.message);
            flags_free(f);
            return FLAGS_EXIT_USAGE;
        }
        log_set_level(s.level);
        rc = run(&s, &e);
        if (rc < 0)
            log_error("agentd.failed", "error=\"%s\"", err_message(&e, rc));
    }
    free(s.join_text);
    if (s.token != NULL)
        xfree_secret(s.token, strlen(s.token));
    flags_free(f);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

#include "ctl/cmd.h"

#include <stdarg.h>
#include <string.h>

#include "common/log.h"
#include "ctl/client.h"

enum { WORDS_MAX = 2 }; /* of a command's name */

/* The command named by the first words of args; ret_words is how many they are. */
static const struct cmd *find_cmd(int count, char *const args[], int *ret_words)
{
    for (int words = MIN(count, WORDS_MAX); words > 0; words--) {
        char name[128];

        (void)snprintf(name, sizeof(name), "%s%s%s", args[0], words > 1 ? " " : "",
                       words > 1 ? args[1] : "");
        for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
            if (strcmp(cmd->name, name) == 0 ||
                (cmd->alias != NULL && strcmp(cmd->alias, name) == 0)) {
                *ret_words = words;
                return cmd;
            }
        }
    }
    return NULL;
}

/* ---- errors ---- */

int ctl_usage_error(struct ctl *c, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vfprintf(c->err, format, args);
    va_end(args);
    (void)fprintf(c->err, "\nSee 'ctl %s%s--help'.\n", c->cmd != NULL ? c->cmd->name : "",
                  c->cmd != NULL ? " " : "");
    return status;
}

int ctl_fail(struct ctl *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vfprintf(c->err, format, args);
    va_end(args);
    (void)fputc('\n', c->err);
    return CMD_EXIT_FAILED;
}

int ctl_error(struct ctl *c, int rc, const struct err *e)
{
    const char *advice = c->client != NULL ? client_advice(c->client) : "";

    (void)fprintf(c->err, "%s\n", err_message(e, rc));
    if (advice[0] != '\0')
        (void)fprintf(c->err, "%s", advice);
    return CMD_EXIT_FAILED;
}

int ctl_each(struct ctl *c, ctl_one_fn *one, void *ctx)
{
    int status = 0;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    for (int i = 0; i < flags_arg_count(c->flags); i++) {
        struct err e = { 0 };
        int rc = one(c, flags_arg(c->flags, i), ctx, &e);

        if (rc < 0)
            status = ctl_error(c, rc, &e);
    }
    return status;
}

struct client *ctl_client(struct ctl *c)
{
    struct err e = { 0 };
    struct client_options o = {
        .host = flags_string(c->globals, "host"),
        .identity_dir = flags_string(c->globals, "identity"),
        .timeout_ns = flags_duration(c->globals, "timeout"),
    };

    if (c->client != NULL)
        return c->client;
    c->client = client_open(&o, &e);
    if (c->client == NULL)
        (void)ctl_error(c, -e.code, &e);
    return c->client;
}

/* ---- dispatch ---- */

/* docker's words for a wrong number of arguments. False when it is right. */
static bool args_wrong(const struct ctl *c, char *mem, size_t size)
{
    const struct cmd *cmd = c->cmd;
    int count = flags_arg_count(c->flags);
    const char *plural = cmd->args_min == 1 ? "" : "s";

    if (count >= cmd->args_min && (cmd->args_max == CMD_ARGS_ANY || count <= cmd->args_max))
        return false;
    if (cmd->args_max == 0)
        (void)snprintf(mem, size, "'ctl %s' accepts no arguments", cmd->name);
    else if (cmd->args_min == cmd->args_max)
        (void)snprintf(mem, size, "'ctl %s' requires %d argument%s", cmd->name, cmd->args_min,
                       plural);
    else if (count < cmd->args_min)
        (void)snprintf(mem, size, "'ctl %s' requires at least %d argument%s", cmd->name,
                       cmd->args_min, plural);
    else
        (void)snprintf(mem, size, "'ctl %s' requires at most %d argument%s", cmd->name,
                       cmd->args_max, cmd->args_max == 1 ? "" : "s");
    return true;
}

static int run_cmd(struct ctl *c, int count, char *const args[])
{
    struct err e = { 0 };
    char wrong[256];

    if (flags_parse(c->flags, count, args,
                    c->cmd->order == CMD_ARGS_LAST ? FLAGS_ARGS_LAST : FLAGS_MIXED, &e) < 0)
        return ctl_usage_error(c, FLAGS_EXIT_USAGE, "%s", e.message);
    if (flags_bool(c->flags, "help")) {
        cmd_print_help(c, c->out, c->cmd);
        return 0;
    }
    if (args_wrong(c, wrong, sizeof(wrong))) {
        (void)fprintf(c->err, "ctl: %s\n\nUsage:  ctl %s%s%s%s\n\n", wrong, c->cmd->name,
                      c->cmd->flags->name != NULL ? " [OPTIONS]" : "",
                      c->cmd->args[0] != '\0' ? " " : "", c->cmd->args);
        (void)fprintf(c->err, "See 'ctl %s --help' for more information\n", c->cmd->name);
        return CMD_EXIT_FAILED;
    }
    return c->cmd->run(c);
}

/* args[0] names no command: print why, or the help of a group of commands. */
static int no_cmd(struct ctl *c, int count, char *const args[])
{
    const char *group = args[0];

    if (cmd_group_summary(group) == NULL)
        return ctl_fail(c, "ctl: unknown command: ctl %s\n\nRun 'ctl --help' for more information",
                        group);
    for (int i = 1; i < count; i++) {
        if (strcmp(args[i], "--help") == 0 || strcmp(args[i], "-h") == 0)
            continue;
        if (args[i][0] == '-') {
            (void)fprintf(c->err, "unknown flag: %s\nSee 'ctl %s --help'.\n", args[i], group);
            return FLAGS_EXIT_USAGE;
        }
        return ctl_fail(c,
                        "ctl: unknown command: ctl %s %s\n\nUsage:  ctl %s COMMAND\n\n"
                        "Run 'ctl %s --help' for more information",
                        group, args[i], group, group);
    }
    cmd_print_group_help(c, c->out, group);
    return 0;
}

static int dispatch(struct ctl *c)
{
    enum log_level level;
    int count = flags_arg_count(c->globals);
    char **args = arena_array(&c->arena, (size_t)count + 1, sizeof(*args));
    int words = 0;
    int status;

    for (int i = 0; i < count; i++)
        args[i] = arena_strdup(&c->arena, flags_arg(c->globals, i));
    if (log_level_parse(flags_string(c->globals, "log-level"), &level) < 0)
        return ctl_usage_error(c, FLAGS_EXIT_USAGE,
                               "invalid argument \"%s\" for \"-l, --log-level\" flag: use debug, "
                               "info, warn or error",
                               flags_string(c->globals, "log-level"));
    log_set_level(level);
    if (flags_bool(c->globals, "version"))
        return fprintf(c->out, "Skep version %s\n", SKEP_VERSION) > 0 ? 0 : CMD_EXIT_FAILED;
    if (count == 0 || strcmp(args[0], "help") == 0) {
        c->cmd = count > 1 ? find_cmd(count - 1, args + 1, &words) : NULL;
        if (c->cmd != NULL)
            cmd_print_help(c, c->out, c->cmd);
        else if (count > 1)
            return no_cmd(c, count - 1, args + 1);
        else
            cmd_print_main_help(c, c->out);
        return 0;
    }
    c->cmd = find_cmd(count, args, &words);
    if (c->cmd == NULL)
        return flags_bool(c->globals, "help") && cmd_group_summary(args[0]) == NULL
                   ? (cmd_print_main_help(c, c->out), 0)
                   : no_cmd(c, count, args);
    c->flags = flags_new(c->cmd->flags, c->globals);
    status = run_cmd(c, count - words, args + words);
    flags_free(c->flags);
    c->flags = NULL;
    return status;
}

/* The environment sets what names a manager, nothing else: SKEP_VERSION, for one, is somebody
 * else's. */
static char *environment(const char *name)
{
    static const char *const names[] = { "SKEP_HOST", "SKEP_IDENTITY", "SKEP_TIMEOUT",
                                         "SKEP_LOG_LEVEL" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0)
            return getenv(name);
    }
    return NULL;
}

int cmd_main(struct ctl *c, int count, char *const args[])
{
    struct err e = { 0 };
    int status;

    c->globals = flags_new(cmd_global_flags(), NULL);
    if (flags_parse_env(c->globals, "SKEP_", environment, &e) < 0 ||
        flags_parse(c->globals, count, args, FLAGS_ARGS_LAST, &e) < 0)
        status = ctl_usage_error(c, FLAGS_EXIT_USAGE, "%s", e.message);
    else if (flags_bool(c->globals, "help") && flags_arg_count(c->globals) == 0)
        status = (cmd_print_main_help(c, c->out), 0);
    else
        status = dispatch(c);
    if (c->client != NULL)
        client_close(c->client);
    c->client = NULL;
    flags_free(c->globals);
    c->globals = NULL;
    arena_deinit(&c->arena);
    if (fflush(c->out) != 0 && status == 0)
        status = CMD_EXIT_FAILED;
    return status;
}

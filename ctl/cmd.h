/* The commands of ctl: one table (commands.c) behind dispatch, --help, man pages and completion,
 * and the context that a running command gets. A command prints its own errors and returns the exit
 * status: 0, 1 for anything that failed, FLAGS_EXIT_USAGE for an option that does not parse. One
 * thread; everything that a command allocates lives in the arena until it returns. */
#ifndef SKEP_CTL_CMD_H
#define SKEP_CTL_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/arena.h"
#include "common/err.h"
#include "common/flags.h"

struct client;
struct cmd;

struct ctl {
    FILE *out;
    FILE *err;
    bool out_tty;   /* progress may redraw lines */
    size_t columns; /* of the terminal; 0 = unknown, never wrap */
    int64_t now_ns; /* wall clock when the command started: for ages */
    struct flags *globals;
    struct flags *flags; /* of the command, with globals as parent */
    const struct cmd *cmd;
    struct client *client; /* see ctl_client() */
    struct arena arena;
};

enum { CMD_ARGS_ANY = -1, CMD_EXIT_FAILED = 1 };

enum cmd_needs {
    CMD_NOTHING, /* runs without a manager */
    CMD_MANAGER, /* talks to one */
};

enum cmd_args_order { CMD_MIXED, CMD_ARGS_LAST };

struct cmd {
    const char *name;  /* "service create" */
    const char *alias; /* "service list" or NULL */
    int args_min;
    int args_max;
    enum cmd_needs needs;
    enum cmd_args_order order;
    int (*run)(struct ctl *c);
    const struct flag *flags;
    const char *args;     /* "IMAGE [COMMAND] [ARG...]" */
    const char *summary;  /* one line for help */
    const char *details;  /* more paragraphs for the man page, or NULL */
    const char *complete; /* what an argument is: "service", "node", "task", "token", or NULL */
    bool hidden;
};

/* The whole table in the order of help; ends with an entry whose name is NULL. */
const struct cmd *cmd_table(void);
/* Options before the command. */
const struct flag *cmd_global_flags(void);
/* What the first word is about ("Manage Swarm services"), or NULL when it is a command itself. */
const char *cmd_group_summary(const char *word);

/* Parses args (without the program name), runs the command, returns the exit status. */
int cmd_main(struct ctl *c, int count, char *const args[]);

/* The manager named by --host; opened on first use. NULL after printing why not. */
struct client *ctl_client(struct ctl *c);
/* Prints e's message, and what to do about it when the client knows, to c->err. Returns
 * CMD_EXIT_FAILED. */
int ctl_error(struct ctl *c, int rc, const struct err *e);
/* Prints a sentence of the caller's own. Returns CMD_EXIT_FAILED. */
int ctl_fail(struct ctl *c, const char *format, ...) PRINTF(2, 3);
/* Prints a sentence about wrong usage with "See 'ctl X --help'."; returns status. */
int ctl_usage_error(struct ctl *c, int status, const char *format, ...) PRINTF(3, 4);

/* What a command does with one of its arguments. 0, or -ERR_* with e set. */
typedef int ctl_one_fn(struct ctl *c, const char *ref, void *ctx, struct err *e);
/* Every argument, also after one that failed. Prints the errors; returns the exit status. */
int ctl_each(struct ctl *c, ctl_one_fn *one, void *ctx);

/* help.c */
void cmd_print_help(struct ctl *c, FILE *out, const struct cmd *cmd);
void cmd_print_group_help(struct ctl *c, FILE *out, const char *group);
void cmd_print_main_help(struct ctl *c, FILE *out);

/* One file per object; each returns the exit status. */
int service_create(struct ctl *c);
int service_inspect(struct ctl *c);
int service_logs(struct ctl *c);
int service_ls(struct ctl *c);
int service_ps(struct ctl *c);
int service_rm(struct ctl *c);
int service_rollback(struct ctl *c);
int service_scale(struct ctl *c);
int service_update(struct ctl *c);
int cluster_backup(struct ctl *c);
int node_demote(struct ctl *c);
int node_inspect(struct ctl *c);
int node_ls(struct ctl *c);
int node_promote(struct ctl *c);
int node_ps(struct ctl *c);
int node_rm(struct ctl *c);
int node_update(struct ctl *c);
int network_check(struct ctl *c);
int network_create(struct ctl *c);
int network_inspect(struct ctl *c);
int network_ls(struct ctl *c);
int network_prune(struct ctl *c);
int network_rm(struct ctl *c);
int swarm_ca(struct ctl *c);
int swarm_init(struct ctl *c);
int swarm_join(struct ctl *c);
int swarm_join_token(struct ctl *c);
int swarm_leave(struct ctl *c);
int swarm_update(struct ctl *c);
int task_inspect(struct ctl *c);
int system_info(struct ctl *c);
int system_version(struct ctl *c);
int completion_print(struct ctl *c);
int man_generate(struct ctl *c);

#endif

/* generate-man: ctl(1) and one page per command, from the command table. */
#include <errno.h>
#include <string.h>

#include "common/assert.h"
#include "ctl/cmd.h"

static const char files_section[] =
    ".SH FILES\n"
    ".TP\n.I /run/skep/control.sock\nThe socket of the manager on this host.\n"
    ".TP\n.I /var/lib/skep/identity\nCertificate and key of this node, for remote managers.\n"
    ".SH ENVIRONMENT\n"
    ".TP\n.B SKEP_HOST\nAs \\-\\-host.\n"
    ".TP\n.B SKEP_IDENTITY\nAs \\-\\-identity.\n"
    ".TP\n.B SKEP_TIMEOUT\nAs \\-\\-timeout.\n"
    ".SH EXIT STATUS\n"
    ".TP\n.B 0\nDone.\n"
    ".TP\n.B 1\nThe manager refused, something was not found, an update was paused, or waiting "
    "ended "
    "before the service converged.\n"
    ".TP\n.B 125\nAn option does not parse.\n";

static FILE *open_page(struct ctl *c, const char *name)
{
    const char *path = arena_printf(&c->arena, "%s/%s.1", flags_arg(c->flags, 0), name);
    FILE *out = fopen(path, "we");

    if (out == NULL)
        (void)ctl_fail(c, "%s: %s", path, strerror(errno));
    return out;
}

static int close_page(struct ctl *c, FILE *out)
{
    bool failed = ferror(out) != 0;

    if (fclose(out) != 0 || failed)
        return ctl_fail(c, "%s: write error", flags_arg(c->flags, 0));
    return 0;
}

static int main_page(struct ctl *c)
{
    struct flags_man m = {
        .name = "ctl",
        .section = 1,
        .summary = "operate a Skep cluster",
        .synopsis = "ctl [OPTIONS] COMMAND",
        .table = cmd_global_flags(),
        .see_also = "managerd(8), agentd(8)",
    };
    char *text = NULL;
    char *extra = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ASSERT(out != NULL);
    (void)fprintf(out,
                  "ctl talks to a manager of a Skep cluster: to the managerd of this host "
                  "through its socket, or with --host to another one over mutual TLS. Its "
                  "commands, options, tables and templates are those of the docker command "
                  "line.\n\nEvery command has a page of its own, as in ctl-service-create(1).");
    ASSERT(fclose(out) == 0);
    m.description = arena_strdup(&c->arena, text);
    free(text);
    out = open_memstream(&extra, &size);
    ASSERT(out != NULL);
    (void)fprintf(out, ".SH COMMANDS\n");
    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
        if (cmd->hidden)
            continue;
        (void)fprintf(out, ".TP\n\\fB");
        flags_print_roff(out, cmd->name);
        (void)fprintf(out, "\\fR\n");
        flags_print_roff(out, cmd->summary);
        (void)fprintf(out, ".\n");
    }
    (void)fputs(files_section, out);
    ASSERT(fclose(out) == 0);
    m.extra = extra;
    out = open_page(c, "ctl");
    if (out != NULL)
        flags_print_man(out, &m);
    free(extra);
    return out != NULL ? close_page(c, out) : CMD_EXIT_FAILED;
}

static int cmd_page(struct ctl *c, const struct cmd *cmd)
{
    char *name = arena_printf(&c->arena, "ctl-%s", cmd->name);
    struct flags_man m = {
        .name = name,
        .section = 1,
        .summary = cmd->summary,
        .synopsis = arena_printf(&c->arena, "ctl %s%s%s%s", cmd->name,
                                 cmd->flags->name != NULL ? " [OPTIONS]" : "",
                                 cmd->args[0] != '\0' ? " " : "", cmd->args),
        .description =
            arena_printf(&c->arena, "%s.%s%s", cmd->summary, cmd->details != NULL ? "\n\n" : "",
                         cmd->details != NULL ? cmd->details : ""),
        .table = cmd->flags,
        .see_also = "ctl(1)",
    };
    FILE *out;

    for (char *p = name; *p != '\0'; p++)
        *p = *p == ' ' ? '-' : *p;
    out = open_page(c, name);
    if (out == NULL)
        return CMD_EXIT_FAILED;
    flags_print_man(out, &m);
    return close_page(c, out);
}

int man_generate(struct ctl *c)
{
    int status = main_page(c);

    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL && status == 0; cmd++) {
        if (!cmd->hidden)
            status = cmd_page(c, cmd);
    }
    return status;
}

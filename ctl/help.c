/* --help, from the command table, in docker's layout. */
#include <string.h>

#include "ctl/cmd.h"

enum { COLUMNS_DEFAULT = 80 };

static size_t help_columns(const struct ctl *c)
{
    return c->columns > 0 ? c->columns : COLUMNS_DEFAULT;
}

static bool in_group(const struct cmd *cmd, const char *group)
{
    size_t size = strlen(group);

    return strncmp(cmd->name, group, size) == 0 && cmd->name[size] == ' ';
}

void cmd_print_help(struct ctl *c, FILE *out, const struct cmd *cmd)
{
    (void)fprintf(out, "Usage:  ctl %s%s%s%s\n\n%s\n", cmd->name,
                  cmd->flags->name != NULL ? " [OPTIONS]" : "", cmd->args[0] != '\0' ? " " : "",
                  cmd->args, cmd->summary);
    if (cmd->alias != NULL)
        (void)fprintf(out, "\nAliases:\n  ctl %s, ctl %s\n", cmd->name, cmd->alias);
    flags_print_options(out, "Options", cmd->flags, help_columns(c));
}

void cmd_print_group_help(struct ctl *c, FILE *out, const char *group)
{
    (void)c;
    (void)fprintf(out, "Usage:  ctl %s COMMAND\n\n%s\n\nCommands:\n", group,
                  cmd_group_summary(group));
    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
        if (!cmd->hidden && in_group(cmd, group))
            (void)fprintf(out, "  %-11s %s\n", cmd->name + strlen(group) + 1, cmd->summary);
    }
    (void)fprintf(out, "\nRun 'ctl %s COMMAND --help' for more information on a command.\n", group);
}

void cmd_print_main_help(struct ctl *c, FILE *out)
{
    const char *last = "";

    (void)fprintf(out, "Usage:  ctl [OPTIONS] COMMAND\n\nOperate a Skep cluster\n\n"
                       "Management Commands:\n");
    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
        char *word = arena_strdup(&c->arena, cmd->name);

        word[strcspn(word, " ")] = '\0';
        if (cmd->hidden || strcmp(word, last) == 0 || cmd_group_summary(word) == NULL)
            continue;
        (void)fprintf(out, "  %-11s %s\n", word, cmd_group_summary(word));
        last = word;
    }
    (void)fprintf(out, "\nCommands:\n");
    for (const struct cmd *cmd = cmd_table(); cmd->name != NULL; cmd++) {
        if (!cmd->hidden && strchr(cmd->name, ' ') == NULL)
            (void)fprintf(out, "  %-11s %s\n", cmd->name, cmd->summary);
    }
    flags_print_options(out, "Global Options", cmd_global_flags(), help_columns(c));
    (void)fprintf(out, "\nRun 'ctl COMMAND --help' for more information on a command.\n");
}

/* ctl: the operator's command line. See ctl/commands.c for what it can do. */
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "ctl/cmd.h"

/* Columns of the terminal on fd, else $COLUMNS, else 0 (unknown). */
static size_t terminal_columns(int fd)
{
    struct winsize w;
    const char *text = getenv("COLUMNS");

    if (isatty(fd) && ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        return w.ws_col;
    return text != NULL ? strtoul(text, NULL, 10) : 0;
}

int main(int argc, char **argv)
{
    struct ctl c = {
        .out = stdout,
        .err = stderr,
        .out_tty = isatty(STDOUT_FILENO) == 1,
        .columns = terminal_columns(STDOUT_FILENO),
        .now_ns = clock_wall_ns(),
    };

    (void)setvbuf(stderr, NULL, _IOLBF, 0); /* a line of a log is one write */
    (void)signal(SIGPIPE, SIG_DFL);         /* `ctl … | head` ends quietly */
    return cmd_main(&c, argc - 1, argv + 1);
}

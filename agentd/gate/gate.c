/* skep-gate DIR PROGRAM [ARG...]: waits for the agent's word, then becomes PROGRAM. The first
 * process of every container with overlay networks, so it is linked statically, needs nothing of
 * the image, and leaves nothing behind for PROGRAM: no descriptor, no signal setting, no variable.
 * The protocol is in agentd/worker/gate.h. Errors read like the engine's own. */
#include "agentd/worker/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static char text[GATE_TEXT_BYTES_MAX];
static size_t text_size;
static int result_fd = -1;

/* ---- saying why ---- */

static void say(const char *part)
{
    size_t size = strlen(part);

    if (size > sizeof(text) - text_size)
        size = sizeof(text) - text_size;
    memcpy(text + text_size, part, size);
    text_size += size;
}

static void say_error(int code)
{
    static const struct {
        int code;
        const char *text; /* as Go prints them */
    } known[] = {
        { ENOENT, "no such file or directory" },
        { EACCES, "permission denied" },
        { EPERM, "operation not permitted" },
        { ENOEXEC, "exec format error" },
        { ENOTDIR, "not a directory" },
        { EISDIR, "is a directory" },
        { ELOOP, "too many levels of symbolic links" },
        { E2BIG, "argument list too long" },
        { ENOMEM, "cannot allocate memory" },
        { ETXTBSY, "text file busy" },
        { ENAMETOOLONG, "file name too long" },
    };
    char digits[] = "error 000";

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].code == code) {
            say(known[i].text);
            return;
        }
    }
    digits[6] = (char)('0' + code / 100 % 10);
    digits[7] = (char)('0' + code / 10 % 10);
    digits[8] = (char)('0' + code % 10);
    say(digits);
}

/* To the agent, and to the task's log, which outlives it. */
static _Noreturn void end(int status)
{
    ssize_t n;

    if (result_fd >= 0)
        n = write(result_fd, text, text_size);
    n = write(STDERR_FILENO, text, text_size);
    n = write(STDERR_FILENO, "\n", 1);
    (void)n; /* nobody is left to be told */
    _exit(status);
}

/* ---- waiting ---- */

static void on_signal(int number)
{
    _exit(128 + number);
}

/* The first process of a PID namespace ignores every signal that it has no handler for; whatever
 * the image's stop signal is, it must end the wait. Handlers go with the exec. */
static void handle_signals(void)
{
    static const int quiet[] = { SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU };
    struct sigaction end_it = { .sa_handler = on_signal }, before;

    for (int number = 1; number <= SIGRTMAX; number++) {
        bool skip = false;

        for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++)
            skip = skip || quiet[i] == number;
        /* Those that were ignored stay so for the program; libc keeps some numbers for itself. */
        if (skip || sigaction(number, NULL, &before) < 0 || before.sa_handler == SIG_IGN)
            continue;
        (void)sigaction(number, &end_it, NULL); /* KILL and STOP cannot be */
    }
}

/* O_RDWR never waits for the other side, and never sees its end. */
static int open_fifo(const char *dir, const char *name)
{
    char path[PATH_MAX];
    size_t dir_size = strlen(dir), name_size = strlen(name);
    int fd;

    if (dir_size + name_size + 2 > sizeof(path)) {
        say("gate: path is too long");
        end(GATE_EXIT_REVOKED);
    }
    memcpy(path, dir, dir_size);
    path[dir_size] = '/';
    memcpy(path + dir_size + 1, name, name_size + 1);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
    if (fd < 0) {
        int code = errno;

        say("gate: ");
        say(path);
        say(": ");
        say_error(code);
        end(GATE_EXIT_REVOKED);
    }
    return fd;
}

static void wait_for_go(int gate_fd)
{
    char byte = 0;
    ssize_t n;

    do
        n = read(gate_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1 && byte == GATE_GO)
        return;
    say("gate: the task was revoked");
    end(GATE_EXIT_REVOKED);
}

/* ---- becoming the program ---- */

static void say_quoted(const char *program)
{
    say("exec: \"");
    say(program);
    say("\": ");
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* The first program of that name in $PATH; false: none. */
static bool find_program(const char *name, char ret[PATH_MAX])
{
    const char *at = NULL, *end_of_dir;
    size_t name_size = strlen(name);

    for (char **v = environ; *v != NULL && at == NULL; v++)
        if (strncmp(*v, "PATH=", 5) == 0)
            at = *v + 5;
    for (; at != NULL; at = *end_of_dir == '\0' ? NULL : end_of_dir + 1) {
        size_t size;

        end_of_dir = strchrnul(at, ':');
        size = (size_t)(end_of_dir - at);
        if (size == 0 || size + name_size + 2 > PATH_MAX)
            continue;
        memcpy(ret, at, size);
        ret[size] = '/';
        memcpy(ret + size + 1, name, name_size + 1);
        if (is_program(ret))
            return true;
    }
    return false;
}

/* A name with a slash is taken as it is, from the working directory. */
static const char *resolve(const char *name)
{
    static char found[PATH_MAX];
    struct stat st;

    if (strchr(name, '/') == NULL) {
        if (name[0] != '\0' && find_program(name, found))
            return found;
        say_quoted(name);
        say("executable file not found in $PATH");
        end(GATE_EXIT_NOT_FOUND);
    }
    if (stat(name, &st) < 0) {
        int code = errno;

        say_quoted(name);
        say("stat ");
        say(name);
        say(": ");
        say_error(code);
        end(code == ENOENT ? GATE_EXIT_NOT_FOUND : GATE_EXIT_REFUSED);
    }
    if (!is_program(name)) {
        say_quoted(name);
        say_error(S_ISDIR(st.st_mode) ? EISDIR : EACCES);
        end(GATE_EXIT_REFUSED);
    }
    return name;
}

int main(int argc, char **argv)
{
    const char *path;
    int gate_fd, code;

    if (argc < 3) {
        say("Usage: skep-gate DIR PROGRAM [ARG...]");
        end(GATE_EXIT_REVOKED);
    }
    handle_signals();
    result_fd = open_fifo(argv[1], GATE_RESULT_FIFO);
    gate_fd = open_fifo(argv[1], GATE_FIFO);
    wait_for_go(gate_fd);
    path = resolve(argv[2]);
    (void)execve(path, argv + 2, environ);
    code = errno;
    say("exec ");
    say(path);
    say(": ");
    say_error(code);
    end(code == ENOENT ? GATE_EXIT_NOT_FOUND : GATE_EXIT_REFUSED);
}

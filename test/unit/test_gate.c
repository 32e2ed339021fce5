/* The entrypoint gate as a process: what it waits for, what it becomes, what it says when it
 * cannot. The test plays the agent at the other side of the pipes. */
#include "agentd/worker/gate.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"
#include "test/lib/tmpdir.h"

enum { WAIT_MS = 20 * 1000 };

static char program[PATH_MAX];
static char *dir, *out_path;
static int result_fd;
static pid_t child;

/* build/<variant>/unit/test_gate to build/<variant>/skep-gate */
static void find_gate(void)
{
    char self[PATH_MAX] = "";

    ck_assert_int_gt(readlink("/proc/self/exe", self, sizeof(self) - 1), 0);
    (void)snprintf(program, sizeof(program), "%s/skep-gate", dirname(dirname(self)));
}

static void setup(void)
{
    CLEANUP_FREE char *gate = NULL;
    CLEANUP_FREE char *result = NULL;

    find_gate();
    dir = tmpdir_new();
    gate = xasprintf("%s/" GATE_FIFO, dir);
    result = xasprintf("%s/" GATE_RESULT_FIFO, dir);
    out_path = xasprintf("%s/out", dir);
    ck_assert_int_eq(mkfifo(gate, 0600), 0);
    ck_assert_int_eq(mkfifo(result, 0600), 0);
    result_fd = open(result, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(result_fd, 0);
    child = 0;
}

static void teardown(void)
{
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    (void)close(result_fd);
    free(out_path);
    tmpdir_empty(dir);
    tmpdir_remove(dir);
}

static _Noreturn void become_gate(const char *const *argv, const char *path_variable)
{
    char *full[16] = { program, dir }, *env[] = { (char *)path_variable, (char *)"KEPT=1", NULL };
    int out = open(out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    size_t n = 2;

    for (size_t i = 0; argv[i] != NULL; i++)
        full[n++] = (char *)argv[i];
    if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || close(out) < 0)
        _exit(99);
    (void)close_range(3, UINT_MAX, 0);
    (void)execve(program, full, env);
    _exit(98);
}

/* The gate with its standard output and error in <dir>/out. */
static void start(const char *const *argv, const char *path_variable)
{
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        become_gate(argv, path_variable);
}

/* The same as the first process of a PID namespace; returns its number here. Its parent ends as it
 * does. */
static pid_t start_as_process_one(const char *const *argv)
{
    pid_t inner = 0;
    int pipe_fd[2], status = 0;

    ck_assert_int_eq(pipe(pipe_fd), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (unshare(CLONE_NEWPID) < 0)
            _exit(97);
        inner = fork();
        if (inner == 0)
            become_gate(argv, "PATH=/bin");
        if (write(pipe_fd[1], &inner, sizeof(inner)) != sizeof(inner) ||
            waitpid(inner, &status, 0) < 0)
            _exit(96);
        _exit(WEXITSTATUS(status));
    }
    (void)close(pipe_fd[1]);
    ck_assert_int_eq(read(pipe_fd[0], &inner, sizeof(inner)), sizeof(inner));
    (void)close(pipe_fd[0]);
    return inner;
}

/* Opens the gate's pipe as the agent does: fails until the program waits there. */
static int open_gate(void)
{
    CLEANUP_FREE char *path = xasprintf("%s/" GATE_FIFO, dir);
    int fd = -1;

    for (unsigned i = 0; i < WAIT_MS && fd < 0; i++) {
        fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        ck_assert(fd >= 0 || errno == ENXIO);
        if (fd < 0)
            (void)poll(NULL, 0, 1);
    }
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void go(char byte)
{
    int fd = open_gate();

    ck_assert_int_eq(write(fd, &byte, 1), 1);
    (void)close(fd);
}

static int wait_status(void)
{
    int status = 0;

    for (unsigned i = 0; i < WAIT_MS; i++) {
        if (waitpid(child, &status, WNOHANG) == child) {
            child = 0;
            return status;
        }
        (void)poll(NULL, 0, 1);
    }
    ck_abort_msg("the gate does not end");
    return 0;
}

/* All that the result pipe has until its end. */
static const char *result(void)
{
    static char text[1024];
    size_t size = 0;
    ssize_t n;

    for (;;) {
        struct pollfd p = { .fd = result_fd, .events = POLLIN };

        ck_assert_int_gt(poll(&p, 1, WAIT_MS), 0);
        n = read(result_fd, text + size, sizeof(text) - 1 - size);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0)
            break;
        size += (size_t)n;
    }
    text[size] = '\0';
    return text;
}

static const char *output(void)
{
    static char text[4096];
    int fd = open(out_path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof(text) - 1);

    text[n < 0 ? 0 : n] = '\0';
    (void)close(fd);
    return text;
}

#define PATH_ENV "PATH=/usr/local/bin:/usr/bin:/bin"
#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* Nothing runs before the word; then the program has its arguments, its environment and no more
 * than it would have had without the gate. */
START_TEST(waits_then_becomes_the_program)
{
    start(ARGS("sh", "-c",
               "echo \"$0|$1|$KEPT\"; ls /proc/self/fd | wc -l; cat "
               "/proc/self/status",
               "zero", "a b"),
          PATH_ENV);
    (void)close(open_gate()); /* it is there, and an agent that dies now changes nothing */
    (void)poll(NULL, 0, 50);
    ck_assert_str_eq(output(), "");
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    go(GATE_GO);
    ck_assert_str_eq(result(), "");
    ck_assert_int_eq(wait_status(), 0);
    /* ls has 0, 1, 2 and the directory */
    ck_assert_msg(strncmp(output(), "zero|a b|1\n4\n", 13) == 0, "%s", output());
    ck_assert_ptr_nonnull(strstr(output(), "SigBlk:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(output(), "SigCgt:\t0000000000000000"));
}
END_TEST

START_TEST(the_programs_status_is_its_own)
{
    start(ARGS("/bin/sh", "-c", "exit 7"), PATH_ENV);
    go(GATE_GO);
    ck_assert_int_eq(WEXITSTATUS(wait_status()), 7);
}
END_TEST

/* docker_api.md appendix D 6; the words are those of the engine (Go's LookPath). */
static const struct refusal {
    const char *why, *name;
    int status;
    const char *text;
} refusals[] = {
    { "not in PATH", "no-such-program", GATE_EXIT_NOT_FOUND,
      "exec: \"no-such-program\": executable file not found in $PATH" },
    { "a directory's name in PATH", "python3", GATE_EXIT_NOT_FOUND, "executable file not found" },
    { "no such path", "/no/such", GATE_EXIT_NOT_FOUND,
      "exec: \"/no/such\": stat /no/such: no such file or directory" },
    { "relative, not there", "./no-such", GATE_EXIT_NOT_FOUND,
      "exec: \"./no-such\": stat ./no-such: no such file or directory" },
    { "not executable", "/etc/passwd", GATE_EXIT_REFUSED,
      "exec: \"/etc/passwd\": permission denied" },
    { "a directory", "/etc", GATE_EXIT_REFUSED, "exec: \"/etc\": is a directory" },
    { "below a file", "/etc/passwd/x", GATE_EXIT_REFUSED,
      "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory" },
    { "empty", "", GATE_EXIT_NOT_FOUND, "exec: \"\": executable file not found in $PATH" },
};

START_TEST(says_why_it_cannot)
{
    const struct refusal *r = &refusals[_i];

    start(ARGS(r->name, "x"), "PATH=/nowhere::/usr/lib");
    go(GATE_GO);
    ck_assert_msg(strstr(result(), r->text) != NULL, "%s: %s", r->why, output());
    ck_assert_int_eq(WEXITSTATUS(wait_status()), r->status);
    ck_assert_msg(strstr(output(), r->text) != NULL, "%s: %s", r->why, output());
}
END_TEST

/* A file that is no program, and a script whose interpreter is missing: the kernel's word. */
START_TEST(says_what_the_kernel_said)
{
    static const struct {
        const char *content, *text;
        int status;
    } cases[] = {
        { "rubbish\n", "exec format error", GATE_EXIT_REFUSED },
        { "#!/no/interpreter\n", "no such file or directory", GATE_EXIT_NOT_FOUND },
    };
    CLEANUP_FREE char *path = xasprintf("%s/script", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);

    ck_assert_int_gt(write(fd, cases[_i].content, strlen(cases[_i].content)), 0);
    (void)close(fd);
    start(ARGS(path), PATH_ENV);
    go(GATE_GO);
    ck_assert_msg(strstr(result(), cases[_i].text) != NULL, "%s", output());
    ck_assert_int_eq(WEXITSTATUS(wait_status()), cases[_i].status);
}
END_TEST

/* PATH is searched in order; what is not executable there is passed over, as is "". */
START_TEST(searches_the_path_in_order)
{
    CLEANUP_FREE char *first = xasprintf("%s/a", dir);
    CLEANUP_FREE char *second = xasprintf("%s/b", dir);
    CLEANUP_FREE char *path = xasprintf("PATH=::%s:%s:/bin", first, second);
    CLEANUP_FREE char *one = xasprintf("%s/prog", first);
    CLEANUP_FREE char *two = xasprintf("%s/prog", second);
    int fd;

    ck_assert_int_eq(mkdir(first, 0755), 0);
    ck_assert_int_eq(mkdir(second, 0755), 0);
    fd = open(one, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    (void)close(fd);
    ck_assert_int_eq(symlink("/bin/echo", two), 0);
    start(ARGS("prog", "found"), path);
    go(GATE_GO);
    ck_assert_int_eq(wait_status(), 0);
    ck_assert_str_eq(output(), "found\n");
}
END_TEST

/* A stop while it waits ends it, whatever the image's stop signal is; also as the first process of
 * a PID namespace, which the kernel protects from signals without a handler. */
static const int stop_signals[] = { SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGPWR };

START_TEST(signals_end_the_wait)
{
    start(ARGS("echo", "ran"), PATH_ENV);
    (void)close(open_gate());
    ck_assert_int_eq(kill(child, stop_signals[_i]), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_status()), 128 + stop_signals[_i]);
    ck_assert_str_eq(output(), "");
}
END_TEST

START_TEST(signals_end_it_as_process_one)
{
    pid_t inner;

    if (geteuid() != 0)
        return;
    inner = start_as_process_one(ARGS("echo", "ran"));
    (void)close(open_gate());
    ck_assert_int_eq(kill(inner, SIGTERM), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_status()), 128 + SIGTERM);
    ck_assert_str_eq(output(), "");
}
END_TEST

/* A change of the terminal's size is no stop. */
START_TEST(stays_for_harmless_signals)
{
    start(ARGS("true"), PATH_ENV);
    (void)close(open_gate());
    ck_assert_int_eq(kill(child, SIGWINCH), 0);
    ck_assert_int_eq(kill(child, SIGCHLD), 0);
    go(GATE_GO);
    ck_assert_int_eq(wait_status(), 0);
}
END_TEST

START_TEST(a_revoked_task_never_runs)
{
    start(ARGS("echo", "ran"), PATH_ENV);
    go('x');
    ck_assert_int_eq(WEXITSTATUS(wait_status()), GATE_EXIT_REVOKED);
    ck_assert_ptr_null(strstr(output(), "ran"));
    ck_assert_str_eq(result(), "gate: the task was revoked");
}
END_TEST

START_TEST(without_its_pipes_it_ends)
{
    tmpdir_empty(dir);
    start(ARGS("echo", "ran"), PATH_ENV);
    ck_assert_int_eq(WEXITSTATUS(wait_status()), GATE_EXIT_REVOKED);
    ck_assert_ptr_nonnull(strstr(output(), "no such file or directory"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gate");
    TCase *tc = tcase_create("gate");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, waits_then_becomes_the_program);
    tcase_add_test(tc, the_programs_status_is_its_own);
    tcase_add_loop_test(tc, says_why_it_cannot, 0, (int)(sizeof(refusals) / sizeof(refusals[0])));
    tcase_add_loop_test(tc, says_what_the_kernel_said, 0, 2);
    tcase_add_test(tc, searches_the_path_in_order);
    tcase_add_loop_test(tc, signals_end_the_wait, 0,
                        (int)(sizeof(stop_signals) / sizeof(stop_signals[0])));
    tcase_add_test(tc, stays_for_harmless_signals);
    tcase_add_test(tc, a_revoked_task_never_runs);
    tcase_add_test(tc, without_its_pipes_it_ends);
    tcase_add_test(tc, signals_end_it_as_process_one);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

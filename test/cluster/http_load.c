/* Asks web servers without pause and counts what goes wrong, for tests that say "0 failed
 * requests". http_load [-c CLIENTS] [-t SECONDS] [-w MS] [-s FILE] IP:PORT... Each client makes one
 * request per new connection, to the targets in turn, and waits at most MS (2000) for its answer.
 * At the end (SECONDS, SIGTERM, or once FILE is gone): "requests N failed N slowest_ms N", one line
 * per distinct answer or failure with its count, where and when the first failed, and exit status 1
 * if any did. Static, so that
 * it runs in any container. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"

enum { CLIENTS_MAX = 64, TARGETS_MAX = 64, ANSWERS_MAX = 256, TEXT_MAX = 96 };

struct answer {
    char text[TEXT_MAX];
    bool failed;
    uint64_t count;
};

static struct sockaddr_in targets[TARGETS_MAX];
static size_t target_count;
static int wait_ms = 2000;
static const char *while_file; /* NULL: for ever */
static volatile sig_atomic_t stopped;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct answer answers[ANSWERS_MAX];
static size_t answer_count;
static uint64_t slowest_ms, start_ms;
static char first_failure[2 * TEXT_MAX]; /* where and when: what to look for in a capture */

static void keep_failure(int fd, const struct sockaddr_in *to)
{
    struct sockaddr_in from = { 0 };
    socklen_t size = sizeof(from);
    char a[INET_ADDRSTRLEN], b[INET_ADDRSTRLEN];

    (void)getsockname(fd, (struct sockaddr *)&from, &size);
    (void)pthread_mutex_lock(&lock);
    if (first_failure[0] == '\0')
        (void)snprintf(first_failure, sizeof(first_failure),
                       "%s:%u to %s:%u, noticed after %llu ms",
                       inet_ntop(AF_INET, &from.sin_addr, a, sizeof(a)), ntohs(from.sin_port),
                       inet_ntop(AF_INET, &to->sin_addr, b, sizeof(b)), ntohs(to->sin_port),
                       (unsigned long long)(clock_now_ms() - start_ms));
    (void)pthread_mutex_unlock(&lock);
}

static void note(const char *text, bool failed, uint64_t took_ms)
{
    size_t i = 0;

    (void)pthread_mutex_lock(&lock);
    while (i < answer_count && (answers[i].failed != failed || strcmp(answers[i].text, text) != 0))
        i++;
    if (i == answer_count && answer_count < ANSWERS_MAX) {
        (void)snprintf(answers[i].text, TEXT_MAX, "%s", text);
        answers[i].failed = failed;
        answer_count++;
    }
    if (i < ANSWERS_MAX)
        answers[i].count++;
    if (took_ms > slowest_ms)
        slowest_ms = took_ms;
    (void)pthread_mutex_unlock(&lock);
}

/* The first line behind the header of a good answer; NULL for anything else. */
static char *body_of(char *answer)
{
    char *body = strstr(answer, "\r\n\r\n");

    if (strncmp(answer, "HTTP/1.", 7) != 0 || strncmp(answer + 8, " 200", 4) != 0 || body == NULL)
        return NULL;
    body += 4;
    body[strcspn(body, "\r\n")] = '\0';
    return body;
}

/* One request; text is the answer's first line, or what went wrong. */
static bool request(const struct sockaddr_in *to, char text[TEXT_MAX])
{
    static const char get[] = "GET / HTTP/1.0\r\nHost: load\r\n\r\n";
    struct timeval patience = { .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
    char answer[2048];
    size_t size = 0;
    ssize_t n = -1;
    const char *doing = "connect";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0) {
        doing = "send";
        n = send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL);
    }
    while (n > 0 && size < sizeof(answer) - 1) {
        doing = "receive";
        n = recv(fd, answer + size, sizeof(answer) - 1 - size, 0);
        if (n > 0)
            size += (size_t)n;
    }
    int why = errno;

    answer[size] = '\0';
    char *body = n == 0 ? body_of(answer) : NULL;

    if (body == NULL)
        keep_failure(fd, to);
    (void)close(fd);
    if (body != NULL)
        (void)snprintf(text, TEXT_MAX, "%.80s", body);
    else if (n == 0)
        (void)snprintf(text, TEXT_MAX, "bad answer: %.*s", (int)strcspn(answer, "\r\n"), answer);
    else
        (void)snprintf(text, TEXT_MAX, "%s: %s", doing, strerror(why));
    return body != NULL;
}

static void *client(void *first)
{
    char text[TEXT_MAX];

    for (size_t i = (size_t)(uintptr_t)first; !stopped; i++) {
        uint64_t start = clock_now_ms();
        bool good = request(&targets[i % target_count], text);

        note(text, !good, clock_now_ms() - start);
        if (!good)
            (void)usleep(20000);
        if (while_file != NULL && access(while_file, F_OK) < 0)
            stopped = 1;
    }
    return NULL;
}

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static bool add_target(char *text)
{
    char *colon = strrchr(text, ':');
    struct sockaddr_in *to = &targets[target_count];

    if (colon == NULL || target_count == TARGETS_MAX)
        return false;
    *colon = '\0';
    to->sin_family = AF_INET;
    to->sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    target_count++;
    return inet_pton(AF_INET, text, &to->sin_addr) == 1;
}

static int summary(void)
{
    uint64_t total = 0, failed = 0;

    for (size_t i = 0; i < answer_count; i++) {
        total += answers[i].count;
        failed += answers[i].failed ? answers[i].count : 0;
    }
    printf("requests %llu failed %llu slowest_ms %llu\n", (unsigned long long)total,
           (unsigned long long)failed, (unsigned long long)slowest_ms);
    for (size_t i = 0; i < answer_count; i++)
        printf("%7llu %s%s\n", (unsigned long long)answers[i].count,
               answers[i].failed ? "FAILED " : "", answers[i].text);
    if (first_failure[0] != '\0')
        printf("        first failure: %s\n", first_failure);
    return failed > 0 || total == 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[CLIENTS_MAX];
    unsigned long count = 4, seconds = 0;
    int option;

    while ((option = getopt(argc, argv, "c:t:w:s:")) != -1) {
        unsigned long value = option == '?' ? 0 : strtoul(optarg, NULL, 10);

        if (option == 'c' && value >= 1 && value <= CLIENTS_MAX)
            count = value;
        else if (option == 't')
            seconds = value;
        else if (option == 's')
            while_file = optarg;
        else if (option == 'w' && value >= 1)
            wait_ms = (int)value;
        else
            return 2;
    }
    while (optind < argc)
        if (!add_target(argv[optind++]))
            return 2;
    if (target_count == 0)
        return 2;
    (void)signal(SIGTERM, stop);
    (void)signal(SIGALRM, stop);
    (void)alarm((unsigned)seconds);
    start_ms = clock_now_ms();
    for (unsigned long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, client, (void *)(uintptr_t)i) != 0)
            return 2;
    for (unsigned long i = 0; i < count; i++)
        (void)pthread_join(threads[i], NULL);
    return summary();
}

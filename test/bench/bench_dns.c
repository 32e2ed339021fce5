/* Answers per second of agentd/dns over real UDP sockets in a network namespace, with the server in
 * a process of its own: 1 000 services with 10 tasks each, names drawn at random. Goals: 50 000
 * answers per second of one processor, 99 of 100 within 1 ms at a moderate load. A bare echo server
 * on the same sockets tells what the machine has to do with it. Needs root, or user namespaces. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/dns/dns.h"
#include "common/assert.h"
#include "common/clock.h"
#include "common/prng.h"
#include "test/lib/dns_text.h"
#include "test/lib/netns_lab.h"
#include "test/lib/networks_text.h"

enum {
    SERVICES = 1000,
    TASKS = 10,
    BATCH = 64,
    WINDOW = 256,
    MEASURE_MS = 3000,
    PACED = 10000,
    ECHO_PORT = 5353
};

static struct err e;
static struct prng prng;
static struct arena arena;

/* ---- the server ---- */

static void apply(struct tables *t, const char *line)
{
    struct arena a = { 0 };

    ASSERT(tables_apply(t, networks_parse(&a, line)));
    arena_deinit(&a);
}

static struct tables *make_tables(void)
{
    struct tables *t = tables_new();
    char line[256];

    apply(t, "complete\nnetwork n1 front 10.0.0.0/15");
    for (int s = 0; s < SERVICES; s++) {
        (void)snprintf(line, sizeof(line), "service s%04d service-%d vip n1=10.0.%d.%d/15", s, s,
                       2 + s / 250, 1 + s % 250);
        apply(t, line);
        for (int i = 0; i < TASKS; i++) {
            int n = s * TASKS + i;

            (void)snprintf(line, sizeof(line),
                           "endpoint t%05d service-%d.%d.t%d s%04d m1 UP n1=10.1.%d.%d/15", n, s, i,
                           n, s, n / 250, 1 + n % 250);
            apply(t, line);
        }
    }
    return t;
}

static void pin(int processor)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(processor % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static void serve(int netns, int ready)
{
    struct dns_options o = { .resolv_conf = "/dev/null" };
    struct loop *l = loop_new(&e);
    struct tables *t = make_tables();
    struct dns *d = dns_new(l, t, &o);
    struct ip gateway;

    pin(0);
    ASSERT(ip_parse("10.0.1.1", &gateway, NULL) == 0);
    ASSERT(dns_listen(d, networks_id(&arena, "n1"), netns, &gateway, 1, &e) == 0);
    ASSERT(write(ready, "", 1) == 1);
    _exit(loop_run(l, &e) == 0 ? 0 : 1);
}

/* Turns each query into something that looks like its answer. */
static void echo(int fd)
{
    static uint8_t mem[BATCH][DNS_TEXT_QUERY_MAX];
    static struct sockaddr_in from[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr batch[BATCH];

    pin(0);
    for (;;) {
        memset(batch, 0, sizeof(batch));
        for (unsigned i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){ mem[i], sizeof(mem[i]) };
            batch[i].msg_hdr = (struct msghdr){ .msg_name = &from[i],
                                                .msg_namelen = sizeof(from[i]),
                                                .msg_iov = &parts[i],
                                                .msg_iovlen = 1 };
        }
        int got = recvmmsg(fd, batch, BATCH, MSG_WAITFORONE, NULL);

        for (int i = 0; i < got; i++) {
            mem[i][7] = 1;
            parts[i].iov_len = batch[i].msg_len;
        }
        if (got > 0)
            (void)sendmmsg(fd, batch, (unsigned)got, 0);
    }
}

/* ---- the clients ---- */

struct kind {
    const char *what, *format;
    bool of_task;
    bool paced;
    bool echo; /* of a bare echo server: what sockets and scheduler cost here */
};

static uint64_t sent_ns[UINT16_MAX + 1]; /* by id */
static uint32_t latencies_us[1 << 20];
static size_t answered;

static size_t make_query(uint8_t *m, const struct kind *k, uint16_t id)
{
    char name[64];
    int service = (int)prng_below(&prng, SERVICES), task = (int)prng_below(&prng, TASKS);

    if (k->of_task)
        (void)snprintf(name, sizeof(name), "service-%d.%d.t%d", service, task,
                       service * TASKS + task);
    else
        (void)snprintf(name, sizeof(name), "%sservice-%d", k->format, service);
    return dns_text_query(m, &(struct dns_text_query){ .name = name, .id = id });
}

static void send_queries(int fd, const struct kind *k, unsigned count)
{
    static uint8_t mem[BATCH][DNS_TEXT_QUERY_MAX];
    static uint16_t id;
    struct iovec parts[BATCH];
    struct mmsghdr batch[BATCH];
    uint64_t now = clock_now_ns();

    memset(batch, 0, sizeof(batch));
    for (unsigned i = 0; i < count; i++) {
        id = id == UINT16_MAX ? 1 : (uint16_t)(id + 1);
        parts[i] = (struct iovec){ mem[i], make_query(mem[i], k, id) };
        batch[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
        sent_ns[id] = now;
    }
    ASSERT(sendmmsg(fd, batch, count, 0) == (int)count);
}

static unsigned receive_answers(int fd, int flags)
{
    static uint8_t mem[BATCH][2048];
    struct iovec parts[BATCH];
    struct mmsghdr batch[BATCH];

    memset(batch, 0, sizeof(batch));
    for (unsigned i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){ mem[i], sizeof(mem[i]) };
        batch[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
    }
    int got = recvmmsg(fd, batch, BATCH, flags, NULL);
    uint64_t now = clock_now_ns();

    for (int i = 0; i < got; i++) {
        ASSERT((mem[i][3] & 15) == 0 && mem[i][7] > 0); /* an address, no error */
        uint64_t took = now - sent_ns[mem[i][0] << 8 | mem[i][1]];

        if (answered < ARRAY_LEN(latencies_us))
            latencies_us[answered] = (uint32_t)(took / 1000);
        answered++;
    }
    return got > 0 ? (unsigned)got : 0;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static uint64_t processor_ns(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    FILE *f = fopen(path, "re");
    ASSERT(f != NULL && fscanf(f, "%llu", &ns) == 1);
    (void)fclose(f);
    return ns;
}

static void wait_readable(int fd, uint64_t until_ns)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    uint64_t now = clock_now_ns(), left = until_ns > now ? until_ns - now : 0;
    struct timespec t = { (time_t)(left / 1000000000), (long)(left % 1000000000) };

    (void)ppoll(&p, 1, &t, NULL);
}

static void measure(int fd, pid_t server, const struct kind *k)
{
    uint64_t start = clock_now_ns(), cpu = processor_ns(server), asked = 0, end;

    answered = 0;
    end = start + MEASURE_MS * UINT64_C(1000000);
    for (uint64_t now = start; now < end; now = clock_now_ns()) {
        if (k->paced && asked < (now - start) * PACED / 1000000000) {
            send_queries(fd, k, 1);
            asked++;
        } else if (!k->paced && asked - answered <= WINDOW - BATCH) {
            send_queries(fd, k, BATCH);
            asked += BATCH;
        } else {
            wait_readable(fd, k->paced ? start + (asked + 1) * (1000000000 / PACED) : end);
        }
        (void)receive_answers(fd, MSG_DONTWAIT);
    }
    double seconds = (double)(clock_now_ns() - start) / 1e9;
    double used = (double)(processor_ns(server) - cpu) / 1e9;
    uint64_t limit = clock_now_ms() + 1000;
    while (answered < asked && clock_now_ms() < limit)
        (void)receive_answers(fd, MSG_DONTWAIT);
    size_t count = MIN(answered, ARRAY_LEN(latencies_us));
    ASSERT(count > 0);
    qsort(latencies_us, count, sizeof(latencies_us[0]), compare);
    if (k->paced)
        printf("%-22s %6d asked/s: p50 %4u us, p99 %5u us%s, p99.9 %5u us\n", k->what, PACED,
               latencies_us[count / 2], latencies_us[count * 99 / 100],
               k->echo ? "            " : " (goal 1000)", latencies_us[count * 999 / 1000]);
    else
        printf("%-22s %8.0f /s, %8.0f /s of processor time%s, p99 %5u us\n", k->what,
               (double)answered / seconds, (double)answered / used,
               k->echo ? "             " : " (goal 50000)", latencies_us[count * 99 / 100]);
    if (answered < asked)
        printf("%-22s %8" PRIu64 " of %" PRIu64 "\n", "  lost", asked - answered, asked);
}

static int client_open(uint16_t port)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), bytes = 4 << 20;

    ASSERT(fd >= 0 && inet_pton(AF_INET, "10.1.0.1", &from.sin_addr) == 1 &&
           inet_pton(AF_INET, "10.0.1.1", &to.sin_addr) == 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    ASSERT(bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
    ASSERT(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

static pid_t start_echo(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(ECHO_PORT) };
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ASSERT(fd >= 0 && inet_pton(AF_INET, "10.0.1.1", &a.sin_addr) == 1);
    ASSERT(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid == 0)
        echo(fd);
    (void)close(fd);
    return pid;
}

static void stop(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

int main(void)
{
    static const struct kind kinds[] = {
        { "service -> address", "", false, false, false },
        { "tasks. -> 10 addresses", "tasks.", false, false, false },
        { "container -> address", "", true, false, false },
        { "bare echo", "", false, false, true },
        { "service -> address", "", false, true, false },
        { "bare echo", "", false, true, true },
    };
    int ends[2];
    char byte;

    prng_init(&prng, 1);
    int netns = netns_lab_new();
    netns_lab_address("10.0.1.1");
    netns_lab_address("10.1.0.1");
    ASSERT(pipe(ends) == 0);
    (void)fflush(stdout);
    pid_t server = fork();
    ASSERT(server >= 0);
    if (server == 0)
        serve(netns, ends[1]);
    ASSERT(read(ends[0], &byte, 1) == 1);
    pid_t bare = start_echo();
    pin(1);
    int fd = client_open(53), echo_fd = client_open(ECHO_PORT);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        measure(kinds[i].echo ? echo_fd : fd, kinds[i].echo ? bare : server, &kinds[i]);
    (void)close(fd);
    (void)close(echo_fd);
    stop(server);
    stop(bare);
    arena_deinit(&arena);
    return EXIT_SUCCESS;
}

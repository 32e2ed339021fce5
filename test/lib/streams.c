#include "test/lib/streams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/clock.h"

enum { MESSAGE_BYTES = 64, FRAME_BYTES = 65536, LAST_WAIT_MS = 2000, CONNECT_TRIES = 200 };

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void *shared(size_t size)
{
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ASSERT(mem != MAP_FAILED);
    memset(mem, 0, size);
    return mem;
}

/* In the child: 0. */
static pid_t child(int ns)
{
    const struct sigaction a = { .sa_handler = on_signal };
    pid_t pid = fork();

    ASSERT(pid >= 0);
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigaction(SIGTERM, &a, NULL);
    if (setns(ns, CLONE_NEWNET) != 0)
        _exit(1);
    return 0;
}

static void end(pid_t pid)
{
    int status;

    (void)kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0)
        ASSERT(errno == EINTR);
    ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A descriptor bound (server) or connected; -1. */
static int open_socket(const struct sockaddr_in *to, bool tcp, bool server)
{
    const int on = 1;
    int fd = socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
    int rc;

    ASSERT(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    rc = server ? bind(fd, (const struct sockaddr *)to, sizeof(*to))
                : connect(fd, (const struct sockaddr *)to, sizeof(*to));
    if (rc == 0 && server && tcp)
        rc = listen(fd, 8);
    if (rc == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    int rc;

    do
        rc = poll(&p, 1, wait_ms);
    while (rc < 0 && errno == EINTR);
    return rc > 0;
}

/* ---- echoes ---------------------------------------------------------------------------------- */

static void serve(const struct sockaddr_in *at, bool tcp, struct stream_counts *c)
{
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    char mem[MESSAGE_BYTES];
    int fd = open_socket(at, tcp, true), conn = tcp ? -1 : fd;

    if (fd < 0)
        _exit(2);
    while (!stopping) {
        if (!readable(conn >= 0 ? conn : fd, 100))
            continue;
        if (conn < 0) {
            conn = accept(fd, NULL, NULL);
            continue;
        }
        size = sizeof(from);
        ssize_t n = recvfrom(conn, mem, sizeof(mem), 0, (struct sockaddr *)&from, &size);
        if (n <= 0 && tcp) {
            (void)close(conn);
            conn = -1;
        } else if (n > 0) {
            c->taken++;
            (void)sendto(conn, mem, (size_t)n, MSG_NOSIGNAL,
                         tcp ? NULL : (const struct sockaddr *)&from, tcp ? 0 : size);
        }
    }
    _exit(0);
}

static void message(char mem[MESSAGE_BYTES], uint32_t number)
{
    memset(mem, '.', MESSAGE_BYTES);
    (void)snprintf(mem, MESSAGE_BYTES, STREAM_SECRET "%u", number);
}

static void send_datagrams(const struct sockaddr_in *to, uint32_t interval_ms,
                           struct stream_counts *c)
{
    char mem[MESSAGE_BYTES];
    int fd = open_socket(to, false, false);
    uint64_t next = clock_now_ms(), last = 0;

    if (fd < 0)
        _exit(2);
    while (!stopping || (c->answered < c->sent && clock_now_ms() < last + LAST_WAIT_MS)) {
        uint64_t now = clock_now_ms();

        if (!stopping && now >= next) {
            message(mem, c->sent);
            c->sent += send(fd, mem, sizeof(mem), 0) == sizeof(mem);
            next = now + interval_ms;
            last = now;
        }
        if (readable(fd, 1) && recv(fd, mem, sizeof(mem), MSG_DONTWAIT) > 0)
            c->answered++;
    }
    _exit(0);
}

static bool echo_once(int fd, uint32_t number)
{
    char mem[MESSAGE_BYTES];
    size_t got = 0;

    message(mem, number);
    if (send(fd, mem, sizeof(mem), MSG_NOSIGNAL) != sizeof(mem))
        return false;
    while (got < sizeof(mem)) {
        ssize_t n = readable(fd, 20000) ? recv(fd, mem + got, sizeof(mem) - got, 0) : 0;

        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static void talk(const struct sockaddr_in *to, struct stream_counts *c)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof(info);
    int fd = -1;

    for (int i = 0; fd < 0 && i < CONNECT_TRIES; i++) {
        fd = open_socket(to, true, false);
        if (fd < 0)
            (void)usleep(10000);
    }
    if (fd < 0)
        _exit(2);
    while (!stopping) {
        c->sent++;
        if (!echo_once(fd, c->sent))
            break;
        c->answered++;
        (void)usleep(5000);
    }
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        c->resent = info.tcpi_total_retrans;
    _exit(0);
}

void stream_start(struct stream *s, const struct stream_path *p, uint32_t interval_ms)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(p->port) };

    ASSERT(inet_pton(AF_INET, p->address, &to.sin_addr) == 1);
    s->counts = shared(sizeof(*s->counts));
    s->server = child(p->to_ns);
    if (s->server == 0)
        serve(&to, interval_ms == 0, s->counts);
    (void)usleep(200000); /* until it listens */
    s->client = child(p->from_ns);
    if (s->client == 0 && interval_ms == 0)
        talk(&to, s->counts);
    if (s->client == 0)
        send_datagrams(&to, interval_ms, s->counts);
}

struct stream_counts stream_stop(struct stream *s)
{
    end(s->client);
    end(s->server);
    struct stream_counts c = *s->counts;
    (void)munmap(s->counts, sizeof(*s->counts));
    return c;
}

/* ---- capture --------------------------------------------------------------------------------- */

struct looking {
    uint32_t vni;
    uint16_t ports;
    struct capture_counts *counts;
};

/* p: an IPv4 packet. */
static void look(const struct looking *l, const uint8_t *p, size_t size)
{
    size_t head = size >= 20 ? (size_t)(p[0] & 15) * 4 : 0;

    if (head < 20 || size < head + 8)
        return;
    if (p[9] == IPPROTO_ESP)
        l->counts->tunnel++;
    if (p[9] != IPPROTO_UDP)
        return;
    const uint8_t *udp = p + head;
    unsigned to = (unsigned)udp[2] << 8 | udp[3];

    if (to == l->ports || to == l->ports + 1u)
        l->counts->tunnel++;
    else if (size >= head + 16 && udp[8] == 8 &&
             ((uint32_t)udp[12] << 16 | (uint32_t)udp[13] << 8 | udp[14]) == l->vni)
        l->counts->vxlan++;
}

static void watch(const struct looking *l)
{
    static uint8_t mem[FRAME_BYTES];
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    const int bytes = 16 << 20;

    if (fd < 0)
        _exit(2);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    while (!stopping) {
        ssize_t n = readable(fd, 50) ? recv(fd, mem, sizeof(mem), 0) : 0;

        if (n <= ETH_HLEN)
            continue;
        l->counts->frames++;
        l->counts->secret += memmem(mem, (size_t)n, STREAM_SECRET, strlen(STREAM_SECRET)) != NULL;
        if (mem[12] == 8 && mem[13] == 0)
            look(l, mem + ETH_HLEN, (size_t)n - ETH_HLEN);
    }
    _exit(0);
}

void capture_start(struct capture *c, int ns, uint32_t vni, uint16_t ports)
{
    c->counts = shared(sizeof(*c->counts));
    c->pid = child(ns);
    if (c->pid == 0)
        watch(&(struct looking){ vni, ports, c->counts });
    (void)usleep(200000); /* until it listens */
}

struct capture_counts capture_stop(struct capture *c)
{
    (void)usleep(100000);
    end(c->pid);
    struct capture_counts r = *c->counts;
    (void)munmap(c->counts, sizeof(*c->counts));
    return r;
}

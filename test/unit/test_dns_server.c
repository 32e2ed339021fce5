/* agentd/dns: real sockets in network namespaces of our own. "Host" is where the server stands and
 * where its resolvers are, r1 and r2 are the routers of two networks with the same subnet; the
 * containers' addresses are on their lo. */
#include "agentd/dns/dns.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/dns/internal.h"
#include "test/lib/dns_text.h"
#include "test/lib/dns_upstream.h"
#include "test/lib/netns_lab.h"
#include "test/lib/networks_text.h"
#include "test/lib/tmpdir.h"

static struct arena arena;
static struct tables *t;
static struct loop *l;
static struct dns *d;
static struct err e;
static char *dir, resolv_conf[256];
static int home, host, r1, r2;
static struct dns_upstream good, bad;

/* ---- the world ---- */

static void write_resolv_conf(const char *text)
{
    FILE *f = fopen(resolv_conf, "we");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

static void apply(const char *answer)
{
    const char *why;

    (void)tables_apply(t, networks_parse(&arena, answer));
    ck_assert_msg(tables_refused(t, &why) == 0, "%s", why);
}

static int listen_on(const char *network, int netns, const char *address)
{
    struct ip ip;

    ck_assert_int_eq(ip_parse(address, &ip, NULL), 0);
    return dns_listen(d, networks_id(&arena, network), netns, &ip, 1, &e);
}

static const char basic[] = "complete\n"
                            "network n1 front 10.0.1.0/24\n"
                            "network n2 other 10.0.1.0/24\n"
                            "service s1 web vip n1=10.0.1.2/24\n"
                            "service s2 web vip n2=10.0.1.3/24\n"
                            "endpoint t1 web.1.t1 s1 m1 UP n1=10.0.1.5/24\n"
                            "endpoint t2 web.1.t2 s2 m1 UP n2=10.0.1.5/24\n"
                            "endpoint t3 lone - m1 UP n1=10.0.1.6/24\n";

static void setup(void)
{
    struct dns_options o = { .resolv_conf = resolv_conf };

    arena = (struct arena){ 0 };
    dir = tmpdir_new();
    (void)snprintf(resolv_conf, sizeof(resolv_conf), "%s/resolv.conf", dir);
    write_resolv_conf("# none\nnameserver 127.0.0.53\n");
    home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    r1 = netns_lab_new();
    r2 = netns_lab_new();
    host = netns_lab_new();
    l = loop_new(&e);
    t = tables_new();
    d = dns_new(l, t, &o);
    apply(basic);
    /* Before the address is there: the server does not wait for it. */
    ck_assert_int_eq(listen_on("n1", r1, "10.0.1.1"), 0);
    ck_assert_int_eq(listen_on("n2", r2, "10.0.1.1"), 0);
    netns_lab_enter(r1);
    netns_lab_address("10.0.1.1");
    netns_lab_address("10.0.1.5");
    netns_lab_address("10.0.1.6");
    netns_lab_enter(r2);
    netns_lab_address("10.0.1.1");
    netns_lab_address("10.0.1.5");
    netns_lab_enter(host);
    dns_upstream_open(&good, l, "127.0.0.53");
    dns_upstream_open(&bad, l, "127.0.0.54");
    bad.fails = true;
}

static void teardown(void)
{
    dns_upstream_close(&good);
    dns_upstream_close(&bad);
    dns_free(d);
    tables_free(t);
    loop_free(l);
    netns_lab_enter(home);
    close(home);
    close(host);
    close(r1);
    close(r2);
    tmpdir_remove(dir);
    arena_deinit(&arena);
}

/* ---- clients ---- */

static int client_open(int netns, const char *source, int type)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(53) };

    ck_assert_int_eq(inet_pton(AF_INET, source, &from.sin_addr), 1);
    ck_assert_int_eq(inet_pton(AF_INET, "10.0.1.1", &to.sin_addr), 1);
    netns_lab_enter(netns);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    netns_lab_enter(host);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Runs the loop until fd has something, its end included; false when nothing comes. */
static bool wait_for(int fd)
{
    char byte;

    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
        if (recv(fd, &byte, 1, MSG_PEEK) >= 0 || errno != EAGAIN)
            return true;
    }
    return false;
}

static void send_query(int fd, struct dns_text_query q)
{
    uint8_t m[DNS_TEXT_QUERY_MAX];
    size_t size = dns_text_query(m, &q);

    ck_assert_int_eq(send(fd, m, size, 0), (ssize_t)size);
}

static const char *receive(int fd, uint16_t id)
{
    static uint8_t m[4096];

    if (!wait_for(fd))
        return "silence";
    ssize_t got = recv(fd, m, sizeof(m), 0);
    return got < 0 ? "error" : dns_text_answer(m, (size_t)got, id);
}

static const char *ask_full(int netns, const char *source, struct dns_text_query q)
{
    int fd = client_open(netns, source, SOCK_DGRAM);

    send_query(fd, q);
    const char *answer = receive(fd, q.id);
    close(fd);
    return answer;
}

static const char *ask(const char *name)
{
    return ask_full(r1, "10.0.1.5", (struct dns_text_query){ .name = name });
}

static void stream_send(int fd, struct dns_text_query q)
{
    uint8_t m[2 + DNS_TEXT_QUERY_MAX];
    size_t size = dns_text_query(m + 2, &q);

    m[0] = (uint8_t)(size >> 8);
    m[1] = (uint8_t)size;
    ck_assert_int_eq(send(fd, m, size + 2, MSG_NOSIGNAL), (ssize_t)(size + 2));
}

/* "closed" at the end of the connection. */
static const char *stream_receive(int fd, uint16_t id)
{
    static uint8_t m[2 + DNS_MESSAGE_BYTES_MAX];
    size_t size = 0;

    while (size < 2 || size < 2 + ((size_t)m[0] << 8 | m[1])) {
        size_t wanted = size < 2 ? 2 : 2 + ((size_t)m[0] << 8 | m[1]);

        if (!wait_for(fd))
            return "silence";
        ssize_t got = recv(fd, m + size, wanted - size, 0);
        if (got <= 0)
            return "closed";
        size += (size_t)got;
    }
    return dns_text_answer(m + 2, size - 2, id);
}

static int count_of(const char *text, const char *what)
{
    int count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

/* ---- tests ---- */

START_TEST(each_network_has_its_own_names)
{
    struct dns_text_query q = { .name = "web" };

    ck_assert_str_eq(ask_full(r1, "10.0.1.5", q), "NOERROR aa A 5 10.0.1.2");
    ck_assert_str_eq(ask_full(r2, "10.0.1.5", q), "NOERROR aa A 5 10.0.1.3");
    q.edns = 4096;
    ck_assert_str_eq(ask_full(r1, "10.0.1.5", q), "NOERROR aa A 5 10.0.1.2 OPT 1232");
    ck_assert_str_eq(ask("tasks.web"), "NOERROR aa A 1 10.0.1.5");
    ck_assert(dns_listening(d, networks_id(&arena, "n1")));
    ck_assert(!dns_listening(d, networks_id(&arena, "n7")));
}
END_TEST

START_TEST(a_name_is_gone_with_its_task)
{
    ck_assert_str_eq(ask("lone"), "NOERROR aa A 1 10.0.1.6");
    apply("endpoint t3 lone - m1 DRAINING n1=10.0.1.6/24");
    ck_assert_str_eq(ask("lone"), "NOERROR aa");
    apply("endpoint t3 lone - m1 UP n1=10.0.1.6/24");
    ck_assert_str_eq(ask("lone"), "NOERROR aa A 1 10.0.1.6");
    apply("removed endpoint t3\nremoved endpoint t1");
    ck_assert_str_eq(ask("tasks.web"), "NOERROR aa");
    ck_assert_str_eq(ask("lone"), "NOERROR A 60 192.0.2.80"); /* now the host's matter */
}
END_TEST

START_TEST(nonsense_is_refused_or_dropped)
{
    int fd = client_open(r1, "10.0.1.5", SOCK_DGRAM);
    uint8_t m[DNS_TEXT_QUERY_MAX];
    struct dns_text_query q = { .name = "web" };
    size_t size = dns_text_query(m, &q);
    struct dns_stats s;

    ck_assert_int_eq(send(fd, "", 0, 0), 0);
    ck_assert_int_eq(send(fd, m, 11, 0), 11);
    m[2] = 0x81; /* an answer: answering it would be a loop of two servers */
    ck_assert_int_eq(send(fd, m, size, 0), (ssize_t)size);
    m[2] = 1;
    ck_assert_int_eq(send(fd, m, size - 1, 0), (ssize_t)size - 1);
    ck_assert_str_eq(receive(fd, 0), "FORMERR"); /* the first answer is to the fourth */
    m[2] = 0x29;
    ck_assert_int_eq(send(fd, m, size, 0), (ssize_t)size);
    ck_assert_str_eq(receive(fd, 0), "NOTIMP");
    close(fd);
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    dns_stats(d, &s);
    ck_assert_uint_eq(s.queries, 6);
    ck_assert_uint_eq(s.malformed, 4);
    ck_assert_uint_eq(s.answered, 1);
}
END_TEST

static void apply_many(int count)
{
    char line[128];

    apply("service s5 many dnsrr n1=");
    for (int i = 0; i < count; i++) {
        (void)snprintf(line, sizeof(line), "endpoint u%04d many.%d s5 m1 UP n1=10.0.1.%d/24", i, i,
                       100 + i);
        apply(line);
    }
}

START_TEST(tcp_gives_what_udp_does_not_hold)
{
    const char *answer;
    int fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    uint8_t m[DNS_TEXT_QUERY_MAX];
    struct dns_text_query q = { .name = "web" };
    size_t size = dns_text_query(m, &q);
    uint8_t head[2] = { 0, (uint8_t)size };

    apply_many(50);
    answer = ask("many");
    ck_assert_int_eq(count_of(answer, " tc"), 1);
    ck_assert_int_eq(count_of(answer, " A 1 10.0.1."), 20);
    stream_send(fd, (struct dns_text_query){ .name = "many" });
    answer = stream_receive(fd, 0);
    ck_assert_int_eq(count_of(answer, " tc"), 0);
    ck_assert_int_eq(count_of(answer, " A 1 10.0.1."), 50);
    /* More questions at once; one in pieces; one that is forwarded between two that are not. */
    stream_send(fd, (struct dns_text_query){ .name = "web", .id = 1 });
    stream_send(fd, (struct dns_text_query){ .name = "example.com", .id = 2 });
    stream_send(fd, (struct dns_text_query){ .name = "lone", .id = 3 });
    ck_assert_str_eq(stream_receive(fd, 1), "NOERROR aa A 5 10.0.1.2");
    ck_assert_str_eq(stream_receive(fd, 2), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(stream_receive(fd, 3), "NOERROR aa A 1 10.0.1.6");
    ck_assert_int_eq(send(fd, head, 1, 0), 1);
    ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    ck_assert_int_eq(send(fd, head + 1, 1, 0), 1);
    ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    ck_assert_int_eq(send(fd, m, 5, 0), 5);
    ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    ck_assert_int_eq(send(fd, m + 5, size - 5, 0), (ssize_t)size - 5);
    ck_assert_str_eq(stream_receive(fd, 0), "NOERROR aa A 5 10.0.1.2");
    /* The client ends its side first: what it asked is still answered. */
    stream_send(fd, (struct dns_text_query){ .name = "example.com", .id = 4 });
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ck_assert_str_eq(stream_receive(fd, 4), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(stream_receive(fd, 0), "closed");
    close(fd);
}
END_TEST

START_TEST(tcp_is_bounded)
{
    int fds[CLIENTS_SOURCE_MAX + 1];
    struct dns_text_query q = { .name = "web" };

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = client_open(r1, "10.0.1.5", SOCK_STREAM);
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    }
    ck_assert_str_eq(stream_receive(fds[CLIENTS_SOURCE_MAX], 0), "closed");
    stream_send(fds[0], q);
    ck_assert_str_eq(stream_receive(fds[0], 0), "NOERROR aa A 5 10.0.1.2");
    int other = client_open(r1, "10.0.1.6", SOCK_STREAM);
    stream_send(other, q);
    ck_assert_str_eq(stream_receive(other, 0), "NOERROR aa A 5 10.0.1.2");
    close(other);
    ck_assert_int_eq(send(fds[1], "\xff\xff", 2, 0), 2); /* no query is that long */
    ck_assert_str_eq(stream_receive(fds[1], 0), "closed");
    ck_assert_int_eq(send(fds[2], "\0\3abc", 5, 0), 5);
    ck_assert_str_eq(stream_receive(fds[2], 0), "closed");
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
}
END_TEST

START_TEST(a_connection_that_breaks_takes_its_question_along)
{
    int fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    struct linger reset = { 1, 0 };

    stream_send(fd, (struct dns_text_query){ .name = "silent.example" });
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(loop_run_once(l, 1, &e), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(fd);
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    stream_send(fd, (struct dns_text_query){ .name = "silent.example" });
    ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    dns_close(d, networks_id(&arena, "n1")); /* with both a connection and a question open */
    ck_assert_str_eq(stream_receive(fd, 0), "closed");
    close(fd);
}
END_TEST

START_TEST(other_names_are_the_hosts_matter)
{
    struct dns_text_query q = { .name = "example.com", .edns = 600 };

    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(ask_full(r1, "10.0.1.5", q), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(ask("liar.example"), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(ask("nobody"), "NXDOMAIN");
    ck_assert_str_eq(ask("nobody.example"), "NXDOMAIN");
    ck_assert_str_eq(ask("refused.example"), "SERVFAIL");
    ck_assert_int_eq(good.asked, 5 + FORWARD_ATTEMPTS);
    ck_assert_str_eq(ask("toolarge.example"), "NOERROR tc"); /* it does not care for our size */
    ck_assert_str_eq(ask("large.example"), "NOERROR tc");
    int fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    stream_send(fd, (struct dns_text_query){ .name = "large.example" });
    ck_assert_int_eq(count_of(stream_receive(fd, 0), " A 60 192.0.2."), 60);
    close(fd);
    int before = good.asked;
    ck_assert_str_eq(ask("tasks.nobody"), "NXDOMAIN aa");
    ck_assert_str_eq(ask("nobody.front"), "NXDOMAIN aa");
    ck_assert_int_eq(good.asked, before);
}
END_TEST

START_TEST(a_server_that_fails_is_passed_over)
{
    /* Nobody there, one that cannot, the good one; our own address never. */
    write_resolv_conf("nameserver 10.0.1.1\nsearch x\nnameserver\t127.0.0.54 # x\n"
                      "nameserver 127.0.0.53\nnameserver 127.0.0.99\n");
    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
    ck_assert_int_eq(bad.asked, 1);
    ck_assert_int_eq(good.asked, 1);
    ck_assert_str_eq(ask("example.org"), "NOERROR A 60 192.0.2.80");
    ck_assert_int_eq(bad.asked, 1); /* the one that answered is asked first for a while */
}
END_TEST

START_TEST(we_are_no_resolver_of_our_own)
{
    struct dns_upstream trap;

    netns_lab_address("10.0.1.1"); /* in the host's namespace, where somebody answers */
    dns_upstream_open(&trap, l, "10.0.1.1");
    write_resolv_conf("nameserver 10.0.1.1\n");
    ck_assert_str_eq(ask("example.com"), "SERVFAIL");
    ck_assert_int_eq(trap.asked, 0);
    dns_upstream_close(&trap);
}
END_TEST

START_TEST(nobody_listens_there)
{
    write_resolv_conf("nameserver 127.0.0.55\nnameserver 127.0.0.53\n");
    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
    int fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    stream_send(fd, (struct dns_text_query){ .name = "example.com" });
    ck_assert_str_eq(stream_receive(fd, 0), "NOERROR A 60 192.0.2.80");
    close(fd);
}
END_TEST

START_TEST(no_resolvers_at_all)
{
    struct dns_text_query q = { .name = "example.com" };

    ck_assert_int_eq(unlink(resolv_conf), 0);
    ck_assert_str_eq(ask("example.com"), "SERVFAIL");
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    int fd = client_open(r1, "10.0.1.5", SOCK_STREAM);
    stream_send(fd, q);
    stream_send(fd, q);
    ck_assert_str_eq(stream_receive(fd, 0), "SERVFAIL");
    ck_assert_str_eq(stream_receive(fd, 0), "SERVFAIL");
    close(fd);
    /* The file comes: it is looked for at most once a second. */
    write_resolv_conf("nameserver 127.0.0.53\n");
    for (int i = 0; i < 300 && strcmp(ask("example.com"), "SERVFAIL") == 0; i++)
        ck_assert_int_eq(loop_run_once(l, 10, &e), 0);
    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
}
END_TEST

START_TEST(a_silent_server_costs_two_seconds)
{
    write_resolv_conf("nameserver 127.0.0.56\nnameserver 127.0.0.53\n");
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(53) };
    CLEANUP_CLOSE int hole = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(inet_pton(AF_INET, "127.0.0.56", &a.sin_addr), 1);
    ck_assert_int_eq(bind(hole, (struct sockaddr *)&a, sizeof(a)), 0);
    uint64_t start = loop_now_ms(l);
    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
    ck_assert_uint_ge(loop_now_ms(l) - start, FORWARD_ATTEMPT_MS);
    ck_assert_str_eq(ask("example.org"), "NOERROR A 60 192.0.2.80"); /* from the other at once */
    ck_assert_int_eq(good.asked, 2);
}
END_TEST

START_TEST(questions_under_way_are_bounded)
{
    enum { COUNT = FORWARDS_SOURCE_MAX + 30 };
    int fd = client_open(r1, "10.0.1.5", SOCK_DGRAM), refused = 0;
    struct dns_stats s;

    for (uint16_t i = 1; i <= COUNT; i++) {
        send_query(fd, (struct dns_text_query){ .name = "silent.example", .id = i });
        ck_assert_int_eq(loop_run_once(l, 0, &e), 0);
    }
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(loop_run_once(l, 1, &e), 0);
    for (uint8_t m[512]; recv(fd, m, sizeof(m), 0) > 0; refused++)
        ck_assert_int_eq(m[3] & 15, DNS_SERVFAIL);
    ck_assert_int_eq(refused, 30);
    dns_stats(d, &s);
    ck_assert_uint_eq(s.forwarded, FORWARDS_SOURCE_MAX);
    ck_assert_uint_eq(s.refused, 30);
    struct dns_text_query q = { .name = "example.com" };
    ck_assert_str_eq(ask_full(r1, "10.0.1.6", q), "NOERROR A 60 192.0.2.80");
    close(fd);
}
END_TEST

static size_t servers_of_five(void *ctx, const char *network_id, const struct ip *asker,
                              struct ip ret[DNS_SERVERS_MAX])
{
    char text[IP_CHARS + 1];

    if (strcmp(network_id, ctx) != 0 || strcmp(ip_format(asker, text), "10.0.1.5") != 0)
        return 0;
    ck_assert_int_eq(ip_parse("10.0.1.1", &ret[0], NULL), 0); /* ours: left out */
    ck_assert_int_eq(ip_parse("127.0.0.54", &ret[1], NULL), 0);
    return 2;
}

/* --dns: only that task's questions, only what no network answers, and the host's are not asked
 * instead. */
START_TEST(a_task_may_have_servers_of_its_own)
{
    struct dns_options o = { resolv_conf, servers_of_five, networks_id(&arena, "n1") };
    struct dns_text_query q = { .name = "example.com" };

    dns_free(d);
    d = dns_new(l, t, &o);
    ck_assert_int_eq(listen_on("n1", r1, "10.0.1.1"), 0);
    ck_assert_int_eq(listen_on("n2", r2, "10.0.1.1"), 0);
    bad.fails = false;
    ck_assert_str_eq(ask_full(r1, "10.0.1.5", q), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    ck_assert_int_eq(bad.asked, 1);
    ck_assert_int_eq(good.asked, 0);
    ck_assert_str_eq(ask_full(r1, "10.0.1.6", q), "NOERROR A 60 192.0.2.80");
    ck_assert_str_eq(ask_full(r2, "10.0.1.5", q), "NOERROR A 60 192.0.2.80");
    ck_assert_int_eq(good.asked, 2);
    bad.fails = true;
    ck_assert_str_eq(ask_full(r1, "10.0.1.5", q), "SERVFAIL");
    ck_assert_int_eq(good.asked, 2);
}
END_TEST

START_TEST(nothing_is_denied_before_all_is_known)
{
    struct dns_options o = { .resolv_conf = resolv_conf };

    dns_free(d);
    tables_free(t);
    t = tables_new();
    d = dns_new(l, t, &o);
    ck_assert_int_eq(listen_on("n1", r1, "10.0.1.1"), 0);
    ck_assert_str_eq(ask("web"), "SERVFAIL");
    ck_assert_str_eq(ask("nobody.example"), "SERVFAIL"); /* may be a network's name */
    ck_assert_str_eq(ask("example.com"), "NOERROR A 60 192.0.2.80");
    apply(basic);
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    ck_assert_str_eq(ask("nobody.example"), "NXDOMAIN");
}
END_TEST

START_TEST(both_families_are_served)
{
    struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(53) };
    struct ip gateways[3];

    ck_assert_int_eq(ip_parse("10.0.1.1", &gateways[0], NULL), 0);
    ck_assert_int_eq(ip_parse("fd01::1", &gateways[1], NULL), 0); /* not there yet */
    ck_assert_int_eq(ip_parse("::1", &gateways[2], NULL), 0);
    to.sin6_addr = in6addr_loopback;
    ck_assert_int_eq(dns_listen(d, networks_id(&arena, "n1"), r1, gateways, 3, &e), 0);
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        netns_lab_enter(r1);
        int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
        netns_lab_enter(host);
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
        ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        if (type == SOCK_STREAM)
            stream_send(fd, (struct dns_text_query){ .name = "web" });
        else
            send_query(fd, (struct dns_text_query){ .name = "web" });
        ck_assert_str_eq(type == SOCK_STREAM ? stream_receive(fd, 0) : receive(fd, 0),
                         "NOERROR aa A 5 10.0.1.2");
        close(fd);
    }
}
END_TEST

START_TEST(listeners_follow_what_is_wanted)
{
    const char *id = networks_id(&arena, "n1");
    struct ip both[2];

    ck_assert_int_eq(ip_parse("10.0.1.1", &both[0], NULL), 0);
    ck_assert_int_eq(ip_parse("10.0.1.6", &both[1], NULL), 0);
    ck_assert_int_eq(dns_listen(d, id, r1, both, 2, &e), 0);
    ck_assert_int_eq(dns_listen(d, id, r1, both, 2, &e), 0);
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    ck_assert_int_eq(dns_listen(d, id, r1, both + 1, 1, &e), 0);
    ck_assert_str_eq(ask("web"), "error"); /* nobody there */
    ck_assert_int_eq(dns_listen(d, id, r1, both, 1, &e), 0);
    ck_assert_str_eq(ask("web"), "NOERROR aa A 5 10.0.1.2");
    /* The namespace was made anew. */
    int fresh = netns_lab_new();
    netns_lab_address("10.0.1.1");
    netns_lab_address("10.0.1.5");
    netns_lab_enter(host);
    ck_assert_int_eq(dns_listen(d, id, fresh, both, 1, &e), 0);
    ck_assert_str_eq(ask("web"), "error");
    ck_assert_str_eq(ask_full(fresh, "10.0.1.5", (struct dns_text_query){ .name = "web" }),
                     "NOERROR aa A 5 10.0.1.2");
    /* The port is taken: told, and tried again with the next call. */
    dns_close(d, id);
    ck_assert(!dns_listening(d, id));
    netns_lab_enter(fresh);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(53) };
    int taken = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(taken, (struct sockaddr *)&a, sizeof(a)), 0);
    netns_lab_enter(host);
    ck_assert_int_lt(dns_listen(d, id, fresh, both, 1, &e), 0);
    ck_assert_ptr_nonnull(strstr(e.message, "10.0.1.1"));
    ck_assert(!dns_listening(d, id));
    close(taken);
    ck_assert_int_eq(dns_listen(d, id, fresh, both, 1, &e), 0);
    ck_assert(dns_listening(d, id));
    close(fresh);
}
END_TEST

/* ---- real resolvers ---- */

/* What a program prints in r1 with our server in its resolv.conf. */
static const char *run(const char *options, const char *const *command)
{
    static char out[4096];
    char path[256];
    int ends[2], status;
    size_t size = 0;

    (void)snprintf(path, sizeof(path), "%s/client.conf", dir);
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_gt(fprintf(f, "nameserver 10.0.1.1\n%s\n", options), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (setns(r1, CLONE_NEWNET) < 0 || unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL) < 0 || dup2(ends[1], 1) < 0)
            _exit(126);
        execvp(command[0], (char *const *)(uintptr_t)command);
        _exit(127);
    }
    close(ends[1]);
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    for (;;) {
        ssize_t got = read(ends[0], out + size, sizeof(out) - 1 - size);

        if (got == 0)
            break;
        size += got > 0 ? (size_t)got : 0;
        ck_assert_int_eq(loop_run_once(l, 5, &e), 0);
    }
    out[size] = '\0';
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) >= 126)
        return "";
    return out;
}

/* glibc in getent, a resolver of its own in busybox. Machines without one of them, or where we may
 * not mount, skip its part. */
START_TEST(real_resolvers_understand_us)
{
    static const char *const getent[] = { "getent", "ahostsv4", "web", NULL };
    static const char *const getent_many[] = { "getent", "ahostsv4", "many", NULL };
    static const char *const getent_any[] = { "getent", "ahosts", "lone.front", NULL };
    static const char *const getent_reverse[] = { "getent", "hosts", "10.0.1.6", NULL };
    static const char *const busybox[] = { "busybox", "nslookup", "web", "10.0.1.1", NULL };
    static const char *const external[] = { "getent", "ahostsv4", "example", NULL };
    const char *out = run("options ndots:0", getent);

    if (out[0] != '\0') {
        ck_assert_ptr_nonnull(strstr(out, "10.0.1.2"));
        out = run("search host.example\noptions ndots:2", getent);
        ck_assert_msg(strstr(out, "192.0.2.80") != NULL, "%s", out); /* the search list is theirs */
        ck_assert_ptr_nonnull(strstr(run("", getent_any), "10.0.1.6"));
        ck_assert_ptr_nonnull(strstr(run("", getent_reverse), "lone.front"));
        ck_assert_ptr_nonnull(strstr(run("", external), "192.0.2.80"));
        apply_many(40);
        ck_assert_int_eq(count_of(run("", getent_many), "STREAM"), 40); /* by way of TCP */
    }
    out = run("", busybox);
    if (out[0] != '\0')
        ck_assert_msg(strstr(out, "10.0.1.2") != NULL, "%s", out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dns_server");
    TCase *tc = tcase_create("server");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, each_network_has_its_own_names);
    tcase_add_test(tc, a_name_is_gone_with_its_task);
    tcase_add_test(tc, nonsense_is_refused_or_dropped);
    tcase_add_test(tc, tcp_gives_what_udp_does_not_hold);
    tcase_add_test(tc, tcp_is_bounded);
    tcase_add_test(tc, a_connection_that_breaks_takes_its_question_along);
    tcase_add_test(tc, other_names_are_the_hosts_matter);
    tcase_add_test(tc, a_server_that_fails_is_passed_over);
    tcase_add_test(tc, we_are_no_resolver_of_our_own);
    tcase_add_test(tc, nobody_listens_there);
    tcase_add_test(tc, no_resolvers_at_all);
    tcase_add_test(tc, a_silent_server_costs_two_seconds);
    tcase_add_test(tc, questions_under_way_are_bounded);
    tcase_add_test(tc, a_task_may_have_servers_of_its_own);
    tcase_add_test(tc, nothing_is_denied_before_all_is_known);
    tcase_add_test(tc, both_families_are_served);
    tcase_add_test(tc, listeners_follow_what_is_wanted);
    tcase_add_test(tc, real_resolvers_understand_us);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* agentd/net/conntrack against the kernel: only what led to a server that is gone is forgotten. */
#include "agentd/net/conntrack.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/nft.h"
#include "test/lib/netns_lab.h"

#define VIRTUAL "10.9.0.200"

enum { SERVER_A = 1, SERVER_B, CLIENT, CLIENT_PORT = 40000, PATIENCE_S = 2 };

static struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

    ck_assert_int_eq(inet_pton(AF_INET, address, &a.sin_addr), 1);
    return a;
}

static int socket_at(const char *address, uint16_t port)
{
    struct sockaddr_in a = at(address, port);
    struct timeval patience = { .tv_sec = PATIENCE_S };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int listen_at(const char *address)
{
    int fd = socket_at(address, 80);

    ck_assert_int_eq(listen(fd, 5), 0);
    return fd;
}

static void lead_to(struct nft *n, const char *server)
{
    char text[512];
    struct err e = { 0 };

    (void)snprintf(text, sizeof(text),
                   "add table ip t\ndelete table ip t\n"
                   "table ip t { chain out { type nat hook output priority -100;\n"
                   "ip daddr " VIRTUAL " tcp dport 80 dnat to %s\n}\n}\n",
                   server);
    ck_assert_msg(nft_apply(n, text, &e) == 0, "%s", e.message);
}

/* From the same port each time, as a client does that has used all of them. */
static int connect_to_virtual(void)
{
    struct sockaddr_in to = at(VIRTUAL, 80);
    int fd = socket_at("10.9.0.3", CLIENT_PORT);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

struct world {
    struct nft *nft;
    int server_b; /* listens */
    int client;   /* -1: not come back yet */
};

/* While the kernel's list is being read, the client of the connection that is about to be forgotten
 * comes again, and is led to the other server. */
static bool gone(void *ctx, const struct conntrack_flow *f)
{
    struct world *w = ctx;
    struct in_addr a = at("10.9.0.1", 0).sin_addr;

    if (f->server != ntohl(a.s_addr) || f->destination_port != 80)
        return false;
    if (w->client < 0)
        w->client = connect_to_virtual();
    return true;
}

START_TEST(a_port_used_again_is_another_connection)
{
    CLEANUP_CLOSE int ns = netns_lab_new();
    struct world w = { .client = -1 };
    struct nl netfilter = NL_CLOSED;
    struct err e = { 0 };
    char answer[4] = "";
    size_t count = 0;
    int server_a, client, accepted;

    for (int i = SERVER_A; i <= CLIENT; i++) {
        char address[] = "10.9.0.0";

        address[7] = (char)('0' + i);
        netns_lab_address(address);
    }
    netns_lab_address(VIRTUAL);
    w.nft = nft_open(-1, &e);
    ck_assert_msg(w.nft != NULL, "%s", e.message);
    ck_assert_int_eq(nl_open(&netfilter, NETLINK_NETFILTER, -1, &e), 0);
    server_a = listen_at("10.9.0.1");
    w.server_b = listen_at("10.9.0.2");
    lead_to(w.nft, "10.9.0.1");
    client = connect_to_virtual();
    accepted = accept(server_a, NULL, NULL);
    ck_assert_int_ge(accepted, 0);
    (void)close(accepted); /* the server first: its end waits, the client's port is free */
    ck_assert_int_eq(recv(client, answer, sizeof(answer), 0), 0);
    (void)close(client);

    lead_to(w.nft, "10.9.0.2");
    ck_assert_msg(conntrack_forget(&netfilter, gone, &w, &count, &e) == 0, "%s", e.message);
    ck_assert_uint_eq(count, 1);
    ck_assert_int_ge(w.client, 0);
    accepted = accept(w.server_b, NULL, NULL);
    ck_assert_int_ge(accepted, 0);
    ck_assert_int_eq(send(accepted, "yes", 4, 0), 4);
    ck_assert_msg(recv(w.client, answer, sizeof(answer), 0) == 4, "the new one was forgotten");
    ck_assert_str_eq(answer, "yes");

    (void)close(accepted);
    (void)close(w.client);
    (void)close(w.server_b);
    (void)close(server_a);
    nl_close(&netfilter);
    nft_close(w.nft);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("conntrack");
    TCase *c = tcase_create("all");
    SRunner *sr;
    int failed;

    tcase_set_timeout(c, 60);
    tcase_add_test(c, a_port_used_again_is_another_connection);
    suite_add_tcase(s, c);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

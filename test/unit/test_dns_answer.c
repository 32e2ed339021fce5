/* agentd/dns/answer: who is told what. */
#include "agentd/dns/answer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/dns_text.h"
#include "test/lib/networks_text.h"

enum { A = DNS_TYPE_A, AAAA = DNS_TYPE_AAAA, PTR = DNS_TYPE_PTR, MX = 15, ANY = DNS_TYPE_ANY };

static struct arena arena;
static struct tables *t;
static struct prng prng;
static uint8_t mem[DNS_MESSAGE_BYTES_MAX];

static void setup(void)
{
    arena = (struct arena){ 0 };
    t = tables_new();
    prng_init(&prng, 1);
}

static void teardown(void)
{
    tables_free(t);
    arena_deinit(&arena);
}

static void apply(const char *answer)
{
    const char *why;

    (void)tables_apply(t, networks_parse(&arena, answer));
    ck_assert_msg(tables_refused(t, &why) == 0, "%s", why);
}

static const char basic[] =
    "complete\n"
    "network n1 front 10.0.1.0/24\n"
    "network n2 back 10.0.2.0/24 fd02::/64\n"
    "network n9 ingress 10.255.0.0/16\n"
    "service s1 web vip n1=10.0.1.2/24,www n2=10.0.2.2/24\n"
    "service s2 db dnsrr n2=,database\n"
    "service s3 idle vip n1=10.0.1.3/24\n"
    "service s4 none dnsrr n1=\n"
    "endpoint t1 web.1.t1 s1 m1 UP n1=10.0.1.5/24,www,one n2=10.0.2.5/24 n9=10.255.0.5/16 "
    "hostname=Box\n"
    "endpoint t2 web.2.t2 s1 m2 STARTING n1=10.0.1.6/24 n2=10.0.2.6/24\n"
    "endpoint t3 web.3.t3 s1 m2 DRAINING n1=10.0.1.7/24 n2=10.0.2.7/24\n"
    "endpoint t4 db.1.t4 s2 m2 UP n2=10.0.2.8/24+fd02::8/64\n"
    "endpoint t5 lone - m2 UP n1=10.0.1.9/24\n";

/* "forward", or the answer as text; EDNS 1232 unless small. */
static const char *ask_as(const char *network, const char *source, struct dns_text_query q,
                          bool tcp)
{
    uint8_t message[DNS_TEXT_QUERY_MAX];
    struct dns_query query;
    size_t size;

    ck_assert_int_eq(dns_decode_query(message, dns_text_query(message, &q), &query), 0);
    struct answer_request r = { .query = &query,
                                .tables = t,
                                .network_id = networks_id(&arena, network),
                                .tcp = tcp,
                                .random = &prng };

    ck_assert_int_eq(ip_parse(source, &r.source, NULL), 0);
    if (answer_query(&r, mem, tcp ? sizeof(mem) : DNS_UDP_BYTES_MAX, &size) == ANSWER_FORWARD)
        return "forward";
    return dns_text_answer(mem, size, 0);
}

static const char *ask(const char *name, uint16_t type)
{
    return ask_as("n1", "10.0.1.5", (struct dns_text_query){ .name = name, .type = type }, false);
}

static const struct answer_case {
    const char *network, *source, *name;
    uint16_t type;
    const char *answer;
} cases[] = {
    /* services */
    { "n1", "10.0.1.9", "web", A, "NOERROR aa A 5 10.0.1.2" },
    { "n1", "10.0.1.9", "WEB", A, "NOERROR aa A 5 10.0.1.2" },
    { "n1", "10.0.1.9", "www", A, "NOERROR aa A 5 10.0.1.2" },
    { "n2", "10.0.2.8", "web", A, "NOERROR aa A 5 10.0.2.2" },
    { "n2", "10.0.2.8", "db", A, "NOERROR aa A 1 10.0.2.8" },
    { "n2", "10.0.2.8", "database", A, "NOERROR aa A 1 10.0.2.8" },
    { "n1", "10.0.1.9", "idle", A, "NOERROR aa A 5 10.0.1.3" },
    { "n1", "10.0.1.9", "none", A, "NOERROR aa" },
    { "n1", "10.0.1.9", "web", AAAA, "NOERROR aa" },
    { "n2", "10.0.2.8", "db", AAAA, "NOERROR aa AAAA 1 fd02::8" },
    { "n1", "10.0.1.9", "web", MX, "NOERROR aa" },
    { "n1", "10.0.1.9", "web", ANY, "NOERROR aa A 5 10.0.1.2" },
    /* tasks: only those that are up */
    { "n1", "10.0.1.9", "tasks.web", A, "NOERROR aa A 1 10.0.1.5" },
    { "n1", "10.0.1.9", "TASKS.www", A, "NOERROR aa A 1 10.0.1.5" },
    { "n1", "10.0.1.9", "tasks.idle", A, "NOERROR aa" },
    { "n1", "10.0.1.9", "tasks.web", AAAA, "NOERROR aa" },
    { "n2", "10.0.2.8", "tasks.db", AAAA, "NOERROR aa AAAA 1 fd02::8" },
    { "n1", "10.0.1.9", "web.1.t1", A, "NOERROR aa A 1 10.0.1.5" },
    { "n1", "10.0.1.9", "box", A, "NOERROR aa A 1 10.0.1.5" },
    { "n1", "10.0.1.9", "one", A, "NOERROR aa A 1 10.0.1.5" },
    { "n1", "10.0.1.9", "lone", A, "NOERROR aa A 1 10.0.1.9" },
    { "n1", "10.0.1.9", "web.2.t2", A, "NOERROR aa" },
    { "n1", "10.0.1.9", "web.3.t3", A, "NOERROR aa" },
    /* names of networks that the asker is not in */
    { "n1", "10.0.1.9", "db", A, "forward" },
    { "n1", "10.0.1.9", "db.back", A, "forward" },
    { "n1", "10.0.1.9", "tasks.db", A, "NXDOMAIN aa" },
    { "n1", "10.0.1.77", "db", A, "forward" }, /* nobody's address: this network only */
    { "n1", "10.0.1.77", "web", A, "NOERROR aa A 5 10.0.1.2" },
    /* t1 is in both: the socket's first */
    { "n1", "10.0.1.5", "web", A, "NOERROR aa A 5 10.0.1.2" },
    { "n2", "10.0.2.5", "web", A, "NOERROR aa A 5 10.0.2.2" },
    { "n1", "10.0.1.5", "db", A, "NOERROR aa A 1 10.0.2.8" },
    { "n1", "10.0.1.5", "db.back", A, "NOERROR aa A 1 10.0.2.8" },
    { "n1", "10.0.1.5", "web.BACK", A, "NOERROR aa A 5 10.0.2.2" },
    { "n1", "10.0.1.5", "web.front", A, "NOERROR aa A 5 10.0.1.2" },
    { "n1", "10.0.1.5", "tasks.web.back", A, "NOERROR aa A 1 10.0.2.5" },
    { "n1", "10.0.1.5", "web.1.t1.back", A, "NOERROR aa A 1 10.0.2.5" },
    { "n1", "10.0.1.5", "db.front", A, "NXDOMAIN aa" },
    { "n1", "10.0.1.5", "www.example.front", A, "NXDOMAIN aa" },
    /* not ours */
    { "n1", "10.0.1.5", "nobody", A, "forward" },
    { "n1", "10.0.1.5", "example.com", A, "forward" },
    { "n1", "10.0.1.5", "tasks.example.com", A, "forward" },
    { "n1", "10.0.1.5", "tasks.nobody", A, "NXDOMAIN aa" },
    { "n1", "10.0.1.5", "tasks", A, "forward" },
    { "n1", "10.0.1.5", "front", A, "forward" },
    { "n1", "10.0.1.5", "", 2, "forward" },
    /* addresses to names */
    { "n1", "10.0.1.5", "5.1.0.10.in-addr.arpa", PTR, "NOERROR aa PTR 1 web.1.t1.front" },
    { "n1", "10.0.1.5", "2.1.0.10.IN-ADDR.ARPA", PTR, "NOERROR aa PTR 1 web.front" },
    { "n1", "10.0.1.5", "8.2.0.10.in-addr.arpa", PTR, "NOERROR aa PTR 1 db.1.t4.back" },
    { "n1", "10.0.1.5", "6.1.0.10.in-addr.arpa", PTR, "NXDOMAIN aa" },
    { "n1", "10.0.1.5", "99.1.0.10.in-addr.arpa", PTR, "NXDOMAIN aa" },
    { "n1", "10.0.1.5", "5.1.0.10.in-addr.arpa", A, "NOERROR aa" },
    { "n1", "10.0.1.9", "8.2.0.10.in-addr.arpa", PTR, "forward" },
    { "n1", "10.0.1.5", "1.2.0.192.in-addr.arpa", PTR, "forward" },
    { "n1", "10.0.1.5", "1.0.10.in-addr.arpa", PTR, "forward" },
    { "n1", "10.0.1.5", "300.1.0.10.in-addr.arpa", PTR, "forward" },
    { "n1", "10.0.1.5", "5.x.0.10.in-addr.arpa", PTR, "forward" },
    { "n1", "10.0.1.5", "x.5.1.0.10.in-addr.arpa", PTR, "forward" },
    { "n2", "10.0.2.8", "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.d.F.ip6.arpa",
      PTR, "NOERROR aa PTR 1 db.1.t4.back" },
    { "n2", "10.0.2.8", "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.d.g.ip6.arpa",
      PTR, "forward" },
};

START_TEST(answers)
{
    const struct answer_case *c = &cases[_i];
    struct dns_text_query q = { .name = c->name, .type = c->type };

    apply(basic);
    const char *got = ask_as(c->network, c->source, q, false);
    ck_assert_msg(strcmp(got, c->answer) == 0, "%s from %s: %s, not %s", c->name, c->source, got,
                  c->answer);
}
END_TEST

START_TEST(names_follow_their_tasks)
{
    apply(basic);
    apply("endpoint t1 web.1.t1 s1 m1 DRAINING n1=10.0.1.5/24,www,one n2=10.0.2.5/24\n"
          "endpoint t2 web.2.t2 s1 m2 UP n1=10.0.1.6/24 n2=10.0.2.6/24");
    ck_assert_str_eq(ask("tasks.web", A), "NOERROR aa A 1 10.0.1.6");
    ck_assert_str_eq(ask("one", A), "NOERROR aa");
    ck_assert_str_eq(ask("web", A), "NOERROR aa A 5 10.0.1.2"); /* the same all the time */
    apply("removed endpoint t1\nremoved service s1");
    ck_assert_str_eq(ask("tasks.web", A), "NXDOMAIN aa");
    ck_assert_str_eq(ask("web", A), "forward");
    ck_assert_str_eq(ask("5.1.0.10.in-addr.arpa", PTR), "NXDOMAIN aa");
}
END_TEST

START_TEST(nothing_is_denied_before_all_is_known)
{
    apply("complete\nmore\nnetwork n1 front 10.0.1.0/24\nservice s1 web vip n1=10.0.1.2/24\n");
    ck_assert_str_eq(ask("web", A), "NOERROR aa A 5 10.0.1.2");
    ck_assert_str_eq(ask("later", A), "SERVFAIL");
    ck_assert_str_eq(ask("tasks.later", A), "SERVFAIL");
    ck_assert_str_eq(ask("later.front", A), "SERVFAIL");
    ck_assert_str_eq(ask("5.1.0.10.in-addr.arpa", PTR), "SERVFAIL");
    ck_assert_str_eq(ask("example.com", A), "forward");
    apply("");
    ck_assert_str_eq(ask("later", A), "forward");
    ck_assert_str_eq(ask("later.front", A), "NXDOMAIN aa");
}
END_TEST

START_TEST(an_alias_of_two_services_names_both)
{
    apply("complete\nnetwork n1 front 10.0.1.0/24\nservice s1 blue vip n1=10.0.1.2/24,app\n"
          "service s2 green vip n1=10.0.1.3/24,app");
    const char *got = ask("app", A);
    ck_assert_msg(strcmp(got, "NOERROR aa A 5 10.0.1.2 A 5 10.0.1.3") == 0 ||
                      strcmp(got, "NOERROR aa A 5 10.0.1.3 A 5 10.0.1.2") == 0,
                  "%s", got);
    ck_assert_str_eq(ask("green", A), "NOERROR aa A 5 10.0.1.3");
}
END_TEST

START_TEST(other_classes_and_non_recursive_questions)
{
    uint8_t message[DNS_TEXT_QUERY_MAX];
    struct dns_text_query q = { .name = "web" };
    size_t size = dns_text_query(message, &q);
    struct dns_query query;

    apply(basic);
    message[size - 1] = 3; /* CHAOS */
    ck_assert_int_eq(dns_decode_query(message, size, &query), 0);
    struct answer_request r = { .query = &query,
                                .tables = t,
                                .network_id = networks_id(&arena, "n1"),
                                .source = { .family = IP_V4 },
                                .random = &prng };
    ck_assert_int_eq(answer_query(&r, mem, DNS_UDP_BYTES_MAX, &size), ANSWER_REPLY);
    ck_assert_str_eq(dns_text_answer(mem, size, 0), "REFUSED");
    q.no_recursion = true;
    ck_assert_str_eq(ask_as("n1", "10.0.1.5", q, false), "NOERROR aa A 5 10.0.1.2");
    q.name = "example.com";
    ck_assert_str_eq(ask_as("n1", "10.0.1.5", q, false), "REFUSED");
}
END_TEST

/* ---- many addresses ---- */

static void apply_many(int count, int up_each)
{
    Skep__NetworksResponse *resp = networks_parse(&arena, "network n1 front 10.0.0.0/16\n"
                                                          "service s1 rr dnsrr n1=");
    Skep__NetworkRecord **records = arena_array(&arena, (size_t)count + 2, sizeof(records[0]));
    char line[128];

    memcpy(records, resp->records, 2 * sizeof(records[0]));
    for (int i = 0; i < count; i++) {
        (void)snprintf(line, sizeof(line), "endpoint t%05d rr.%d s1 m1 %s n1=10.0.%d.%d/16", i, i,
                       i % up_each == 0 ? "UP" : "STARTING", i / 256, i % 256);
        records[2 + i] = networks_parse(&arena, line)->records[0];
    }
    resp->records = records;
    resp->n_records = (size_t)count + 2;
    resp->complete = true;
    ck_assert(tables_apply(t, resp));
}

static int count_of(const char *text, const char *what)
{
    int count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

START_TEST(long_answers_are_truncated_over_udp)
{
    struct dns_text_query q = { .name = "rr" };

    apply_many(20, 1);
    ck_assert_int_eq(count_of(ask("rr", A), " A 1 10.0."), 20);
    ck_assert_int_eq(count_of(ask("rr", A), " tc"), 0);
    apply_many(300, 10);
    ck_assert_int_eq(count_of(ask("rr", A), " A 1 10.0."), 20);
    ck_assert_int_eq(count_of(ask("rr", A), " tc"), 1);
    ck_assert_int_eq(count_of(ask_as("n1", "10.0.0.1", q, true), " A 1 10.0."), 30);
    ck_assert_int_eq(count_of(ask_as("n1", "10.0.0.1", q, true), " tc"), 0);
    q.name = "rr.front";
    q.edns = 4096;
    ck_assert_int_eq(count_of(ask_as("n1", "10.0.0.1", q, false), " A 1 10.0."), 20);
}
END_TEST

START_TEST(more_than_a_message_holds)
{
    uint8_t message[DNS_TEXT_QUERY_MAX];
    struct dns_text_query q = { .name = "rr" };
    struct dns_query query;
    size_t size;

    apply_many(6000, 1);
    ck_assert_int_eq(dns_decode_query(message, dns_text_query(message, &q), &query), 0);
    struct answer_request r = { .query = &query,
                                .tables = t,
                                .network_id = networks_id(&arena, "n1"),
                                .source = { .family = IP_V4 },
                                .tcp = true,
                                .random = &prng };
    ck_assert_int_eq(answer_query(&r, mem, sizeof(mem), &size), ANSWER_REPLY);
    ck_assert_uint_gt(size, 65000);
    ck_assert_uint_le(size, DNS_MESSAGE_BYTES_MAX);
    ck_assert_uint_eq(mem[2] & 2, 0);
}
END_TEST

/* Every task is first about as often as the others: clients mostly take the first. Bounds are
 * several standard deviations wide; the seed is fixed. */
static void check_fairness(int tasks, int up_each, int rounds)
{
    int first[4096] = { 0 }, up = (tasks + up_each - 1) / up_each, want = rounds / up;

    apply_many(tasks, up_each);
    for (int i = 0; i < rounds; i++) {
        unsigned a = 0, b = 0;

        ck_assert_int_eq(sscanf(ask("rr", A), "NOERROR aa%*[ tc]A 1 10.0.%u.%u", &a, &b), 2);
        first[a * 256 + b]++;
    }
    for (int i = 0; i < tasks; i += up_each)
        ck_assert_msg(first[i] > want / 2 && first[i] < want * 2, "task %d of %d: %d, not %d", i,
                      tasks, first[i], want);
}

START_TEST(addresses_take_turns)
{
    check_fairness(3, 1, 3000);
    check_fairness(12, 3, 4000);
    check_fairness(50, 1, 20000);
}
END_TEST

START_TEST(every_order_is_possible)
{
    char seen[64][128];
    size_t count = 0;

    apply_many(4, 1);
    for (int i = 0; i < 1000; i++) {
        const char *answer = ask("rr", A);
        size_t at = 0;

        while (at < count && strcmp(seen[at], answer) != 0)
            at++;
        if (at == count && count < ARRAY_LEN(seen))
            (void)snprintf(seen[count++], sizeof(seen[0]), "%s", answer);
    }
    ck_assert_uint_eq(count, 24);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dns_answer");
    TCase *tc = tcase_create("answer");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, answers, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, names_follow_their_tasks);
    tcase_add_test(tc, nothing_is_denied_before_all_is_known);
    tcase_add_test(tc, an_alias_of_two_services_names_both);
    tcase_add_test(tc, other_classes_and_non_recursive_questions);
    tcase_add_test(tc, long_answers_are_truncated_over_udp);
    tcase_add_test(tc, more_than_a_message_holds);
    tcase_add_test(tc, addresses_take_turns);
    tcase_add_test(tc, every_order_is_possible);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* agentd/netplan/tables: what answers leave behind, indexes, versions, refusals, cost. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/netplan/tables.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/map.h"
#include "test/lib/networks_text.h"

static struct arena arena;
static struct tables *t;
static char text[1024];

static void setup(void)
{
    arena = (struct arena){ 0 };
    t = tables_new();
}

static void teardown(void)
{
    tables_free(t);
    arena_deinit(&arena);
}

static bool apply(const char *answer)
{
    return tables_apply(t, networks_parse(&arena, answer));
}

static const char *id(const char *s)
{
    return networks_id(&arena, s);
}

static uint64_t refused(void)
{
    const char *why;

    return tables_refused(t, &why);
}

static const char basic[] = "complete\n"
                            "network n1 front 10.0.1.0/24\n"
                            "network n2 back 10.0.2.0/24 fd02::/64\n"
                            "peer m1 host-1 192.0.2.1\n"
                            "peer m2 host-2 192.0.2.2\n"
                            "service s1 web vip n1=10.0.1.2/24,www n2=10.0.2.2/24\n"
                            "service s2 db dnsrr n2=,database\n"
                            "endpoint t1 web.1.t1 s1 m1 UP n1=10.0.1.5/24,one hostname=Box\n"
                            "endpoint t2 web.2.t2 s1 m2 STARTING n1=10.0.1.6/24 n2=10.0.2.6/24\n"
                            "endpoint t3 db.1.t3 s2 m2 UP n2=10.0.2.7/24+fd02::7/64\n";

/* Names of a list's members: "web.1.t1 web.2.t2". */
static const char *names(size_t count, const Skep__NetworkEndpoint *const *list)
{
    size_t at = 0;

    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i == 0 ? "" : " ",
                               list[i]->name);
    return text;
}

static const char *network_names(const char *network)
{
    const Skep__NetworkEndpoint *const *list;
    size_t count = tables_network_endpoints(t, id(network), &list);

    return names(count, list);
}

static const char *service_names(const char *service)
{
    const Skep__NetworkEndpoint *const *list;
    size_t count = tables_service_endpoints(t, id(service), &list);

    return names(count, list);
}

static const char *name_of(const char *network, const char *name)
{
    const Skep__NetworkService *s = tables_find_service(t, id(network), name);
    const Skep__NetworkEndpoint *ep = tables_find_endpoint(t, id(network), name);

    return s != NULL ? s->name : ep != NULL ? ep->name : "";
}

static const char *owner_of(const char *network, const char *address)
{
    struct ip ip;

    ck_assert_int_eq(ip_parse(address, &ip, NULL), 0);
    const Skep__NetworkEndpoint *ep = tables_find_address(t, id(network), &ip);
    const Skep__NetworkService *s = tables_find_vip(t, id(network), &ip);

    return ep != NULL ? ep->name : s != NULL ? s->name : "";
}

START_TEST(everything_is_found)
{
    static const struct {
        const char *network, *name, *owner;
    } cases[] = {
        { "n1", "web", "web" },
        { "n2", "WEB", "web" },
        { "n1", "Www", "web" },
        { "n2", "www", "" },
        { "n2", "database", "db" },
        { "n1", "db", "" },
        { "n1", "box", "web.1.t1" },
        { "n1", "WEB.1.T1", "web.1.t1" },
        { "n1", "one", "web.1.t1" },
        { "n2", "one", "" },
        { "n2", "web.2.t2", "web.2.t2" },
        { "n2", "web.1.t1", "" },
        { "n3", "web", "" },
        { "n1", "", "" },
    };
    struct ip ip;

    ck_assert(apply(basic));
    ck_assert_uint_eq(refused(), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ck_assert_msg(strcmp(name_of(cases[i].network, cases[i].name), cases[i].owner) == 0,
                      "%s in %s", cases[i].name, cases[i].network);
    ck_assert_str_eq(network_names("n1"), "web.1.t1 web.2.t2");
    ck_assert_str_eq(network_names("n2"), "web.2.t2 db.1.t3");
    ck_assert_str_eq(service_names("s1"), "web.1.t1 web.2.t2");
    ck_assert_str_eq(service_names("s9"), "");
    ck_assert_str_eq(owner_of("n1", "10.0.1.5"), "web.1.t1");
    ck_assert_str_eq(owner_of("n2", "10.0.1.5"), "");
    ck_assert_str_eq(owner_of("n2", "fd02::7"), "db.1.t3");
    ck_assert_str_eq(owner_of("n2", "10.0.2.2"), "web");
    ck_assert_str_eq(tables_network(t, id("n2"))->name, "back");
    ck_assert_str_eq(tables_peer(t, id("m2"))->hostname, "host-2");
    ck_assert_str_eq(tables_service(t, id("s2"))->name, "db");
    ck_assert_ptr_null(tables_endpoint(t, id("s2")));
    ck_assert_str_eq(tables_network_after(t, "")->name, "front");
    ck_assert_str_eq(tables_network_after(t, id("n1"))->name, "back");
    ck_assert_ptr_null(tables_network_after(t, id("n2")));
    ck_assert_str_eq(tables_peer_after(t, id("m1"))->hostname, "host-2");
    ck_assert(tables_vip(tables_service(t, id("s1")), id("n2"), &ip));
    ck_assert_uint_eq(ip.bytes[2], 2);
    ck_assert(!tables_vip(tables_service(t, id("s2")), id("n2"), &ip));
    const Skep__NetworkEndpoint *ep = tables_endpoint(t, id("t3"));
    ck_assert(tables_address(ep->networks, ep->n_networks, id("n2"), IP_V6, &ip));
    ck_assert_uint_eq(ip.bytes[15], 7);
    ck_assert(!tables_address(ep->networks, ep->n_networks, id("n1"), IP_V4, &ip));
}
END_TEST

START_TEST(a_complete_set_forgets_what_it_does_not_name)
{
    ck_assert(!tables_complete(t));
    ck_assert(apply("complete\nmore\nnetwork n1 front 10.0.1.0/24\n"
                    "endpoint t1 a s1 m1 UP n1=10.0.1.5/24"));
    ck_assert(!tables_complete(t));
    ck_assert(apply("endpoint t2 b s1 m1 UP n1=10.0.1.6/24"));
    ck_assert(tables_complete(t));
    ck_assert_str_eq(network_names("n1"), "a b");
    ck_assert(apply("complete\nmore\nnetwork n1 front 10.0.1.0/24\n"
                    "endpoint t3 c s1 m1 UP n1=10.0.1.7/24"));
    ck_assert_str_eq(network_names("n1"), "a b c"); /* the set is not yet whole */
    tables_expect_complete(t);
    ck_assert(!apply("endpoint t2 b s1 m1 UP n1=10.0.1.6/24"));
    ck_assert_str_eq(network_names("n1"), "a b c"); /* that set will never be */
    ck_assert(!apply("complete\nmore\nnetwork n1 front 10.0.1.0/24\n"));
    ck_assert(!apply("more\nendpoint t2 b s1 m1 UP n1=10.0.1.6/24"));
    ck_assert(apply(""));
    ck_assert(tables_complete(t));
    ck_assert_str_eq(network_names("n1"), "b");
    ck_assert_str_eq(service_names("s1"), "b");
    ck_assert_str_eq(name_of("n1", "a"), "");
    ck_assert_str_eq(owner_of("n1", "10.0.1.7"), "");
    ck_assert(apply("complete"));
    ck_assert_ptr_null(tables_network_after(t, ""));
    ck_assert_uint_eq(tables_network_version(t, id("n1")), 0);
    ck_assert(!apply("complete"));
}
END_TEST

START_TEST(an_empty_first_set_is_a_change)
{
    ck_assert(apply("complete"));
    ck_assert(tables_complete(t));
    ck_assert(!apply("complete"));
}
END_TEST

START_TEST(records_replace_each_other)
{
    const Skep__NetworkEndpoint *ep;

    ck_assert(apply(basic));
    ck_assert(!apply(basic));
    ck_assert(apply("endpoint t1 web.1.t1 s1 m1 DRAINING n1=10.0.1.5/24,one hostname=Box"));
    ck_assert_str_eq(network_names("n1"), "web.1.t1 web.2.t2");
    ep = tables_find_endpoint(t, id("n1"), "box");
    ck_assert_int_eq(ep->state, SKEP__NETWORK_ENDPOINT__STATE__DRAINING);
    ck_assert(apply("endpoint t1 moved s2 m1 UP n2=10.0.2.9/24,two hostname=Crate\n"
                    "service s2 sql dnsrr n1=,db"));
    ck_assert_str_eq(network_names("n1"), "web.2.t2");
    ck_assert_str_eq(network_names("n2"), "moved web.2.t2 db.1.t3");
    ck_assert_str_eq(service_names("s2"), "moved db.1.t3");
    ck_assert_str_eq(name_of("n1", "box"), "");
    ck_assert_str_eq(name_of("n1", "one"), "");
    ck_assert_str_eq(name_of("n2", "crate"), "moved");
    ck_assert_str_eq(owner_of("n1", "10.0.1.5"), "");
    ck_assert_str_eq(owner_of("n2", "10.0.2.9"), "moved");
    ck_assert_str_eq(name_of("n2", "db"), "");
    ck_assert_str_eq(name_of("n2", "database"), "");
    ck_assert_str_eq(name_of("n1", "db"), "sql");
    ck_assert(apply("removed endpoint t1\nremoved service s2\nremoved network n2\n"
                    "removed peer m1\nremoved peer m9"));
    ck_assert_str_eq(name_of("n2", "moved"), "");
    ck_assert_str_eq(name_of("n1", "db"), "");
    ck_assert_ptr_null(tables_network(t, id("n2")));
    ck_assert_ptr_null(tables_peer(t, id("m1")));
    ck_assert_str_eq(tables_peer_after(t, "")->hostname, "host-2");
    /* What is removed and comes again in one answer is there. */
    ck_assert(apply("removed endpoint t2\nendpoint t2 again s1 m2 UP n1=10.0.1.6/24"));
    ck_assert_str_eq(network_names("n1"), "again");
}
END_TEST

START_TEST(shared_names_and_addresses)
{
    const Skep__NetworkService *const *services;
    const Skep__NetworkEndpoint *const *endpoints;

    ck_assert(apply("complete\nnetwork n1 front 10.0.1.0/24\n"
                    "service s2 blue vip n1=10.0.1.3/24,app\n"
                    "service s1 green vip n1=10.0.1.2/24,app,app,green\n"
                    "endpoint t1 box s1 m1 DRAINING n1=10.0.1.5/24,box,BOX hostname=box\n"
                    "endpoint t2 crate s1 m1 UP n1=10.0.1.5/24 hostname=box"));
    ck_assert_str_eq(name_of("n1", "app"), "green"); /* the first by id */
    ck_assert_uint_eq(tables_named_services(t, id("n1"), "app", &services), 2);
    ck_assert_str_eq(services[1]->name, "blue");
    ck_assert_str_eq(name_of("n1", "box"), "crate"); /* the one that is up */
    ck_assert_uint_eq(tables_named_endpoints(t, id("n1"), "box", &endpoints), 2);
    ck_assert_str_eq(owner_of("n1", "10.0.1.5"), "crate");
    ck_assert(apply("removed service s1\nremoved endpoint t2"));
    ck_assert_str_eq(name_of("n1", "app"), "blue");
    ck_assert_str_eq(name_of("n1", "box"), "box");
    ck_assert_str_eq(owner_of("n1", "10.0.1.5"), "box");
    ck_assert(apply("removed endpoint t1"));
    ck_assert_str_eq(name_of("n1", "box"), "");
}
END_TEST

/* Which networks' versions an answer raises: "n1 n2". */
static const char *raised(const char *answer)
{
    uint64_t n1 = tables_network_version(t, id("n1")), n2 = tables_network_version(t, id("n2"));
    uint64_t all = tables_version(t);

    ck_assert(apply(answer));
    ck_assert_uint_gt(tables_version(t), all);
    (void)snprintf(text, sizeof(text), "%s%s",
                   tables_network_version(t, id("n1")) != n1 ? "n1" : "",
                   tables_network_version(t, id("n2")) != n2 ? "n2" : "");
    return text;
}

START_TEST(versions_rise_where_something_changed)
{
    static const struct {
        const char *answer, *networks;
    } cases[] = {
        { "endpoint t1 web.1.t1 s1 m1 DRAINING n1=10.0.1.5/24", "n1" },
        { "endpoint t2 web.2.t2 s1 m2 UP n1=10.0.1.6/24 n2=10.0.2.6/24", "n1n2" },
        { "endpoint t2 web.2.t2 s1 m2 UP n2=10.0.2.6/24", "n1n2" }, /* it left n1 */
        { "peer m1 host-1 192.0.2.111", "n1" },
        { "peer m2 host-2 192.0.2.112", "n2" },
        { "peer m1 host-1 192.0.2.111 n2=10.0.2.250/24", "n1n2" },
        { "peer m3 host-3 192.0.2.113", "" },
        { "service s2 db dnsrr n2=,dbase", "n2" },
        { "network n1 front 10.0.1.0/23", "n1" },
        { "removed endpoint t1", "n1" },
        { "peer m1 host-1 192.0.2.121", "n2" }, /* it had an address there */
        { "peer m1 host-1 192.0.2.131", "" },
        { "removed network n2", "n2" },
    };

    ck_assert(apply(basic));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ck_assert_msg(strcmp(raised(cases[i].answer), cases[i].networks) == 0, "%s: %s",
                      cases[i].answer, text);
    uint64_t before = tables_version(t);
    ck_assert(!apply("peer m3 host-3 192.0.2.113\nremoved endpoint t99"));
    ck_assert_uint_eq(tables_version(t), before);
}
END_TEST

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const char *const bad_records[] = {
    "network - front 10.0.1.0/24",
    "network N1 front 10.0.1.0/24",
    "network n1xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx front 10.0.1.0/24",
    "network n1 - 10.0.1.0/24",
    "network n1 front 10.0.1.0",
    "network n1 front 10.0.1.0/33",
    "network n1 front 10.0.1.0/0",
    "network n1 front fd::/129",
    "peer m_ host 192.0.2.1",
    "peer m1 host 192.0.2",
    "peer m1 host 224.0.0.1",
    "peer m1 ho\x01st 192.0.2.1",
    "peer m1 host 192.0.2.1 n1=10.0.1.5",
    "service - web vip n1=10.0.1.2/24",
    "service s1 - vip n1=10.0.1.2/24",
    "service s1 web vip n1=10.0.1.2",
    "service s1 web vip n1=0.0.0.0/24",
    "service s1 web vip n1=127.0.0.1/8",
    "service s1 web vip N=10.0.1.2/24",
    "service s1 web vip n1=10.0.1.2/24,",
    "service s1 w\x7f vip n1=10.0.1.2/24",
    "endpoint - a s1 m1 UP n1=10.0.1.5/24",
    "endpoint t1 - s1 m1 UP n1=10.0.1.5/24",
    "endpoint t1 a S m1 UP n1=10.0.1.5/24",
    "endpoint t1 a s1 - UP n1=10.0.1.5/24",
    "endpoint t1 a s1 m1 UP n1=10.0.1.5",
    "endpoint t1 a s1 m1 UP n1=10.0.1.5/24+::/64",
    "endpoint t1 a s1 m1 UP n1=10.0.1.5/24 n1=10.0.1.6/24",
    "endpoint t1 a s1 m1 UP N1=10.0.1.5/24",
    "endpoint t1 a s1 m1 UP n1=10.0.1.5/24,\xc3\xa4",
    "endpoint t1 " X64 X64 X64 X64 " s1 m1 UP n1=10.0.1.5/24",
    "endpoint t1 a s1 m1 UP n1=10.0.1.5/24 hostname=" X64 X64 X64 X64,
};

START_TEST(malformed_records_are_refused)
{
    const char *why;

    ck_assert(apply("complete"));
    uint64_t before = tables_version(t);
    ck_assert_msg(!apply(bad_records[_i]), "%s", bad_records[_i]);
    ck_assert_uint_eq(tables_refused(t, &why), 1);
    ck_assert_str_ne(why, "");
    ck_assert_uint_eq(tables_version(t), before);
    ck_assert_str_eq(network_names("n1"), "");
}
END_TEST

START_TEST(malformed_fields_are_refused)
{
    Skep__NetworksResponse *resp;
    Skep__NetworkHead *h;

    resp = networks_parse(&arena, "network n1 front 10.0.1.0/24");
    h = resp->records[0]->network;
    h->vni = 0;
    ck_assert(!tables_apply(t, resp));
    h->vni = 1 << 24;
    ck_assert(!tables_apply(t, resp));
    h->vni = 1;
    h->mtu = 67;
    ck_assert(!tables_apply(t, resp));
    h->mtu = 0;
    h->ipam[0]->gateway = arena_strdup(&arena, "10.0.2.1");
    ck_assert(!tables_apply(t, resp));
    h->ipam[0]->gateway = arena_strdup(&arena, "10.0.1.1");
    resp->records[0]->record_case = 77;
    ck_assert(!tables_apply(t, resp));
    resp->records[0]->record_case = SKEP__NETWORK_RECORD__RECORD_NETWORK;
    resp->records[0]->network = NULL;
    ck_assert(!tables_apply(t, resp));
    ck_assert_uint_eq(refused(), 6);
    resp->records[0]->network = h;
    ck_assert(tables_apply(t, resp));
    resp = networks_parse(&arena, "endpoint t1 a s1 m1 UP n1=10.0.1.5/24");
    resp->records[0]->endpoint->state = 3;
    ck_assert(!tables_apply(t, resp));
    resp = networks_parse(&arena, "service s1 web vip n1=10.0.1.2/24");
    resp->records[0]->service->mode = 2;
    ck_assert(!tables_apply(t, resp));
    resp = networks_parse(&arena, "removed endpoint t1");
    resp->removed[0]->kind = 9;
    ck_assert(!tables_apply(t, resp));
    ck_assert_uint_eq(refused(), 8);
}
END_TEST

START_TEST(a_refused_change_leaves_the_record)
{
    ck_assert(apply(basic));
    ck_assert(!apply("endpoint t1 web.1.t1 s1 m1 DRAINING n1=10.0.1.5/99"));
    ck_assert_str_eq(owner_of("n1", "10.0.1.5"), "web.1.t1");
    ck_assert_int_eq(tables_endpoint(t, id("t1"))->state, SKEP__NETWORK_ENDPOINT__STATE__UP);
}
END_TEST

/* ---- size ---- */

/* count endpoints of one service in n1; the order of ids is not that of the answer. */
static Skep__NetworksResponse *large(size_t count)
{
    Skep__NetworksResponse *resp = networks_parse(&arena, "complete\nnetwork n1 front 10.0.0.0/8\n"
                                                          "service s1 web vip n1=10.0.0.2/8");
    Skep__NetworkRecord **records = arena_array(&arena, count + 2, sizeof(records[0]));
    char line[256];

    memcpy(records, resp->records, 2 * sizeof(records[0]));
    for (size_t i = 0; i < count; i++) {
        size_t n = (i * 7919) % count; /* prime: a permutation unless it divides count */

        (void)snprintf(line, sizeof(line),
                       "endpoint t%06zu web.%zu.t%06zu s1 m%zu UP n1=10.%zu.%zu.%zu/8,shared "
                       "hostname=h%zu",
                       n, n, n, n % 50, 1 + n / 65536, n / 256 % 256, n % 256, n);
        records[2 + i] = networks_parse(&arena, line)->records[0];
    }
    resp->records = records;
    resp->n_records = count + 2;
    return resp;
}

static void check_large(size_t count)
{
    const Skep__NetworkEndpoint *const *list;

    ck_assert_uint_eq(tables_network_endpoints(t, id("n1"), &list), count);
    for (size_t i = 1; i < count; i++)
        ck_assert_int_lt(strcmp(list[i - 1]->task_id, list[i]->task_id), 0);
    ck_assert_uint_eq(tables_service_endpoints(t, id("s1"), &list), count);
    ck_assert_uint_eq(tables_named_endpoints(t, id("n1"), "shared", &list), count);
    ck_assert_str_eq(list[count - 1]->task_id,
                     tables_find_endpoint(t, id("n1"), list[count - 1]->name)->task_id);
}

START_TEST(large_sets_stay_in_order)
{
    enum { COUNT = 3000 };
    Skep__NetworksResponse *resp = large(COUNT), half = *resp;
    Skep__NetworkRecordRef **gone = arena_array(&arena, COUNT, sizeof(gone[0]));
    char line[64];

    ck_assert(tables_apply(t, resp));
    ck_assert_uint_eq(refused(), 0);
    check_large(COUNT);
    half.n_records = 2 + COUNT / 2;
    ck_assert(tables_apply(t, &half));
    check_large(COUNT / 2);
    ck_assert(tables_apply(t, resp));
    check_large(COUNT);
    Skep__NetworksResponse removal = SKEP__NETWORKS_RESPONSE__INIT;
    removal.removed = gone;
    for (int i = 0; i < COUNT; i += 3) {
        (void)snprintf(line, sizeof(line), "removed endpoint t%06d", i);
        gone[removal.n_removed++] = networks_parse(&arena, line)->removed[0];
    }
    ck_assert(tables_apply(t, &removal));
    check_large(COUNT / 3 * 2);
    ck_assert(tables_apply(t, resp));
    check_large(COUNT);
    ck_assert(apply("complete"));
    ck_assert_str_eq(name_of("n1", "shared"), "");
    ck_assert_ptr_null(tables_endpoint(t, id("t000001")));
}
END_TEST

/* Costs are compared with each other, not with a clock: a change of one endpoint must not cost a
 * noticeable part of the set. */
START_TEST(one_change_costs_little)
{
    enum { COUNT = 10000, CHANGES = 200 };
    Skep__NetworksResponse *resp = large(COUNT);
    static const char *const lines[] = {
        "endpoint t005000 web.5000.t005000 s1 m0 DRAINING n1=10.1.19.136/8,shared",
        "removed endpoint t005000",
        "endpoint t005000 web.5000.t005000 s1 m0 UP n1=10.1.19.136/8,shared hostname=h5000",
    };
    uint64_t start = clock_thread_ns(), all, changes;

    ck_assert(tables_apply(t, resp));
    all = clock_thread_ns() - start;
    Skep__NetworksResponse *change[ARRAY_LEN(lines)];
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        change[i] = networks_parse(&arena, lines[i]);
    start = clock_thread_ns();
    for (int i = 0; i < CHANGES; i++)
        ck_assert(tables_apply(t, change[i % 3]));
    changes = (clock_thread_ns() - start) / CHANGES;
    if (getenv("PRINT") != NULL)
        printf("set of %d: %.2f ms, one change %.1f us\n", COUNT, (double)all / 1e6,
               (double)changes / 1e3);
    ck_assert_uint_lt(changes * 100, all);
}
END_TEST

START_TEST(limits_are_kept)
{
    enum { COUNT = TABLES_NETWORKS_MAX + 3 };
    Skep__NetworksResponse resp = SKEP__NETWORKS_RESPONSE__INIT;
    char line[64];

    resp.records = arena_array(&arena, COUNT, sizeof(resp.records[0]));
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(line, sizeof(line), "network n%06d net-%d 10.0.0.0/8", i, i);
        resp.records[resp.n_records++] = networks_parse(&arena, line)->records[0];
    }
    ck_assert(tables_apply(t, &resp));
    ck_assert_uint_eq(refused(), 3);
    ck_assert_ptr_nonnull(tables_network(t, id("n001023")));
    ck_assert_ptr_null(tables_network(t, id("n001024")));
    ck_assert(apply("removed network n000000\nnetwork n001024 net 10.0.0.0/8"));
    ck_assert_ptr_nonnull(tables_network(t, id("n001024")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("netplan_tables");
    TCase *tc = tcase_create("tables");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, everything_is_found);
    tcase_add_test(tc, a_complete_set_forgets_what_it_does_not_name);
    tcase_add_test(tc, an_empty_first_set_is_a_change);
    tcase_add_test(tc, records_replace_each_other);
    tcase_add_test(tc, shared_names_and_addresses);
    tcase_add_test(tc, versions_rise_where_something_changed);
    tcase_add_loop_test(tc, malformed_records_are_refused, 0, ARRAY_LEN(bad_records));
    tcase_add_test(tc, malformed_fields_are_refused);
    tcase_add_test(tc, a_refused_change_leaves_the_record);
    tcase_add_test(tc, large_sets_stay_in_order);
    tcase_add_test(tc, one_change_costs_little);
    tcase_add_test(tc, limits_are_kept);
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

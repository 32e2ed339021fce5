/* DNS messages: the first byte chooses between a query of a container, answered from tables, an
 * upstream's answer to it, and a resolv.conf. Whatever is answered must be well-formed for a reader
 * that shares no code with the builder. */
#include <stdlib.h>
#include <string.h>

#include "agentd/dns/internal.h"
#include "common/assert.h"
#include "test/lib/dns_text.h"
#include "test/lib/networks_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char networks[] =
    "complete\n"
    "network n1 front 10.0.1.0/24 fd01::/64\n"
    "network n2 back 10.0.2.0/24\n"
    "service s1 web vip n1=10.0.1.2/24,www\n"
    "service s2 db dnsrr n1=,rr n2=\n"
    "endpoint t1 web.1 s1 m1 UP n1=10.0.1.5/24+fd01::5/64 n2=10.0.2.5/24\n"
    "endpoint t2 db.1 s2 m1 UP n1=10.0.1.6/24,a,b hostname=c\n";

static struct tables *tables(void)
{
    static struct tables *t;
    struct arena a = { 0 };

    if (t == NULL) {
        t = tables_new();
        ASSERT(tables_apply(t, networks_parse(&a, networks)));
        arena_deinit(&a);
    }
    return t;
}

static void check_text(const struct dns_query *q, const uint8_t *m, size_t size)
{
    ASSERT(strncmp(dns_text_answer(m, size, q->id), "broken", 6) != 0 || q->id == 0);
}

static void answer(const struct dns_query *q, bool tcp)
{
    static uint8_t mem[DNS_MESSAGE_BYTES_MAX];
    static struct prng prng;
    size_t max = tcp ? sizeof(mem) : DNS_UDP_BYTES_MAX, size;
    struct answer_request r = { .query = q,
                                .tables = tables(),
                                .network_id = "n100000000000000000000000",
                                .tcp = tcp,
                                .random = &prng };

    prng_init(&prng, 7);
    ASSERT(ip_parse("10.0.1.5", &r.source, NULL) == 0);
    if (answer_query(&r, mem, max, &size) == ANSWER_FORWARD) {
        struct dns_query again;

        size = dns_encode_query(mem, q, 0x4242);
        ASSERT(dns_decode_query(mem, size, &again) == DNS_NOERROR);
        ASSERT(strcmp(again.name, q->name) == 0 && again.type == q->type);
        return;
    }
    ASSERT(size <= max && (tcp || size <= q->udp_bytes_max));
    check_text(q, mem, size);
}

static void query(const uint8_t *data, size_t size, bool tcp)
{
    uint8_t mem[DNS_UDP_BYTES_MIN];
    struct dns_query q;
    int rc = dns_decode_query(data, size, &q);

    if (rc == DNS_DROP)
        return;
    if (rc != DNS_NOERROR)
        check_text(&q, mem, dns_encode_refusal(mem, sizeof(mem), &q, (enum dns_rcode)rc));
    else
        answer(&q, tcp);
}

/* To the question that it repeats, so that the rest of it is read. */
static void upstream(const uint8_t *data, size_t size)
{
    struct dns_query q = { .id = 0 };
    struct dns_answer_info info;
    size_t at = DNS_HEADER_BYTES;
    bool plain;

    if (size < DNS_HEADER_BYTES || dns_decode_name(data, size, &at, q.name, &plain) < 0 ||
        size - at < 4 || at + 4 - DNS_HEADER_BYTES > sizeof(q.question))
        return;
    q.question_bytes = (uint16_t)(at + 4 - DNS_HEADER_BYTES);
    memcpy(q.question, data + DNS_HEADER_BYTES, q.question_bytes);
    if (dns_check_answer(data, size, &q, (uint16_t)(data[0] << 8 | data[1]), &info) == 0)
        ASSERT(info.rcode < 16);
}

static void resolv_conf(const uint8_t *data, size_t size)
{
    union address list[DNS_SERVERS_MAX];
    char *text = xmalloc(size + 1);

    memcpy(text, data, size);
    text[size] = '\0';
    ASSERT(resolvers_parse(text, list) <= DNS_SERVERS_MAX);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size == 0)
        return 0;
    copy = xmemdup(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
    case 1:
        query(copy, size - 1, data[0] % 4 == 1);
        break;
    case 2:
        upstream(copy, size - 1);
        break;
    default:
        resolv_conf(copy, size - 1);
        break;
    }
    free(copy);
    return 0;
}

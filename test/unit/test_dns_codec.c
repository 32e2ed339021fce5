/* agentd/dns/codec: what is understood, what is refused, truncation at each byte, what is built. */
#include "agentd/dns/codec.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "test/lib/dns_text.h"

#define HEAD(flags, qd, an, ns, ar) "\x12\x34" flags "\0" qd "\0" an "\0" ns "\0" ar
#define PLAIN HEAD("\x01\0", "\1", "\0", "\0", "\0")
#define WITH_OPT HEAD("\x01\0", "\1", "\0", "\0", "\1")
#define WEB "\3web\0\0\1\0\1"
#define OPT(size, flags) "\0\0\x29" size flags "\0\0"
#define M(s) s, sizeof(s) - 1
#define L63                                                                                        \
    "\x3f"                                                                                         \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L62                                                                                        \
    "\x3e"                                                                                         \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define L61                                                                                        \
    "\x3d"                                                                                         \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct query_case {
    const char *why;
    const char *message;
    size_t size;
    int rcode;
} query_cases[] = {
    { "a plain question", M(PLAIN WEB), DNS_NOERROR },
    { "the root", M(PLAIN "\0\0\2\0\1"), DNS_NOERROR },
    { "a name of 255 bytes", M(PLAIN L63 L63 L63 L61 "\0\0\1\0\1"), DNS_NOERROR },
    { "a name of 256 bytes", M(PLAIN L63 L63 L63 L62 "\0\0\1\0\1"), DNS_FORMERR },
    { "a label of 64 bytes",
      M(PLAIN "\x40"
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\0\1\0\1"),
      DNS_FORMERR },
    { "a label kind that never was", M(PLAIN "\x81\0\0\1\0\1"), DNS_FORMERR },
    { "a name that points to itself", M(PLAIN "\xc0\x0c\0\1\0\1"), DNS_FORMERR },
    { "a loop", M(PLAIN "\3web\xc0\x0c\0\1\0\1"), DNS_FORMERR },
    { "a pointer into the header", M(PLAIN "\xc0\0\0\1\0\1"), DNS_FORMERR },
    { "a pointer forward", M(PLAIN "\xc0\x12\0\1\0\1\3web\0"), DNS_FORMERR },
    { "a pointer beyond the end", M(PLAIN "\xff\xff\0\1\0\1"), DNS_FORMERR },
    { "an answer", M(HEAD("\x81\0", "\1", "\0", "\0", "\0") WEB), DNS_DROP },
    { "a short header", M("\x12\x34\1\0\0\1\0\0\0\0\0"), DNS_DROP },
    { "nothing", M(""), DNS_DROP },
    { "opcode IQUERY", M(HEAD("\x09\0", "\1", "\0", "\0", "\0") WEB), DNS_NOTIMP },
    { "opcode UPDATE", M(HEAD("\x29\0", "\1", "\0", "\0", "\0") WEB), DNS_NOTIMP },
    { "opcode 15", M(HEAD("\x79\0", "\1", "\0", "\0", "\0") WEB), DNS_NOTIMP },
    { "truncated", M(HEAD("\x03\0", "\1", "\0", "\0", "\0") WEB), DNS_FORMERR },
    { "no question", M(HEAD("\x01\0", "\0", "\0", "\0", "\0")), DNS_FORMERR },
    { "two questions", M(HEAD("\x01\0", "\2", "\0", "\0", "\0") WEB WEB), DNS_FORMERR },
    { "an answer section", M(HEAD("\x01\0", "\1", "\1", "\0", "\0") WEB), DNS_FORMERR },
    { "an authority section", M(HEAD("\x01\0", "\1", "\0", "\1", "\0") WEB), DNS_FORMERR },
    { "bytes behind the end", M(PLAIN WEB "x"), DNS_FORMERR },
    { "EDNS", M(WITH_OPT WEB OPT("\x10\0", "\0\0\0\0")), DNS_NOERROR },
    { "EDNS, bytes behind", M(WITH_OPT WEB OPT("\x10\0", "\0\0\0\0") "x"), DNS_FORMERR },
    { "EDNS version 1", M(WITH_OPT WEB OPT("\x10\0", "\0\1\0\0")), DNS_BADVERS },
    { "EDNS with an option", M(WITH_OPT WEB "\0\0\x29\x10\0\0\0\0\0\0\5\0\x0a\0\1x"), DNS_NOERROR },
    { "EDNS, its option cut", M(WITH_OPT WEB "\0\0\x29\x10\0\0\0\0\0\0\6\0\x0a\0\1x"),
      DNS_FORMERR },
    { "EDNS of a name", M(WITH_OPT WEB "\1x" OPT("\x10\0", "\0\0\0\0")), DNS_FORMERR },
    { "EDNS twice",
      M(HEAD("\x01\0", "\1", "\0", "\0", "\2") WEB OPT("\x10\0", "\0\0\0\0")
            OPT("\x10\0", "\0\0\0\0")),
      DNS_FORMERR },
    { "another additional record", M(WITH_OPT WEB "\xc0\x0c\0\x10\0\1\0\0\0\0\0\1x"), DNS_NOERROR },
    { "too many of them", M(HEAD("\x01\0", "\1", "\0", "\0", "\x11") WEB), DNS_FORMERR },
};

START_TEST(queries)
{
    const struct query_case *c = &query_cases[_i];
    struct dns_query q;

    ck_assert_msg(dns_decode_query((const uint8_t *)c->message, c->size, &q) == c->rcode, "%s",
                  c->why);
}
END_TEST

/* From memory of exactly that size, so that a sanitizer sees the first byte too many. */
static int decode_copy(const void *message, size_t size, struct dns_query *q)
{
    uint8_t *copy = xmemdup(message, size);
    int rc = dns_decode_query(copy, size, q);

    free(copy);
    return rc;
}

START_TEST(every_truncation_is_refused)
{
    static const char whole[] = WITH_OPT "\3web\5front\0\0\1\0\1"
                                         "\0\0\x29\x10\0\0\0\x80\0\0\5\0\x0a\0\1x";
    struct dns_query q;

    ck_assert_int_eq(decode_copy(whole, sizeof(whole) - 1, &q), DNS_NOERROR);
    for (size_t size = 0; size < sizeof(whole) - 1; size++)
        ck_assert_msg(decode_copy(whole, size, &q) == (size < 12 ? DNS_DROP : DNS_FORMERR),
                      "cut at %zu", size);
}
END_TEST

START_TEST(what_a_query_says)
{
    struct dns_query q;

    ck_assert_int_eq(
        decode_copy(M(WITH_OPT "\3wEb\5front\0\0\x1c\0\1" OPT("\x10\0", "\0\0\x80\0")), &q),
        DNS_NOERROR);
    ck_assert_str_eq(q.name, "wEb.front");
    ck_assert(q.plain && q.recursion_desired && q.edns && q.dnssec_ok);
    ck_assert_uint_eq(q.id, 0x1234);
    ck_assert_uint_eq(q.type, DNS_TYPE_AAAA);
    ck_assert_uint_eq(q.class, DNS_CLASS_IN);
    ck_assert_uint_eq(q.udp_bytes_max, DNS_UDP_BYTES_MAX);
    ck_assert_int_eq(decode_copy(M(WITH_OPT WEB OPT("\2\x58", "\0\0\0\0")), &q), DNS_NOERROR);
    ck_assert_uint_eq(q.udp_bytes_max, 600);
    ck_assert_int_eq(decode_copy(M(WITH_OPT WEB OPT("\0\1", "\0\0\0\0")), &q), DNS_NOERROR);
    ck_assert_uint_eq(q.udp_bytes_max, DNS_UDP_BYTES_MIN);
    ck_assert_int_eq(decode_copy(M(PLAIN "\4w.\0\xff\0\0\1\0\1"), &q), DNS_NOERROR);
    ck_assert(!q.plain && !q.edns);
    ck_assert_str_eq(q.name, "w???");
    ck_assert_uint_eq(q.udp_bytes_max, DNS_UDP_BYTES_MIN);
}
END_TEST

START_TEST(names_follow_pointers_back_only)
{
    uint8_t m[600] = { 0 };
    char name[DNS_NAME_CHARS_MAX + 1];
    size_t at = 20;
    bool plain;

    memcpy(m + 12, "\3web\0", 5);
    memcpy(m + 20, "\1a\xc0\x0c", 4);
    ck_assert_int_eq(dns_decode_name(m, sizeof(m), &at, name, &plain), 0);
    ck_assert_str_eq(name, "a.web");
    ck_assert_uint_eq(at, 24);
    memcpy(m + 25, "\xc0\x1c\0\1b", 6); /* forward, to a name as good as any */
    at = 25;
    ck_assert_int_eq(dns_decode_name(m, sizeof(m), &at, name, &plain), -ERR_PROTO);
    /* A ladder of pointers, each to the one before: work for nothing. */
    for (size_t i = 30; i < sizeof(m) - 1; i += 2) {
        size_t to = i == 30 ? 12 : i - 2;

        m[i] = (uint8_t)(0xc0 | to >> 8);
        m[i + 1] = (uint8_t)to;
    }
    at = 34;
    ck_assert_int_eq(dns_decode_name(m, sizeof(m), &at, name, &plain), 0);
    at = sizeof(m) - 2;
    ck_assert_int_eq(dns_decode_name(m, sizeof(m), &at, name, &plain), -ERR_PROTO);
    ck_assert_uint_eq(at, sizeof(m) - 2);
}
END_TEST

/* ---- answers ---- */

static struct dns_query asked(const char *name, uint16_t type, uint16_t edns)
{
    uint8_t m[DNS_TEXT_QUERY_MAX];
    struct dns_text_query t = { .name = name, .type = type, .edns = edns };
    struct dns_query q;

    ck_assert_int_eq(dns_decode_query(m, dns_text_query(m, &t), &q), DNS_NOERROR);
    return q;
}

static struct ip ip_of(const char *text)
{
    struct ip ip;

    ck_assert_int_eq(ip_parse(text, &ip, NULL), 0);
    return ip;
}

START_TEST(answers_are_built)
{
    uint8_t m[DNS_UDP_BYTES_MAX];
    struct dns_query q = asked("web.front", DNS_TYPE_A, 1000);
    struct dns_builder b;
    struct ip four = ip_of("10.0.1.2"), six = ip_of("fd00::7");

    dns_build(&b, m, sizeof(m), &q);
    ck_assert(dns_build_address(&b, 5, &four));
    ck_assert(dns_build_address(&b, 1, &six));
    size_t size = dns_build_end(&b, DNS_NOERROR, true, false);
    ck_assert_str_eq(dns_text_answer(m, size, 0),
                     "NOERROR aa A 5 10.0.1.2 AAAA 1 fd00::7 OPT 1232");
    ck_assert_uint_eq(size, 12 + 15 + 16 + 28 + 11); /* the name stands there once */
    q = asked("1.1.0.10.in-addr.arpa", DNS_TYPE_PTR, 0);
    dns_build(&b, m, sizeof(m), &q);
    ck_assert_int_eq(dns_build_ptr(&b, 1, "web.1.front"), 0);
    ck_assert_int_eq(dns_build_ptr(&b, 1, "web..front"), -ERR_INVALID);
    ck_assert_int_eq(dns_build_ptr(&b, 1, "web."), -ERR_INVALID);
    ck_assert_int_eq(dns_build_ptr(&b, 1,
                                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                   "aaaaaaaaaa.front"),
                     -ERR_INVALID);
    size = dns_build_end(&b, DNS_NOERROR, true, true);
    ck_assert_str_eq(dns_text_answer(m, size, 0), "NOERROR aa tc PTR 1 web.1.front");
    size = dns_encode_refusal(m, sizeof(m), &q, DNS_REFUSED);
    ck_assert_str_eq(dns_text_answer(m, size, 0), "REFUSED");
}
END_TEST

START_TEST(answers_keep_to_their_size)
{
    uint8_t m[DNS_UDP_BYTES_MIN];
    struct dns_query q = asked("web", DNS_TYPE_A, 512);
    struct dns_builder b;
    struct ip ip = ip_of("10.0.1.2");
    int count = 0;

    dns_build(&b, m, sizeof(m), &q);
    while (dns_build_address(&b, 5, &ip))
        count++;
    ck_assert_int_eq(count, (512 - 12 - 9 - 11) / 16);
    size_t size = dns_build_end(&b, DNS_NOERROR, true, true);
    ck_assert_uint_le(size, 512);
    ck_assert_int_eq(strncmp(dns_text_answer(m, size, 0), "NOERROR aa tc A 5", 17), 0);
}
END_TEST

START_TEST(bad_version_is_told_in_two_parts)
{
    uint8_t m[DNS_UDP_BYTES_MIN];
    struct dns_query q = asked("web", DNS_TYPE_A, 512);
    size_t size = dns_encode_refusal(m, sizeof(m), &q, DNS_BADVERS);

    ck_assert_uint_eq(m[3] & 15, 0);
    ck_assert_uint_eq(m[size - DNS_OPT_BYTES + 5], 1);
}
END_TEST

START_TEST(questions_to_upstream)
{
    uint8_t m[DNS_TEXT_QUERY_MAX];
    struct dns_query q = asked("Example.com", DNS_TYPE_AAAA, 4096), again;
    size_t size = dns_encode_query(m, &q, 0xbeef);

    ck_assert_int_eq(dns_decode_query(m, size, &again), DNS_NOERROR);
    ck_assert_uint_eq(again.id, 0xbeef);
    ck_assert_str_eq(again.name, "Example.com");
    ck_assert_uint_eq(again.type, DNS_TYPE_AAAA);
    ck_assert(again.edns && again.recursion_desired);
    ck_assert_uint_eq(again.udp_bytes_max, DNS_UDP_BYTES_MAX);
}
END_TEST

#define ANSWER HEAD("\x81\x80", "\1", "\1", "\0", "\0") WEB
static const struct answer_case {
    const char *why;
    const char *message;
    size_t size;
    bool good;
} answer_cases[] = {
    { "good", M(ANSWER "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1"), true },
    { "another case", M(HEAD("\x81\x80", "\1", "\0", "\0", "\0") "\3WEB\0\0\1\0\1"), true },
    { "another id", M("\x12\x35\x81\x80\0\1\0\0\0\0\0\0" WEB), false },
    { "another name", M(HEAD("\x81\x80", "\1", "\0", "\0", "\0") "\3wec\0\0\1\0\1"), false },
    { "another type", M(HEAD("\x81\x80", "\1", "\0", "\0", "\0") "\3web\0\0\2\0\1"), false },
    { "another class", M(HEAD("\x81\x80", "\1", "\0", "\0", "\0") "\3web\0\0\1\0\3"), false },
    { "a query", M(HEAD("\x01\x80", "\1", "\0", "\0", "\0") WEB), false },
    { "no question", M(HEAD("\x81\x80", "\0", "\0", "\0", "\0") WEB), false },
    { "more records than there are",
      M(HEAD("\x81\x80", "\1", "\2", "\0", "\0") WEB "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1"),
      false },
    { "bytes behind", M(ANSWER "\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1x"), false },
    { "a loop", M(ANSWER "\xc0\x15\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1"), false },
    { "data too long", M(ANSWER "\xc0\x0c\0\1\0\1\0\0\0\5\0\5\x0a\0\0\1"), false },
};

START_TEST(answers_of_upstream)
{
    const struct answer_case *c = &answer_cases[_i];
    struct dns_query q = asked("web", DNS_TYPE_A, 0);
    struct dns_answer_info info;
    int rc = dns_check_answer((const uint8_t *)c->message, c->size, &q, 0x1234, &info);

    ck_assert_msg((rc == 0) == c->good, "%s", c->why);
    for (size_t size = 0; c->good && size < c->size; size++) {
        uint8_t *copy = xmemdup(c->message, size);

        ck_assert_msg(dns_check_answer(copy, size, &q, 0x1234, &info) < 0, "cut at %zu", size);
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dns_codec");
    TCase *tc = tcase_create("codec");

    tcase_add_loop_test(tc, queries, 0, ARRAY_LEN(query_cases));
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, what_a_query_says);
    tcase_add_test(tc, names_follow_pointers_back_only);
    tcase_add_test(tc, answers_are_built);
    tcase_add_test(tc, answers_keep_to_their_size);
    tcase_add_test(tc, bad_version_is_told_in_two_parts);
    tcase_add_test(tc, questions_to_upstream);
    tcase_add_loop_test(tc, answers_of_upstream, 0, ARRAY_LEN(answer_cases));
    suite_add_tcase(s, tc);
    SRunner *sr = srunner_create(s);
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

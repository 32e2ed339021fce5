/* common/text: what people type (durations, sizes, CPUs, ratios, times) and read. */
#include "common/text.h"

#include <check.h>
#include <inttypes.h>
#include <string.h>

#define S TEXT_NS_PER_S
#define BAD INT64_MIN

struct number_case {
    const char *why;
    const char *text;
    int64_t want; /* BAD: refused */
};

static const struct number_case duration_cases[] = {
    { "seconds", "10s", 10 * S },
    { "mixed units", "1m30s", 90 * S },
    { "hours with fraction", "1.5h", 5400 * S },
    { "fraction without integer", ".5s", S / 2 },
    { "milliseconds are not minutes", "250ms", 250000000 },
    { "microseconds", "3us", 3000 },
    { "micro sign", "3\xc2\xb5s", 3000 },
    { "nanoseconds", "7ns", 7 },
    { "bare zero", "0", 0 },
    { "negative", "-2s", -2 * S },
    { "plus sign", "+2s", 2 * S },
    { "the largest", "9223372036854775807ns", INT64_MAX },
    { "empty", "", BAD },
    { "sign only", "-", BAD },
    { "no unit", "10", BAD },
    { "unknown unit", "10d", BAD },
    { "trailing text", "10s ", BAD },
    { "unit only", "s", BAD },
    { "point only", ".s", BAD },
    { "two points", "1.2.3s", BAD },
    { "overflow in one part", "9223372036854775808ns", BAD },
    { "overflow by hours", "3000000h", BAD },
    { "overflow in the sum", "2562047h2562047h", BAD },
    { "sign inside", "1s-1s", BAD },
};
START_TEST(duration_parses)
{
    const struct number_case *c = &duration_cases[_i];
    int64_t got = BAD;
    struct err e = { 0 };
    int rc = text_parse_duration(c->text, &got, &e);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(got == c->want, "%s: %" PRId64, c->why, got);
    ck_assert_msg((rc == 0) == (e.message[0] == '\0'), "%s: %s", c->why, e.message);
}
END_TEST

static const struct number_case byte_cases[] = {
    { "plain bytes", "1024", 1024 },
    { "bytes with unit", "100b", 100 },
    { "mebibytes", "512m", 512LL << 20 },
    { "upper case", "512M", 512LL << 20 },
    { "mb is 2^20 as in docker", "1mb", 1LL << 20 },
    { "IEC", "1GiB", 1LL << 30 },
    { "fraction", "1.5g", 3LL << 29 },
    { "blank before the unit", "2 GB", 2LL << 30 },
    { "tera", "1t", 1LL << 40 },
    { "peta", "1PiB", 1LL << 50 },
    { "zero", "0", 0 },
    { "empty", "", BAD },
    { "negative", "-1m", BAD },
    { "unknown suffix", "10q", BAD },
    { "i without b", "10Mi", BAD },
    { "bb", "10bb", BAD },
    { "trailing", "10mbx", BAD },
    { "overflow", "9223372036854775807k", BAD },
    { "too many digits", "99999999999999999999", BAD },
};
START_TEST(bytes_parse)
{
    const struct number_case *c = &byte_cases[_i];
    int64_t got = BAD;
    int rc = text_parse_bytes(c->text, &got, NULL);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(got == c->want, "%s: %" PRId64, c->why, got);
}
END_TEST

static const struct number_case cpu_cases[] = {
    { "half", "0.5", S / 2 },
    { "whole", "2", 2 * S },
    { "no leading zero", ".25", S / 4 },
    { "nine decimals", "0.000000001", 1 },
    { "trailing zeros beyond nine", "0.1000000000000000000000", S / 10 },
    { "rational as in docker", "1/4", S / 4 },
    { "ten decimals", "0.0000000001", BAD },
    { "third is not exact", "1/3", BAD },
    { "division by zero", "1/0", BAD },
    { "negative", "-1", BAD },
    { "word", "q", BAD },
    { "empty", "", BAD },
    { "too many", "10000000000", BAD },
};
START_TEST(cpus_parse)
{
    const struct number_case *c = &cpu_cases[_i];
    int64_t got = BAD;
    int rc = text_parse_cpus(c->text, &got, NULL);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(got == c->want, "%s: %" PRId64, c->why, got);
}
END_TEST

static const struct number_case ratio_cases[] = {
    { "none", "0", 0 },           { "all", "1", 1000000 },  { "quarter", "0.25", 250000 },
    { "above one", "1.01", BAD }, { "percent", "5%", BAD }, { "negative", "-0.1", BAD },
    { "empty", "", BAD },
};
START_TEST(ratio_parses)
{
    const struct number_case *c = &ratio_cases[_i];
    uint32_t got = 7;
    int rc = text_parse_ratio(c->text, &got, NULL);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(rc < 0 || got == c->want, "%s: %u", c->why, got);
}
END_TEST

static const struct number_case u64_cases[] = {
    { "zero", "0", 0 },
    { "leading zeros", "007", 7 },
    { "negative", "-1", BAD },
    { "plus", "+1", BAD },
    { "empty", "", BAD },
    { "fraction", "1.5", BAD },
    { "hexadecimal", "0x1", BAD },
    { "2^64", "18446744073709551616", BAD },
};
START_TEST(u64_parses)
{
    const struct number_case *c = &u64_cases[_i];
    uint64_t got = 99;
    int rc = text_parse_u64(c->text, &got, NULL);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(rc < 0 || got == (uint64_t)c->want, "%s", c->why);
}
END_TEST

START_TEST(i64_parses_signs_and_limits)
{
    int64_t got = 0;

    ck_assert_int_eq(text_parse_i64("-5", &got, NULL), 0);
    ck_assert_int_eq(got, -5);
    ck_assert_int_eq(text_parse_i64("+5", &got, NULL), 0);
    ck_assert_int_eq(got, 5);
    ck_assert_int_lt(text_parse_i64("--5", &got, NULL), 0);
    ck_assert_int_lt(text_parse_i64("-", &got, NULL), 0);
    ck_assert_int_lt(text_parse_i64("9223372036854775808", &got, NULL), 0);
    ck_assert_int_eq(got, 5);
}
END_TEST

static const struct number_case time_cases[] = {
    { "epoch", "1970-01-01T00:00:00Z", 0 },
    { "leap day", "2024-02-29T12:00:00Z", 1709208000 * S },
    { "fraction", "2026-01-02T15:04:05.5Z", 1767366245 * S + S / 2 },
    { "offset", "2026-01-02T17:04:05+02:00", 1767366245 * S },
    { "negative offset", "2026-01-02T14:34:05-00:30", 1767366245 * S },
    { "date only", "2026-01-02", 1767312000 * S },
    { "no seconds", "2026-01-02T15:04", 1767366240 * S },
    { "unix seconds", "1767366245", 1767366245 * S },
    { "unix with fraction", "1767366245.25", 1767366245 * S + S / 4 },
    { "month 13", "2026-13-01T00:00:00Z", BAD },
    { "hour 24", "2026-01-01T24:00:00Z", BAD },
    { "word", "yesterday", BAD },
    { "empty", "", BAD },
    { "trailing", "2026-01-02T15:04:05Zx", BAD },
    { "after int64", "2300-01-01T00:00:00Z", BAD },
};
START_TEST(time_parses)
{
    const struct number_case *c = &time_cases[_i];
    int64_t got = BAD;
    int rc = text_parse_time(c->text, &got, NULL);

    ck_assert_msg((rc == 0) == (c->want != BAD), "%s: rc %d", c->why, rc);
    ck_assert_msg(got == c->want, "%s: %" PRId64, c->why, got);
}
END_TEST

static const struct {
    int64_t ns;
    const char *want;
} duration_texts[] = {
    { 0, "0s" },
    { 1, "1ns" },
    { 1500, "1.5\xc2\xb5s" },
    { 250000000, "250ms" },
    { 10 * S, "10s" },
    { 90 * S, "1m30s" },
    { 3600 * S, "1h0m0s" },
    { 7776000 * S, "2160h0m0s" },
    { 61 * S + S / 2, "1m1.5s" },
    { -5 * S, "-5s" },
    { INT64_MIN, "-2562047h47m16.854775808s" },
};
START_TEST(duration_formats)
{
    char mem[TEXT_SHORT_MAX];

    ck_assert_str_eq(text_format_duration(mem, duration_texts[_i].ns), duration_texts[_i].want);
}
END_TEST

static const struct {
    int64_t seconds;
    const char *want;
} age_texts[] = {
    { 0, "Less than a second" },  { 1, "1 second" },
    { 59, "59 seconds" },         { 60, "About a minute" },
    { 119, "About a minute" },    { 120, "2 minutes" },
    { 59 * 60, "59 minutes" },    { 60 * 60, "About an hour" },
    { 89 * 60, "About an hour" }, { 90 * 60, "2 hours" },
    { 47 * 3600, "47 hours" },    { 48 * 3600, "2 days" },
    { 13 * 86400, "13 days" },    { 14 * 86400, "2 weeks" },
    { 60 * 86400, "2 months" },   { 800 * 86400, "2 years" },
};
START_TEST(age_formats)
{
    char mem[TEXT_SHORT_MAX];

    ck_assert_str_eq(text_format_age(mem, age_texts[_i].seconds * S), age_texts[_i].want);
}
END_TEST

START_TEST(sizes_and_fractions_format)
{
    char mem[TEXT_SHORT_MAX];

    ck_assert_str_eq(text_format_bytes(mem, 0), "0B");
    ck_assert_str_eq(text_format_bytes(mem, 512LL << 20), "512MiB");
    ck_assert_str_eq(text_format_bytes(mem, 3LL << 29), "1.5GiB");
    ck_assert_str_eq(text_format_nano(mem, S / 2), "0.5");
    ck_assert_str_eq(text_format_nano(mem, 2 * S), "2");
    ck_assert_str_eq(text_format_ratio(mem, 100000), "0.1");
    ck_assert_str_eq(text_format_ratio(mem, 0), "0");
}
END_TEST

START_TEST(time_formats)
{
    char mem[TEXT_TIME_MAX];

    ck_assert_str_eq(text_format_time(mem, 0), "0001-01-01T00:00:00Z");
    ck_assert_str_eq(text_format_time(mem, 1767366245 * S), "2026-01-02T15:04:05Z");
    ck_assert_str_eq(text_format_time(mem, 1767366245 * S + 31410503000),
                     "2026-01-02T15:04:36.410503Z");
    ck_assert_str_eq(text_format_time(mem, -1), "1969-12-31T23:59:59.999999999Z");
    ck_assert_str_eq(text_format_time_utc(mem, 1767366245 * S), "2026-01-02 15:04:05 +0000 utc");
}
END_TEST

static const struct {
    const char *why, *a, *b;
    int want;
} natural_cases[] = {
    { "2 before 10", "web2", "web10", -1 },
    { "equal", "web2", "web2", 0 },
    { "prefix first", "web", "web1", -1 },
    { "letters", "api", "web", -1 },
    { "numbers inside", "a10b2", "a10b10", -1 },
    { "long numbers do not overflow", "n99999999999999999999", "n100000000000000000000", -1 },
    { "leading zeros differ only as text", "a01", "a1", -1 },
    { "digit before letter", "a1", "aa", -1 },
};
START_TEST(natural_order)
{
    int got = text_compare_natural(natural_cases[_i].a, natural_cases[_i].b);
    int back = text_compare_natural(natural_cases[_i].b, natural_cases[_i].a);

    ck_assert_msg(got == natural_cases[_i].want, "%s: %d", natural_cases[_i].why, got);
    ck_assert_msg(back == -natural_cases[_i].want, "%s reversed: %d", natural_cases[_i].why, back);
}
END_TEST

START_TEST(width_counts_characters)
{
    ck_assert_uint_eq(text_width("abc"), 3);
    ck_assert_uint_eq(text_width("d\xc3\xbcr"), 3);
    ck_assert_uint_eq(text_width("\xff\xfe"), 2); /* bad bytes count one each */
    ck_assert_uint_eq(text_width("\xe2\x82"), 2); /* cut short */
    ck_assert_uint_eq(text_prefix("d\xc3\xbcr", 2), 3);
    ck_assert(text_printable("d\xc3\xbcr\t"));
    ck_assert(!text_printable("a\x1b[2J"));
    ck_assert(!text_printable("\xc0\xaf"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, duration_parses, 0, ARRAY_LEN(duration_cases));
    tcase_add_loop_test(t, bytes_parse, 0, ARRAY_LEN(byte_cases));
    tcase_add_loop_test(t, cpus_parse, 0, ARRAY_LEN(cpu_cases));
    tcase_add_loop_test(t, ratio_parses, 0, ARRAY_LEN(ratio_cases));
    tcase_add_loop_test(t, u64_parses, 0, ARRAY_LEN(u64_cases));
    tcase_add_test(t, i64_parses_signs_and_limits);
    tcase_add_loop_test(t, time_parses, 0, ARRAY_LEN(time_cases));
    tcase_add_loop_test(t, duration_formats, 0, ARRAY_LEN(duration_texts));
    tcase_add_loop_test(t, age_formats, 0, ARRAY_LEN(age_texts));
    tcase_add_test(t, sizes_and_fractions_format);
    tcase_add_test(t, time_formats);
    tcase_add_loop_test(t, natural_order, 0, ARRAY_LEN(natural_cases));
    tcase_add_test(t, width_counts_characters);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

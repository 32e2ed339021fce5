/* What people type and read: durations, sizes, CPU counts, ratios, ages and natural order, in the
 * notation of the docker CLI (Go's time.Duration, "512m", "0.5"). Parsing is strict, integer only
 * and never reads a clock or a locale. Any thread.
 *
 * Every parser takes the whole string or refuses it: -ERR_INVALID with e saying what is wrong with
 * the value (the caller adds the name of the flag or field). Outputs are written on success only.
 */
#ifndef SKEP_COMMON_TEXT_H
#define SKEP_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/mem.h"

#define TEXT_NS_PER_US INT64_C(1000)
#define TEXT_NS_PER_MS INT64_C(1000000)
#define TEXT_NS_PER_S INT64_C(1000000000)

enum {
    TEXT_SHORT_MAX = 48, /* holds every number, duration, size and age below */
    TEXT_TIME_MAX = 64,  /* holds a time */
};

/* Decimal digits only. */
int text_parse_u64(const char *text, uint64_t *ret_value, struct err *e) MUST_CHECK;
/* As text_parse_u64, with an optional sign. */
int text_parse_i64(const char *text, int64_t *ret_value, struct err *e) MUST_CHECK;
/* 1, t, true, 0, f, false in lower, title or upper case. */
int text_parse_bool(const char *text, bool *ret_value, struct err *e) MUST_CHECK;
/* Go's notation: "10s", "1m30s", "1.5h", "250ms", "0"; units ns us µs ms s m h, an optional sign.
 * Nanoseconds. */
int text_parse_duration(const char *text, int64_t *ret_ns, struct err *e) MUST_CHECK;
/* "512", "512b", "512m", "1g", "1GiB", "1.5GB": powers of 1024, as docker reads memory. */
int text_parse_bytes(const char *text, int64_t *ret_bytes, struct err *e) MUST_CHECK;
/* "0.5", "2", ".25" or "1/4"; not finer than a nano-CPU. */
int text_parse_cpus(const char *text, int64_t *ret_nano_cpus, struct err *e) MUST_CHECK;
/* "0" to "1" in parts per million. */
int text_parse_ratio(const char *text, uint32_t *ret_ppm, struct err *e) MUST_CHECK;
/* RFC 3339 ("2026-01-02T15:04:05.5Z", with offset, or shortened from the right down to the date,
 * then UTC) or seconds since 1970 with an optional fraction. Nanoseconds since 1970. */
int text_parse_time(const char *text, int64_t *ret_ns, struct err *e) MUST_CHECK;

/* As Go prints a duration: "1m30s", "2160h0m0s", "250ms", "0s". */
const char *text_format_duration(char mem[TEXT_SHORT_MAX], int64_t ns);
/* "512MiB", "1.5GiB": four digits, powers of 1024. */
const char *text_format_bytes(char mem[TEXT_SHORT_MAX], int64_t bytes);
/* Decimal without trailing zeros: 500000000 -> "0.5". */
const char *text_format_nano(char mem[TEXT_SHORT_MAX], int64_t nano);
/* Parts per million as a decimal fraction: 100000 -> "0.1". */
const char *text_format_ratio(char mem[TEXT_SHORT_MAX], uint32_t ppm);
/* An age as docker words it: "Less than a second", "5 minutes", "About an hour", "2 weeks". */
const char *text_format_age(char mem[TEXT_SHORT_MAX], int64_t ns);
/* RFC 3339 UTC with the fraction's trailing zeros cut; 0 gives "0001-01-01T00:00:00Z". */
const char *text_format_time(char mem[TEXT_TIME_MAX], int64_t ns);
/* "2026-01-02 15:04:05.5 +0000 utc", as in docker's pretty outputs. */
const char *text_format_time_utc(char mem[TEXT_TIME_MAX], int64_t ns);

/* Natural order: runs of digits compare as numbers, so that web2 comes before web10. Total: equal
 * only for equal strings. */
int text_compare_natural(const char *a, const char *b);
/* Characters of valid UTF-8, one per bad byte otherwise. */
size_t text_width(const char *s);
/* Bytes of the first width characters of s (at most strlen(s)). */
size_t text_prefix(const char *s, size_t width);
/* True when s consists of valid UTF-8 without control characters other than tab. */
bool text_printable(const char *s);

#endif

#include "common/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FRACTION_DIGITS_MAX = 18 };

/* A decimal as read: value = integer + fraction / scale. */
struct decimal {
    uint64_t integer;
    uint64_t fraction;
    uint64_t scale;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int text_parse_u64(const char *text, uint64_t *ret_value, struct err *e)
{
    uint64_t value = 0;

    if (text[0] == '\0')
        return err_set(e, ERR_INVALID, "a number is missing");
    for (const char *p = text; *p != '\0'; p++) {
        if (!is_digit(*p))
            return err_set(e, ERR_INVALID, "\"%.40s\" is not a non-negative whole number", text);
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return err_set(e, ERR_INVALID, "%.40s is out of range", text);
    }
    *ret_value = value;
    return 0;
}

int text_parse_i64(const char *text, int64_t *ret_value, struct err *e)
{
    bool negative = text[0] == '-';
    uint64_t value;

    if (text_parse_u64(text + (negative || text[0] == '+' ? 1 : 0), &value, NULL) < 0)
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a whole number", text);
    if (value > (uint64_t)INT64_MAX)
        return err_set(e, ERR_INVALID, "%.40s is out of range", text);
    *ret_value = negative ? -(int64_t)value : (int64_t)value;
    return 0;
}

int text_parse_bool(const char *text, bool *ret_value, struct err *e)
{
    static const char *const words[] = { "0", "f", "F",    "false", "False", "FALSE",
                                         "1", "t", "true", "True",  "TRUE",  "T" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(words[i], text) == 0) {
            *ret_value = i >= 6;
            return 0;
        }
    }
    return err_set(e, ERR_INVALID, "\"%.40s\" is neither true nor false", text);
}

/* Reads digits[.digits]; *p moves behind it. False when there is no digit or it overflows. Digits
 * of the fraction beyond FRACTION_DIGITS_MAX only count when they are zeros. */
static bool read_decimal(const char **p, struct decimal *ret)
{
    struct decimal d = { .scale = 1 };
    const char *s = *p;
    bool any = false;
    int digits = 0;

    for (; is_digit(*s); s++, any = true) {
        if (__builtin_mul_overflow(d.integer, 10, &d.integer) ||
            __builtin_add_overflow(d.integer, (uint64_t)(*s - '0'), &d.integer))
            return false;
    }
    if (*s == '.') {
        for (s++; is_digit(*s); s++, any = true) {
            if (digits == FRACTION_DIGITS_MAX) {
                if (*s != '0')
                    return false;
                continue;
            }
            d.fraction = d.fraction * 10 + (uint64_t)(*s - '0');
            d.scale *= 10;
            digits++;
        }
    }
    if (!any)
        return false;
    *p = s;
    *ret = d;
    return true;
}

/* d * unit, rounded down. False on overflow of int64. */
static bool decimal_scale(const struct decimal *d, int64_t unit, int64_t *ret)
{
    __int128 v = (__int128)d->integer * unit;

    v += (__int128)d->fraction * unit / (__int128)d->scale;
    if (v > INT64_MAX)
        return false;
    *ret = (int64_t)v;
    return true;
}

static const struct {
    const char *name;
    int64_t ns;
} duration_units[] = {
    { "ns", 1 },
    { "us", TEXT_NS_PER_US },
    { "\xc2\xb5s", TEXT_NS_PER_US },
    { "\xce\xbcs", TEXT_NS_PER_US },
    { "ms", TEXT_NS_PER_MS },
    { "s", TEXT_NS_PER_S },
    { "m", 60 * TEXT_NS_PER_S },
    { "h", 3600 * TEXT_NS_PER_S },
};

static int64_t duration_unit(const char **p)
{
    size_t length = strcspn(*p, "0123456789.");

    for (size_t i = 0; i < ARRAY_LEN(duration_units); i++) {
        if (strlen(duration_units[i].name) == length &&
            memcmp(duration_units[i].name, *p, length) == 0) {
            *p += length;
            return duration_units[i].ns;
        }
    }
    return 0;
}

int text_parse_duration(const char *text, int64_t *ret_ns, struct err *e)
{
    bool negative = text[0] == '-';
    const char *p = text + (negative || text[0] == '+' ? 1 : 0);
    int64_t total = 0;

    if (*p == '\0')
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a duration; write 10s, 1m30s or 500ms",
                       text);
    if (strcmp(p, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    while (*p != '\0') {
        struct decimal d;
        int64_t unit;
        int64_t part;

        if (!read_decimal(&p, &d))
            return err_set(e, ERR_INVALID, "\"%.40s\" is not a duration; write 10s, 1m30s or 500ms",
                           text);
        if (*p == '\0')
            return err_set(e, ERR_INVALID,
                           "missing unit in duration \"%.40s\"; use ns, us, ms, s, m or h", text);
        unit = duration_unit(&p);
        if (unit == 0)
            return err_set(e, ERR_INVALID,
                           "unknown unit in duration \"%.40s\"; use ns, us, ms, s, m or h", text);
        if (!decimal_scale(&d, unit, &part) || __builtin_add_overflow(total, part, &total))
            return err_set(e, ERR_INVALID, "duration %.40s is out of range", text);
    }
    *ret_ns = negative ? -total : total;
    return 0;
}

int text_parse_bytes(const char *text, int64_t *ret_bytes, struct err *e)
{
    static const char units[] = "bkmgtp";
    const char *p = text;
    const char *unit;
    struct decimal d;
    int64_t factor = 1;
    int64_t value;

    if (!read_decimal(&p, &d))
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a size; write 512m or 1GiB", text);
    while (*p == ' ')
        p++;
    if (*p != '\0') {
        unit = strchr(units, tolower((unsigned char)*p));
        if (unit == NULL)
            return err_set(e, ERR_INVALID, "invalid suffix: '%.40s'; use b, k, m, g, t or p", p);
        factor = INT64_C(1) << (10 * (unit - units));
        p++;
        if (tolower((unsigned char)*p) == 'i' && *unit != 'b')
            p++;
        if (tolower((unsigned char)*p) == 'b' && *unit != 'b')
            p++;
        else if (p[-1] == 'i' || p[-1] == 'I')
            p--;
        if (*p != '\0')
            return err_set(e, ERR_INVALID, "\"%.40s\" is not a size; write 512m or 1GiB", text);
    }
    if (!decimal_scale(&d, factor, &value))
        return err_set(e, ERR_INVALID, "size %.40s is out of range", text);
    *ret_bytes = value;
    return 0;
}

int text_parse_cpus(const char *text, int64_t *ret_nano_cpus, struct err *e)
{
    const char *p = text;
    struct decimal d;
    struct decimal divisor = { .integer = 1 };
    int64_t value;

    if (!read_decimal(&p, &d))
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a number of CPUs; write 0.5 or 2", text);
    if (*p == '/' && d.scale == 1) {
        p++;
        if (!read_decimal(&p, &divisor) || divisor.scale != 1 || divisor.integer == 0 ||
            divisor.integer > INT64_MAX)
            return err_set(e, ERR_INVALID, "\"%.40s\" is not a number of CPUs; write 0.5 or 2",
                           text);
    }
    if (*p != '\0')
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a number of CPUs; write 0.5 or 2", text);
    if (!decimal_scale(&d, TEXT_NS_PER_S, &value))
        return err_set(e, ERR_INVALID, "%.40s CPUs are out of range", text);
    if ((__int128)d.fraction * TEXT_NS_PER_S % (__int128)d.scale != 0 ||
        value % (int64_t)divisor.integer != 0)
        return err_set(e, ERR_INVALID, "%.40s is too precise; at most nine decimals", text);
    *ret_nano_cpus = value / (int64_t)divisor.integer;
    return 0;
}

int text_parse_ratio(const char *text, uint32_t *ret_ppm, struct err *e)
{
    const char *p = text;
    struct decimal d;
    int64_t value;

    if (!read_decimal(&p, &d) || *p != '\0')
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a ratio; write 0.25", text);
    if (!decimal_scale(&d, 1000000, &value) || value > 1000000)
        return err_set(e, ERR_INVALID, "ratio %.40s is not between 0 and 1", text);
    *ret_ppm = (uint32_t)value;
    return 0;
}

/* ---- calendar: civil dates from days since 1970, proleptic Gregorian (Howard Hinnant's method) --
 */

static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    unsigned yoe = (unsigned)(y - era * 400);
    unsigned doy = (153 * (month + (month > 2 ? -3u : 9u)) + 2) / 5 + day - 1;
    unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + (int64_t)doe - 719468;
}

static void civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;

    *ret_day = doy - (153 * mp + 2) / 5 + 1;
    *ret_month = mp < 10 ? mp + 3 : mp - 9;
    *ret_year = (int64_t)yoe + era * 400 + (*ret_month <= 2 ? 1 : 0);
}

/* Exactly count digits, at most max; false otherwise. */
static bool read_field(const char **p, int count, unsigned min, unsigned max, unsigned *ret)
{
    unsigned value = 0;

    for (int i = 0; i < count; i++) {
        if (!is_digit((*p)[i]))
            return false;
        value = value * 10 + (unsigned)((*p)[i] - '0');
    }
    if (value < min || value > max)
        return false;
    *p += count;
    *ret = value;
    return true;
}

/* [:SS[.fraction]] into ns; true also when absent. */
static bool read_seconds(const char **p, int64_t *ns)
{
    struct decimal d;
    int64_t part;
    unsigned second;

    if (**p != ':')
        return true;
    (*p)++;
    if (!read_field(p, 2, 0, 59, &second))
        return false;
    *ns += (int64_t)second * TEXT_NS_PER_S;
    if (**p != '.')
        return true;
    if (!read_decimal(p, &d) || !decimal_scale(&d, TEXT_NS_PER_S, &part))
        return false;
    *ns += part;
    return true;
}

/* Z, +HH:MM, -HH:MM or nothing (UTC): subtracted from *ns. */
static bool read_zone(const char **p, int64_t *ns)
{
    int64_t sign = **p == '-' ? -1 : 1;
    unsigned hours;
    unsigned minutes;

    if (**p == '\0')
        return true;
    if (**p == 'Z' || **p == 'z') {
        (*p)++;
        return true;
    }
    if (**p != '+' && **p != '-')
        return false;
    (*p)++;
    if (!read_field(p, 2, 0, 23, &hours) || **p != ':')
        return false;
    (*p)++;
    if (!read_field(p, 2, 0, 59, &minutes))
        return false;
    *ns -= sign * (int64_t)(hours * 60 + minutes) * 60 * TEXT_NS_PER_S;
    return true;
}

#define TIME_NS_MAX (9214560000 * TEXT_NS_PER_S) /* 2261-12-31 */

static bool parse_rfc3339(const char *text, int64_t *ret_ns)
{
    unsigned year, month, day, hour = 0, minute = 0;
    const char *p = text;
    int64_t ns = 0;

    /* int64 nanoseconds end in 2262 */
    if (!read_field(&p, 4, 1970, 2261, &year) || *p++ != '-' || !read_field(&p, 2, 1, 12, &month) ||
        *p++ != '-' || !read_field(&p, 2, 1, 31, &day))
        return false;
    if (*p == 'T' || *p == 't' || *p == ' ') {
        p++;
        if (!read_field(&p, 2, 0, 23, &hour))
            return false;
        if (*p == ':') {
            p++;
            if (!read_field(&p, 2, 0, 59, &minute) || !read_seconds(&p, &ns))
                return false;
        }
    }
    ns += (days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60) * TEXT_NS_PER_S;
    if (!read_zone(&p, &ns) || *p != '\0')
        return false;
    *ret_ns = ns;
    return true;
}

int text_parse_time(const char *text, int64_t *ret_ns, struct err *e)
{
    const char *p = text;
    struct decimal d;
    int64_t ns = 0;
    bool fine = parse_rfc3339(text, &ns) ||
                (read_decimal(&p, &d) && *p == '\0' && decimal_scale(&d, TEXT_NS_PER_S, &ns));

    /* What is accepted can be printed in any time zone and be accepted again. */
    if (fine && ns >= 0 && ns < TIME_NS_MAX) {
        *ret_ns = ns;
        return 0;
    }
    return err_set(e, ERR_INVALID,
                   "\"%.40s\" is not a time; write 2026-01-02T15:04:05Z, 10m or seconds since 1970",
                   text);
}

/* ---- formatting ---- */

/* value / 10^digits in decimal, with trailing zeros cut, then unit. digits <= FRACTION_DIGITS_MAX.
 */
static void format_fraction(char mem[TEXT_SHORT_MAX], uint64_t value, int digits, const char *unit)
{
    char fraction[FRACTION_DIGITS_MAX + 2] = ".";
    size_t length = (size_t)digits + 1;

    for (int i = digits; i > 0; i--) {
        fraction[i] = (char)('0' + value % 10);
        value /= 10;
    }
    while (length > 0 && (fraction[length - 1] == '0' || fraction[length - 1] == '.'))
        length--;
    (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRIu64 "%.*s%s", value, (int)length, fraction, unit);
}

const char *text_format_duration(char mem[TEXT_SHORT_MAX], int64_t ns)
{
    uint64_t u = ns < 0 ? (uint64_t)0 - (uint64_t)ns : (uint64_t)ns;
    uint64_t minutes = u / (60 * (uint64_t)TEXT_NS_PER_S);
    char seconds[TEXT_SHORT_MAX];
    const char *sign = ns < 0 ? "-" : "";

    if (u == 0)
        (void)snprintf(seconds, sizeof(seconds), "0s");
    else if (u < (uint64_t)TEXT_NS_PER_US)
        format_fraction(seconds, u, 0, "ns");
    else if (u < (uint64_t)TEXT_NS_PER_MS)
        format_fraction(seconds, u, 3, "\xc2\xb5s");
    else if (u < (uint64_t)TEXT_NS_PER_S)
        format_fraction(seconds, u, 6, "ms");
    else
        format_fraction(seconds, u % (60 * (uint64_t)TEXT_NS_PER_S), 9, "s");
    if (minutes >= 60)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%s%" PRIu64 "h%" PRIu64 "m%.16s", sign, minutes / 60,
                       minutes % 60, seconds);
    else if (minutes > 0)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%s%" PRIu64 "m%.16s", sign, minutes, seconds);
    else
        (void)snprintf(mem, TEXT_SHORT_MAX, "%s%.16s", sign, seconds);
    return mem;
}

const char *text_format_bytes(char mem[TEXT_SHORT_MAX], int64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t i = 0;

    while (value >= 1024.0 && i + 1 < ARRAY_LEN(units)) {
        value /= 1024.0;
        i++;
    }
    (void)snprintf(mem, TEXT_SHORT_MAX, "%.4g%s", value, units[i]);
    return mem;
}

const char *text_format_nano(char mem[TEXT_SHORT_MAX], int64_t nano)
{
    uint64_t u = nano < 0 ? (uint64_t)0 - (uint64_t)nano : (uint64_t)nano;
    char digits[TEXT_SHORT_MAX];

    format_fraction(digits, u, 9, "");
    (void)snprintf(mem, TEXT_SHORT_MAX, "%s%.40s", nano < 0 ? "-" : "", digits);
    return mem;
}

const char *text_format_ratio(char mem[TEXT_SHORT_MAX], uint32_t ppm)
{
    format_fraction(mem, ppm, 6, "");
    return mem;
}

/* The words and limits of docker's go-units HumanDuration. */
const char *text_format_age(char mem[TEXT_SHORT_MAX], int64_t ns)
{
    int64_t seconds = ns / TEXT_NS_PER_S;
    int64_t minutes = seconds / 60;
    int64_t hours = (seconds + 1800) / 3600;

    if (seconds < 1)
        (void)snprintf(mem, TEXT_SHORT_MAX, "Less than a second");
    else if (seconds == 1)
        (void)snprintf(mem, TEXT_SHORT_MAX, "1 second");
    else if (seconds < 60)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " seconds", seconds);
    else if (minutes == 1)
        (void)snprintf(mem, TEXT_SHORT_MAX, "About a minute");
    else if (minutes < 60)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " minutes", minutes);
    else if (hours == 1)
        (void)snprintf(mem, TEXT_SHORT_MAX, "About an hour");
    else if (hours < 48)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " hours", hours);
    else if (hours < 24 * 7 * 2)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " days", hours / 24);
    else if (hours < 24 * 30 * 2)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " weeks", hours / 24 / 7);
    else if (hours < 24 * 365 * 2)
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " months", hours / 24 / 30);
    else
        (void)snprintf(mem, TEXT_SHORT_MAX, "%" PRId64 " years", hours / 24 / 365);
    return mem;
}

struct civil {
    int64_t year;
    unsigned month, day;
    int64_t second_of_day;
    int64_t ns;
};

static struct civil civil_from_ns(int64_t ns)
{
    struct civil c;
    int64_t seconds = ns / TEXT_NS_PER_S - (ns % TEXT_NS_PER_S < 0 ? 1 : 0);
    int64_t days = seconds / 86400 - (seconds % 86400 < 0 ? 1 : 0);

    civil_from_days(days, &c.year, &c.month, &c.day);
    c.second_of_day = seconds - days * 86400;
    c.ns = ns - seconds * TEXT_NS_PER_S;
    return c;
}

static const char *format_time(char mem[TEXT_TIME_MAX], int64_t ns, char between, const char *zone)
{
    struct civil c = civil_from_ns(ns);
    char fraction[16];
    size_t length;

    (void)snprintf(fraction, sizeof(fraction), ".%09" PRId64, c.ns);
    length = strlen(fraction);
    while (length > 0 && (fraction[length - 1] == '0' || fraction[length - 1] == '.'))
        fraction[--length] = '\0';
    (void)snprintf(mem, TEXT_TIME_MAX, "%04d-%02u-%02u%c%02d:%02d:%02d%s%s", (int)c.year, c.month,
                   c.day, between, (int)(c.second_of_day / 3600), (int)(c.second_of_day / 60 % 60),
                   (int)(c.second_of_day % 60), fraction, zone);
    return mem;
}

const char *text_format_time(char mem[TEXT_TIME_MAX], int64_t ns)
{
    if (ns != 0)
        return format_time(mem, ns, 'T', "Z");
    (void)snprintf(mem, TEXT_TIME_MAX, "0001-01-01T00:00:00Z");
    return mem;
}

const char *text_format_time_utc(char mem[TEXT_TIME_MAX], int64_t ns)
{
    return format_time(mem, ns, ' ', " +0000 utc");
}

/* ---- order and width ---- */

static size_t digit_run(const char *s, size_t *ret_zeros)
{
    size_t zeros = strspn(s, "0");
    size_t digits = strspn(s + zeros, "0123456789");

    *ret_zeros = zeros;
    return digits;
}

int text_compare_natural(const char *a, const char *b)
{
    const char *x = a;
    const char *y = b;

    while (*x != '\0' && *y != '\0') {
        size_t zeros_x, zeros_y, digits_x, digits_y;
        int order;

        if (!is_digit(*x) || !is_digit(*y)) {
            if (*x != *y)
                return (unsigned char)*x < (unsigned char)*y ? -1 : 1;
            x++;
            y++;
            continue;
        }
        digits_x = digit_run(x, &zeros_x);
        digits_y = digit_run(y, &zeros_y);
        if (digits_x != digits_y)
            return digits_x < digits_y ? -1 : 1;
        order = memcmp(x + zeros_x, y + zeros_y, digits_x);
        if (order != 0)
            return order < 0 ? -1 : 1;
        x += zeros_x + digits_x;
        y += zeros_y + digits_y;
    }
    if (*x != *y)
        return *x == '\0' ? -1 : 1;
    return strcmp(a, b) < 0 ? -1 : strcmp(a, b) > 0; /* 01 and 1: any fixed order */
}

/* Bytes of the UTF-8 character at s, 0 when it is malformed (overlong, surrogate, cut). */
static size_t utf8_size(const unsigned char *s)
{
    size_t size = s[0] < 0x80                    ? 1
                  : s[0] >= 0xc2 && s[0] <= 0xdf ? 2
                  : (s[0] & 0xf0) == 0xe0        ? 3
                  : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                 : 0;

    for (size_t i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return size;
}

size_t text_prefix(const char *s, size_t width)
{
    size_t at = 0;

    for (size_t i = 0; i < width && s[at] != '\0'; i++) {
        size_t size = utf8_size((const unsigned char *)s + at);

        at += size > 0 ? size : 1;
    }
    return at;
}

size_t text_width(const char *s)
{
    size_t width = 0;

    while (*s != '\0') {
        s += text_prefix(s, 1);
        width++;
    }
    return width;
}

bool text_printable(const char *s)
{
    while (*s != '\0') {
        size_t size = utf8_size((const unsigned char *)s);

        if (size == 0 || ((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
            return false;
        s += size;
    }
    return true;
}

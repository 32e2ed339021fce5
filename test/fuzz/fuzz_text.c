/* Notations that people type (common/text): nothing crashes, and what is accepted and printed again
 * is accepted with the same meaning. */
#include <string.h>

#include "common/assert.h"
#include "common/text.h"

enum { TEXT_INPUT_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const char *text)
{
    char mem[TEXT_SHORT_MAX], time_mem[TEXT_TIME_MAX];
    struct err e;
    int64_t value, again;
    uint32_t ppm, ppm_again;

    if (text_parse_duration(text, &value, &e) == 0) {
        ASSERT(text_parse_duration(text_format_duration(mem, value), &again, &e) == 0);
        ASSERT(again == value);
    }
    if (text_parse_cpus(text, &value, &e) == 0) {
        ASSERT(text_parse_cpus(text_format_nano(mem, value), &again, &e) == 0);
        ASSERT(again == value);
    }
    if (text_parse_ratio(text, &ppm, &e) == 0) {
        ASSERT(text_parse_ratio(text_format_ratio(mem, ppm), &ppm_again, &e) == 0);
        ASSERT(ppm_again == ppm);
    }
    if (text_parse_bytes(text, &value, &e) == 0)
        ASSERT(strlen(text_format_bytes(mem, value)) < TEXT_SHORT_MAX);
    if (text_parse_time(text, &value, &e) == 0) {
        if (value != 0) { /* 0 means "never" and is printed as the year 1 */
            ASSERT(text_parse_time(text_format_time(time_mem, value), &again, &e) == 0);
            ASSERT(again == value);
        }
        ASSERT(strlen(text_format_time_utc(time_mem, value)) < TEXT_TIME_MAX);
        ASSERT(strlen(text_format_age(mem, value)) < TEXT_SHORT_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_INPUT_MAX + 1];
    const char *other;

    if (size > TEXT_INPUT_MAX)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    round_trip(text);
    ASSERT(text_prefix(text, text_width(text)) == strlen(text));
    (void)text_printable(text);
    other = text + strlen(text) / 2;
    ASSERT((text_compare_natural(text, other) == 0) == (strcmp(text, other) == 0));
    ASSERT((text_compare_natural(text, other) < 0) == (text_compare_natural(other, text) > 0));
    return 0;
}

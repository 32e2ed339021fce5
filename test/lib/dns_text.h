/* DNS messages for tests: queries from a name and a type, answers as text. Reads messages by
 * itself, not with the code under test. */
#ifndef SKEP_TEST_LIB_DNS_TEXT_H
#define SKEP_TEST_LIB_DNS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DNS_TEXT_QUERY_MAX = 512, DNS_TEXT_MAX = 8192 };

struct dns_text_query {
    const char *name; /* "web.front", "" = the root */
    uint16_t type;    /* 0 = A */
    uint16_t id;      /* 0 = 0x1234 */
    uint16_t edns;    /* the size to announce; 0 = without */
    bool no_recursion;
};

/* Returns the size; mem has DNS_TEXT_QUERY_MAX bytes. */
size_t dns_text_query(uint8_t *mem, const struct dns_text_query *q);
/* "NOERROR aa tc A 5 10.0.1.2, PTR 1 web.front" in order; "broken: …" when it is not well-formed.
 * Checks the id 0x1234 when id is 0. Valid until the next call. */
const char *dns_text_answer(const uint8_t *message, size_t size, uint16_t id);

#endif

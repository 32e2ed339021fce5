#include "common/rpc.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/ca.pb-c.h"

static int decode(const void *bytes, size_t size, const ProtobufCMessageDescriptor *type,
                  struct err *e)
{
    ProtobufCBinaryData data = { .len = size, .data = (uint8_t *)bytes };
    ProtobufCMessage *message = NULL;
    int rc = rpc_decode(&data, type, &message, e);

    ck_assert_int_eq(rc == 0, message != NULL);
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
    return rc;
}

#define BYTES(text) text, sizeof(text) - 1

/* proto/rpc.proto Request: 1 method, 2 deadline_ms, 3 cluster_id, 4 on_behalf_of, 5 request_id. */
static const struct decode_case {
    const char *why;
    const char *bytes;
    size_t size;
    const char *want; /* in the message; NULL = decodes */
} decode_cases[] = {
    { "nothing: all defaults", BYTES(""), NULL },
    { "one field", BYTES("\x08\x04"), NULL },
    { "a field of a later version", BYTES("\xa0\x06\x01\xaa\x06\x02xy"), NULL },
    { "UTF-8 of every length",
      BYTES("\x1a\x0a"
            "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
      NULL },
    { "N27 unknown enum value", BYTES("\x08\xe7\x07"), "method: unknown value" },
    { "N27 negative enum value", BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
      "method: unknown value" },
    { "N25 varint of 11 bytes", BYTES("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
      "deadline_ms: not a number" },
    { "N25 varint beyond 64 bits", BYTES("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
      "deadline_ms: not a number" },
    { "N25 tag 0", BYTES("\x00\x00"), "malformed" },
    { "N25 tag beyond 29 bits", BYTES("\x80\x80\x80\x80\x80\x01\x00"), "malformed" },
    { "N25 wire type 6", BYTES("\x0e\x00"), "of another type" },
    { "N25 wire type 7 of an unknown field", BYTES("\xa7\x06\x00"), "malformed" },
    { "group", BYTES("\xa3\x06\xa4\x06"), "malformed" },
    { "bytes where a number belongs", BYTES("\x0a\x00"), "method: of another type" },
    { "number where bytes belong", BYTES("\x28\x00"), "request_id: of another type" },
    { "length beyond the end", BYTES("\x2a\x05xy"), "request_id: cut short" },
    { "length of 2^64 - 1", BYTES("\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
      "request_id: cut short" },
    { "N29 invalid UTF-8", BYTES("\x1a\x02\xc3\x28"), "cluster_id: not UTF-8 text" },
    { "N29 overlong NUL", BYTES("\x1a\x02\xc0\x80"), "not UTF-8 text" },
    { "N29 overlong slash", BYTES("\x1a\x03\xe0\x80\xaf"), "not UTF-8 text" },
    { "N29 surrogate", BYTES("\x1a\x03\xed\xa0\x80"), "not UTF-8 text" },
    { "N29 above U+10FFFF", BYTES("\x1a\x04\xf4\x90\x80\x80"), "not UTF-8 text" },
    { "N29 cut in a character", BYTES("\x1a\x02\xe2\x82"), "not UTF-8 text" },
    { "N29 embedded NUL",
      BYTES("\x1a\x03"
            "a\x00z"),
      "not UTF-8 text" },
    { "N30 singular field twice", BYTES("\x10\x01\x10\x02"), "deadline_ms: given twice" },
    { "N30 singular message twice", BYTES("\x22\x00\x22\x00"), "on_behalf_of: given twice" },
    { "error in a nested message", BYTES("\x22\x02\x0a\x05"), "Caller.node_id: cut short" },
    { "nested text", BYTES("\x22\x03\x0a\x01\x80"), "Caller.node_id: not UTF-8 text" },
};

START_TEST(decodes_strictly)
{
    const struct decode_case *c = &decode_cases[_i];
    struct err e = { 0 };
    int rc = decode(c->bytes, c->size, &skep__request__descriptor, &e);

    if (c->want == NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
    } else {
        ck_assert_msg(rc == -ERR_PROTO, "%s: %d", c->why, rc);
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    }
}
END_TEST

/* N24: a valid message cut anywhere decodes only where a field ends. */
START_TEST(truncation_is_found_everywhere)
{
    Skep__Request req = SKEP__REQUEST__INIT;
    Skep__Caller caller = SKEP__CALLER__INIT;
    uint8_t bytes[256], id[16] = { 0 };
    int whole = 0;

    req.method = SKEP__METHOD__METHOD_WATCH;
    req.deadline_ms = 30000;
    req.cluster_id = (char *)"cluster";
    caller.node_id = (char *)"node";
    caller.manager = true;
    req.on_behalf_of = &caller;
    req.request_id = (ProtobufCBinaryData){ .len = sizeof(id), .data = id };
    size_t size = skep__request__pack(&req, bytes);
    ck_assert_uint_lt(size, sizeof(bytes));
    for (size_t i = 0; i < size; i++)
        whole += decode(bytes, i, &skep__request__descriptor, NULL) == 0;
    ck_assert_int_eq(whole, 5); /* before each of the five fields */
    ck_assert_int_eq(decode(bytes, size, &skep__request__descriptor, NULL), 0);
}
END_TEST

/* N26: two bytes each become a message of many; the budget ends it. */
START_TEST(amplification_is_refused)
{
    size_t size = RPC_MESSAGE_BYTES_MAX;
    uint8_t *bytes = xmalloc(size + 1);
    struct err e = { 0 };

    for (size_t i = 0; i < size; i += 2) {
        bytes[i] = 0x2a; /* EnrolResponse.managers */
        bytes[i + 1] = 0;
    }
    ck_assert_int_eq(decode(bytes, size, &skep__enrol_response__descriptor, &e), -ERR_PROTO);
    ck_assert_msg(strstr(e.message, "too much") != NULL, "%s", e.message);
    ck_assert_int_eq(decode(bytes, 2000, &skep__enrol_response__descriptor, &e), 0);
    ck_assert_int_eq(decode(bytes, size + 1, &skep__enrol_response__descriptor, &e), -ERR_TOO_BIG);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rpc_codec");
    TCase *tc = tcase_create("all");

    tcase_add_loop_test(tc, decodes_strictly, 0, ARRAY_LEN(decode_cases));
    tcase_add_test(tc, truncation_is_found_everywhere);
    tcase_add_test(tc, amplification_is_refused);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Keys of encrypted networks: X25519 as others compute it, and that nothing shares a key. */
#include "agentd/net/encrypt_keys.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void from_hex(const char *hex, uint8_t *ret, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned byte;

        ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
        ret[i] = (uint8_t)byte;
    }
}

/* By openssl pkey -pubout; the first is RFC 7748's clamping at work, too. */
static const char *const pairs[][2] = {
    { "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
      "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c" },
    { "77076d0a7318a57d3c16c17251b26645df4c2f92ebc099fb0c1d2e3f40516273",
      "e67a0cf742152f698c93f9c1af7526bfd15b02dd9a924db84242996a7a22a763" },
};

START_TEST(x25519_is_what_others_compute)
{
    uint8_t d[32], want[32], got[32];
    struct err e = { 0 };

    from_hex(pairs[_i][0], d, 32);
    from_hex(pairs[_i][1], want, 32);
    ck_assert_int_eq(encrypt_x25519_public(d, got, &e), 0);
    ck_assert_mem_eq(got, want, 32);
}
END_TEST

static struct encrypt_secret secret_of(const char *network, uint32_t epoch, uint8_t fill)
{
    struct encrypt_secret s = { .network_id = network, .epoch = epoch };

    memset(s.key, fill, sizeof(s.key));
    return s;
}

/* Every node computes the same; another node, network, epoch or secret gives another key. */
START_TEST(wireguard_keys_differ_where_anything_differs)
{
    const struct encrypt_secret secrets[] = { secret_of("net1", 1, 7), secret_of("net2", 1, 7),
                                              secret_of("net1", 2, 7), secret_of("net1", 1, 8) };
    struct encrypt_pair first, again, other;
    struct err e = { 0 };

    ck_assert_int_eq(encrypt_wireguard_pair(&secrets[0], "node1", &first, &e), 0);
    ck_assert_int_eq(encrypt_wireguard_pair(&secrets[0], "node1", &again, &e), 0);
    ck_assert_mem_eq(&first, &again, sizeof(first));
    for (size_t i = 0; i < ARRAY_LEN(secrets); i++) {
        const char *node = i == 0 ? "node2" : "node1";

        ck_assert_int_eq(encrypt_wireguard_pair(&secrets[i], node, &other, &e), 0);
        ck_assert_mem_ne(first.private_key, other.private_key, 32);
        ck_assert_mem_ne(first.public_key, other.public_key, 32);
    }
}
END_TEST

/* Also: another one when either side's state began anew. */
START_TEST(esp_has_a_key_per_direction)
{
    struct encrypt_secret s = secret_of("net1", 1, 7);
    struct encrypt_end a = { .instance = "x1" }, b = { .instance = "y1" };
    struct encrypt_end a2 = { .instance = "x2" };
    struct encrypt_esp there, back, again;
    struct err e = { 0 };

    ck_assert_int_eq(ip_parse("10.77.0.11", &a.vtep, &e), 0);
    ck_assert_int_eq(ip_parse("10.77.0.12", &b.vtep, &e), 0);
    a2.vtep = a.vtep;
    ck_assert_int_eq(encrypt_esp_key(&s, &a, &b, &there, &e), 0);
    ck_assert_int_eq(encrypt_esp_key(&s, &b, &a, &back, &e), 0);
    ck_assert_int_eq(encrypt_esp_key(&s, &a, &b, &again, &e), 0);
    ck_assert_mem_eq(there.key, again.key, sizeof(there.key));
    ck_assert_uint_eq(there.spi, again.spi);
    ck_assert_uint_ge(there.spi, ENCRYPT_SPI_MIN);
    ck_assert_uint_ne(there.spi, back.spi);
    ck_assert_mem_ne(there.key, back.key, sizeof(there.key));
    ck_assert_int_eq(encrypt_esp_key(&s, &a2, &b, &again, &e), 0);
    ck_assert_mem_ne(there.key, again.key, sizeof(there.key));
    ck_assert_int_eq(encrypt_esp_key(&s, &b, &a2, &again, &e), 0);
    ck_assert_mem_ne(back.key, again.key, sizeof(there.key));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("encrypt_keys");
    TCase *tc = tcase_create("keys");
    SRunner *sr = srunner_create(s);

    tcase_add_loop_test(tc, x25519_is_what_others_compute, 0, (int)ARRAY_LEN(pairs));
    tcase_add_test(tc, wireguard_keys_differ_where_anything_differs);
    tcase_add_test(tc, esp_has_a_key_per_direction);
    suite_add_tcase(s, tc);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);

    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

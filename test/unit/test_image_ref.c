#include "managerd/control/image_ref.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SHA "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct ref_case {
    const char *why;
    const char *text;
    const char *want; /* NULL: valid; else part of the message */
} ref_cases[] = {
    { "plain name", "nginx", NULL },
    { "tag", "nginx:1.25-alpine", NULL },
    { "tag with capitals", "nginx:RC1", NULL },
    { "user and name", "library/nginx", NULL },
    { "deep path", "a/b/c/d:x", NULL },
    { "registry host", "registry.example.com/team/app:1", NULL },
    { "registry with port", "10.77.0.1:5000/app", NULL },
    { "localhost", "localhost/app", NULL },
    { "ipv6 registry", "[fd00::1]:5000/app:2", NULL },
    { "digest", "nginx@" SHA, NULL },
    { "tag and digest", "nginx:1@" SHA, NULL },
    { "separators", "my_app__x---y.z", NULL },
    { "domain with capitals", "Registry.Example/app", NULL },
    { "empty", "", "empty" },
    { "uppercase", "Nginx", "must be lowercase" },
    { "uppercase path", "example.com/Team/app", "must be lowercase" },
    { "shell characters", "nginx;rm -rf", "lowercase letters and digits" },
    { "command substitution", "$(id)", "lowercase letters and digits" },
    { "space", "nginx latest", "lowercase letters and digits" },
    { "newline", "nginx\n", "lowercase letters and digits" },
    { "three underscores", "a___b", "lowercase letters and digits" },
    { "leading dash", "-app", "lowercase letters and digits" },
    { "trailing dot", "app.", "lowercase letters and digits" },
    { "empty component", "a//b", "lowercase letters and digits" },
    { "trailing slash", "a/", "lowercase letters and digits" },
    { "parent directory", "../etc", "no registry host" },
    { "empty tag", "nginx:", "the tag" },
    { "bad tag", "nginx:-x", "the tag" },
    { "bad registry", "exa_mple.com/app", "no registry host" },
    { "port is no number", "host:http/app", "no registry host" },
    { "unclosed ipv6", "[fd00::1/app", "no registry host" },
    { "short digest", "nginx@sha256:0123", "the digest" },
    { "digest without algorithm", "nginx@0123", "the digest" },
    { "sha256 of 32 digits", "nginx@sha256:0123456789abcdef0123456789abcdef", "64 hex digits" },
    { "image id", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "image id" },
};

START_TEST(references_follow_the_grammar)
{
    const struct ref_case *c = &ref_cases[_i];
    struct err e = { 0 };
    int rc = image_ref_check(c->text, &e);

    if (c->want == NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
    } else {
        ck_assert_msg(rc == -ERR_INVALID, "%s: rc %d", c->why, rc);
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    }
}
END_TEST

/* N77: 4 KB of reference is refused before it is looked at. */
START_TEST(long_references_are_refused)
{
    static char text[4097];
    struct err e = { 0 };

    memset(text, 'a', sizeof(text) - 1);
    ck_assert_int_eq(image_ref_check(text, &e), -ERR_TOO_BIG);
    text[300] = '\0';
    ck_assert_int_eq(image_ref_check(text, &e), -ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.message, "longer than 255"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("image_ref");
    TCase *tc = tcase_create("image_ref");

    tcase_add_loop_test(tc, references_follow_the_grammar, 0,
                        (int)(sizeof(ref_cases) / sizeof(ref_cases[0])));
    tcase_add_test(tc, long_references_are_refused);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#include "agentd/worker/image.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct image_case {
    const char *why, *text;
    const char *repo, *tag, *full; /* repo NULL: refused */
    bool by_digest, is_id;
} cases[] = {
    { "a name", "busybox", "busybox", "latest", "busybox:latest", false, false },
    { "a tag", "busybox:1.36", "busybox", "1.36", "busybox:1.36", false, false },
    { "a path", "library/busybox", "library/busybox", "latest", "library/busybox:latest", false,
      false },
    { "a port is no tag", "h:5000/a/b", "h:5000/a/b", "latest", "h:5000/a/b:latest", false, false },
    { "a port and a tag", "h:5000/a:2", "h:5000/a", "2", "h:5000/a:2", false, false },
    { "an IPv6 host", "[::1]:5000/a:2", "[::1]:5000/a", "2", "[::1]:5000/a:2", false, false },
    { "a digest", "a@sha256:" HEX64, "a", "sha256:" HEX64, "a@sha256:" HEX64, true, false },
    { "tag and digest: the digest counts", "a:1@sha256:" HEX64, "a", "sha256:" HEX64,
      "a:1@sha256:" HEX64, true, false },
    { "an image id", "sha256:" HEX64, "sha256:" HEX64, "", "sha256:" HEX64, true, true },
    { "a bare image id", HEX64, HEX64, "", HEX64, true, true },
    { "nothing", "", NULL, NULL, NULL, false, false },
    { "an empty tag", "a:", NULL, NULL, NULL, false, false },
    { "an empty name", ":1", NULL, NULL, NULL, false, false },
    { "an empty digest", "a@", NULL, NULL, NULL, false, false },
    { "a digest without algorithm", "a@" HEX64, NULL, NULL, NULL, false, false },
    { "a space", "a b", NULL, NULL, NULL, false, false },
    { "a query", "a?tag=b", NULL, NULL, NULL, false, false },
    { "a fragment in the tag", "a:b#c", NULL, NULL, NULL, false, false },
    { "a bad tag before a digest", "a:b c@sha256:" HEX64, NULL, NULL, NULL, false, false },
};

START_TEST(image_references)
{
    const struct image_case *c = &cases[_i];
    char full[IMAGE_REPO_BYTES_MAX + IMAGE_TAG_BYTES_MAX];
    struct image_ref r;
    struct err e;
    int rc = image_ref_parse(c->text, &r, &e);

    ck_assert_msg((rc == 0) == (c->repo != NULL), "%s: rc %d", c->why, rc);
    if (c->repo == NULL)
        return;
    image_ref_full(c->text, &r, full, sizeof(full));
    ck_assert_msg(strcmp(r.repo, c->repo) == 0, "%s: %s", c->why, r.repo);
    ck_assert_msg(strcmp(r.tag, c->tag) == 0, "%s: %s", c->why, r.tag);
    ck_assert_msg(strcmp(full, c->full) == 0, "%s: %s", c->why, full);
    ck_assert_msg(r.by_digest == c->by_digest && r.is_id == c->is_id, "%s", c->why);
}
END_TEST

START_TEST(image_references_have_limits)
{
    char text[IMAGE_REPO_BYTES_MAX + 1];
    struct image_ref r;
    struct err e;

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    ck_assert_int_eq(image_ref_parse(text, &r, &e), -ERR_INVALID);
    text[sizeof(text) - 2] = '\0';
    ck_assert_int_eq(image_ref_parse(text, &r, &e), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent image");
    TCase *tc = tcase_create("image");
    SRunner *sr;
    int failed;

    tcase_add_loop_test(tc, image_references, 0, (int)ARRAY_LEN(cases));
    tcase_add_test(tc, image_references_have_limits);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "test/sim/scenario.h"

/* Runs every script of test/data/raft and compares what happens with what the script says.
 * REWRITE=1 in the environment writes what happens into the script: review the difference. */
#define FOLDER "test/data/raft"

enum { SCRIPTS_MAX = 100, SCRIPT_BYTES_MAX = 1 << 20 };

static struct dirent **names;
static int name_count;

static int is_script(const struct dirent *d)
{
    size_t size = strlen(d->d_name);

    return size > 4 && strcmp(d->d_name + size - 4, ".txt") == 0;
}

static void first_difference(const char *path, const char *want, const char *got)
{
    int line = 1;

    while (*want != '\0' && *want == *got) {
        line += *want == '\n';
        want++;
        got++;
    }
    ck_abort_msg("%s:%d: expected '...%.*s', got '...%.*s'", path, line, (int)strcspn(want, "\n"),
                 want, (int)strcspn(got, "\n"), got);
}

START_TEST(script)
{
    CLEANUP_BUF struct buf want = BUF_INIT(SCRIPT_BYTES_MAX);
    CLEANUP_BUF struct buf got = BUF_INIT(SCRIPT_BYTES_MAX);
    CLEANUP_FREE char *path = xasprintf(FOLDER "/%s", names[_i]->d_name);
    struct err e = { 0 };

    ck_assert_msg(buf_read_file(&want, path, &e) == 0, "%s", e.message);
    ck_assert_msg(scenario_run(buf_str(&want), &got, &e) == 0, "%s: %s", path, e.message);
    if (strcmp(buf_str(&want), buf_str(&got)) == 0)
        return;
    if (getenv("REWRITE") != NULL) {
        CLEANUP_FILE FILE *file = fopen(path, "w");

        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(got.data, 1, got.size, file), got.size);
        return;
    }
    first_difference(path, buf_str(&want), buf_str(&got));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_scenario");
    TCase *tc = tcase_create("scenario");
    SRunner *runner;
    int failed;

    name_count = scandir(FOLDER, &names, is_script, alphasort);
    if (name_count <= 0 || name_count > SCRIPTS_MAX) {
        fprintf(stderr, FOLDER ": no scripts; run from the top of the tree\n");
        return EXIT_FAILURE;
    }
    tcase_add_loop_test(tc, script, 0, name_count);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    for (int i = 0; i < name_count; i++)
        free(names[i]);
    free(names);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

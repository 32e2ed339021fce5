/* The orchestrators' stories: test/data/orchestrator/, one file per story and per source file's
 * rules. REWRITE=1 writes what happened into the files, for review as a diff. */
#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "test/lib/orchestrator_script.h"

#define FOLDER "test/data/orchestrator"
enum { FILES_MAX = 256, FILE_BYTES_MAX = 1 << 20 };

static char *files[FILES_MAX];
static int file_count;

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void find_files(void)
{
    DIR *dir = opendir(FOLDER);
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL && file_count < FILES_MAX) {
        size_t size = strlen(entry->d_name);

        if (size > 4 && strcmp(entry->d_name + size - 4, ".txt") == 0)
            files[file_count++] = xasprintf("%s/%s", FOLDER, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    qsort(files, (size_t)file_count, sizeof(files[0]), compare);
}

/* The first line that differs, for the message. */
static int first_difference(const char *a, const char *b, char line[256])
{
    int number = 1;
    const char *start = b;

    for (; *a == *b && *a != '\0'; a++, b++) {
        if (*b == '\n') {
            number++;
            start = b + 1;
        }
    }
    (void)snprintf(line, 256, "%.*s", (int)strcspn(start, "\n"), start);
    return number;
}

static void rewrite(const char *path, const struct buf *out)
{
    CLEANUP_FILE FILE *f = fopen(path, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(out->data, 1, out->size, f), out->size);
}

START_TEST(stories_go_as_written)
{
    CLEANUP_BUF struct buf file = BUF_INIT(FILE_BYTES_MAX), out = BUF_INIT(FILE_BYTES_MAX);
    struct err e = { 0 };
    char line[256];

    ck_assert_msg(orchestrator_script_run(files[_i], &file, &out, &e) == 0, "%s", e.message);
    if (getenv("REWRITE") != NULL)
        rewrite(files[_i], &out);
    else if (strcmp(buf_str(&file), buf_str(&out)) != 0) {
        int number = first_difference(buf_str(&file), buf_str(&out), line);

        ck_abort_msg("%s:%d: happened: %s", files[_i], number, line);
    }
}
END_TEST

START_TEST(there_are_stories)
{
    ck_assert_int_gt(file_count, 0); /* run from the top of the tree */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("orchestrator");
    TCase *tc = tcase_create("orchestrator");

    find_files();
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, there_are_stories);
    tcase_add_loop_test(tc, stories_go_as_written, 0, file_count);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    for (int i = 0; i < file_count; i++)
        free(files[i]);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* common/flags: one table behind parsing, configuration files, help and man pages. */
#include "common/flags.h"

#include <check.h>
#include <string.h>

static const struct flag parent_table[] = {
    { "host", 'H', FLAG_STRING, NULL, "unix:///run/x", "Where to connect", NULL, false },
    { "debug", 0, FLAG_BOOL, NULL, NULL, "Talk more", NULL, false },
    { 0 },
};

static const struct flag table[] = {
    { "name", 0, FLAG_STRING, NULL, NULL, "Service name", NULL, false },
    { "env", 'e', FLAG_LIST, NULL, NULL, "Set environment variables", NULL, false },
    { "detach", 'd', FLAG_BOOL, NULL, NULL, "Exit immediately", NULL, false },
    { "quiet", 'q', FLAG_BOOL, NULL, NULL, "Say less", NULL, false },
    { "replicas", 0, FLAG_U64, NULL, "1", "Number of tasks", NULL, false },
    { "history", 0, FLAG_I64, NULL, "5", "Tasks kept", NULL, false },
    { "delay", 0, FLAG_DURATION, NULL, "0s", "Delay between updates", NULL, false },
    { "limit-memory", 0, FLAG_BYTES, NULL, NULL, "Limit Memory", NULL, false },
    { "limit-cpu", 0, FLAG_CPUS, NULL, NULL, "Limit CPUs", NULL, false },
    { "ratio", 0, FLAG_RATIO, NULL, NULL, "Failure rate to tolerate", NULL, false },
    { "secret-door", 0, FLAG_BOOL, NULL, NULL, "Not shown", NULL, true },
    { 0 },
};

enum { ARGS_MAX = 8 };

static int parse(struct flags *f, const char *const args[], enum flags_order order, struct err *e)
{
    int count = 0;

    while (count < ARGS_MAX && args[count] != NULL)
        count++;
    return flags_parse(f, count, (char *const *)(uintptr_t)args, order, e);
}

static const struct bad_case {
    const char *why;
    const char *args[ARGS_MAX];
    const char *want;
} bad_cases[] = {
    { "unknown long", { "--foo" }, "unknown flag: --foo" },
    { "unknown long with value", { "--foo=1" }, "unknown flag: --foo" },
    { "a prefix is not enough", { "--repl", "3" }, "unknown flag: --repl" },
    { "unknown letter", { "-x" }, "unknown shorthand flag: 'x' in -x" },
    { "unknown letter in a group", { "-dx" }, "unknown shorthand flag: 'x' in -dx" },
    { "three dashes", { "---name" }, "bad flag syntax: ---name" },
    { "no name", { "--=x" }, "bad flag syntax: --=x" },
    { "missing value", { "--name" }, "flag needs an argument: --name" },
    { "missing value of a letter", { "-e" }, "flag needs an argument: 'e' in -e" },
    { "negative replicas",
      { "--replicas", "-1" },
      "invalid argument \"-1\" for \"--replicas\" flag: \"-1\" is not a non-negative whole "
      "number" },
    { "letter and long in the message",
      { "-d=maybe" },
      "invalid argument \"maybe\" for \"-d, --detach\" flag: \"maybe\" is neither true nor false" },
    { "duration without unit",
      { "--delay", "10" },
      "invalid argument \"10\" for \"--delay\" flag: missing unit in duration \"10\"; use ns, us, "
      "ms, s, m or h" },
};
START_TEST(bad_options_are_named)
{
    const struct bad_case *c = &bad_cases[_i];
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };

    ck_assert_msg(parse(f, c->args, FLAGS_MIXED, &e) == -ERR_INVALID, "%s", c->why);
    ck_assert_msg(strcmp(e.message, c->want) == 0, "%s: %s", c->why, e.message);
    flags_free(f);
}
END_TEST

START_TEST(every_kind_is_read)
{
    const char *args[] = { "--name=web", "-ea=1",      "--env", "b=2 c",
                           "-dq",        "--delay=1m", "web:1", NULL };
    const char *more[] = { "--limit-memory", "512m", "--limit-cpu",  "0.5",
                           "--ratio",        "0.1",  "--history=-1", NULL };
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };

    ck_assert_msg(parse(f, args, FLAGS_MIXED, &e) == 0, "%s", e.message);
    ck_assert_msg(parse(f, more, FLAGS_MIXED, &e) == 0, "%s", e.message);
    ck_assert_str_eq(flags_string(f, "name"), "web");
    ck_assert_uint_eq(flags_list_count(f, "env"), 2);
    ck_assert_str_eq(flags_list_at(f, "env", 0), "a=1");
    ck_assert_str_eq(flags_list_at(f, "env", 1), "b=2 c");
    ck_assert(flags_bool(f, "detach") && flags_bool(f, "quiet"));
    ck_assert_int_eq(flags_duration(f, "delay"), 60000000000);
    ck_assert_int_eq(flags_bytes(f, "limit-memory"), 512 << 20);
    ck_assert_int_eq(flags_cpus(f, "limit-cpu"), 500000000);
    ck_assert_uint_eq(flags_ratio(f, "ratio"), 100000);
    ck_assert_int_eq(flags_i64(f, "history"), -1);
    ck_assert_uint_eq(flags_u64(f, "replicas"), 1); /* default */
    ck_assert(!flags_given(f, "replicas"));
    ck_assert(flags_given(f, "history"));
    ck_assert_int_eq(flags_arg_count(f), 1);
    ck_assert_str_eq(flags_arg(f, 0), "web:1");
    flags_free(f);
}
END_TEST

static const struct order_case {
    const char *why;
    const char *args[ARGS_MAX];
    enum flags_order order;
    int want_args;
    bool want_detach;
} order_cases[] = {
    { "options after arguments", { "a", "-d" }, FLAGS_MIXED, 1, true },
    { "the command's own options stay", { "img", "sh", "-d" }, FLAGS_ARGS_LAST, 3, false },
    { "options before the image", { "-d", "img", "-d" }, FLAGS_ARGS_LAST, 2, true },
    { "-- ends options", { "--", "-d" }, FLAGS_MIXED, 1, false },
    { "a single dash is an argument", { "-", "-d" }, FLAGS_MIXED, 1, true },
    { "off again", { "-d", "--detach=false" }, FLAGS_MIXED, 0, false },
    { "an empty argument is one", { "" }, FLAGS_MIXED, 1, false },
};
START_TEST(order_of_arguments)
{
    const struct order_case *c = &order_cases[_i];
    struct flags *f = flags_new(table, NULL);

    ck_assert_msg(parse(f, c->args, c->order, NULL) == 0, "%s", c->why);
    ck_assert_msg(flags_arg_count(f) == c->want_args, "%s: %d", c->why, flags_arg_count(f));
    ck_assert_msg(flags_bool(f, "detach") == c->want_detach, "%s", c->why);
    flags_free(f);
}
END_TEST

START_TEST(parent_flags_are_reachable)
{
    const char *args[] = { "-H", "h:1", "--debug", "x", NULL };
    struct flags *parent = flags_new(parent_table, NULL);
    struct flags *f = flags_new(table, parent);

    ck_assert_int_eq(parse(f, args, FLAGS_MIXED, NULL), 0);
    ck_assert_str_eq(flags_string(f, "host"), "h:1");
    ck_assert_str_eq(flags_string(parent, "host"), "h:1");
    ck_assert(flags_bool(parent, "debug"));
    ck_assert(flags_exists(f, "debug"));
    ck_assert(!flags_exists(parent, "name"));
    flags_free(f);
    flags_free(parent);
}
END_TEST

static const struct file_case {
    const char *why;
    const char *text;
    const char *want_error; /* NULL: accepted, then name must be "web" */
} file_cases[] = {
    { "name value", "name web\n", NULL },
    { "name = value", "name = web", NULL },
    { "name=value", "name=web\n", NULL },
    { "quoted", "name = \"web\"\n", NULL },
    { "comments, blank lines, CRLF", "# x\n\n  name web\r\n", NULL },
    { "unknown", "name web\nfoo 1\n", "f.conf:2: unknown option \"foo\"" },
    { "bad value", "replicas -1\n",
      "f.conf:1: replicas: \"-1\" is not a non-negative whole number" },
    { "dashes are not part of the name", "--name web\n", "f.conf:1: unknown option \"--name\"" },
    { "missing name", "= web\n", "f.conf:1: unknown option \"\"" },
};
START_TEST(configuration_file)
{
    const struct file_case *c = &file_cases[_i];
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };
    int rc = flags_parse_file(f, c->text, "f.conf", &e);

    if (c->want_error == NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
        ck_assert_str_eq(flags_string(f, "name"), "web");
    } else {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %d", c->why, rc);
        ck_assert_msg(strcmp(e.message, c->want_error) == 0, "%s: %s", c->why, e.message);
    }
    flags_free(f);
}
END_TEST

static char *fake_env(const char *name)
{
    static char replicas[] = "7";
    static char memory[] = "1g";

    if (strcmp(name, "T_REPLICAS") == 0)
        return replicas;
    return strcmp(name, "T_LIMIT_MEMORY") == 0 ? memory : NULL;
}

/* Command line over environment over file over default; a list is replaced as a whole. */
START_TEST(sources_have_a_rank)
{
    const char *args[] = { "--replicas=3", "--env=c=3", NULL };
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };

    ck_assert_int_eq(
        flags_parse_file(f, "replicas 9\nlimit-memory 2g\ndetach\nenv a=1\nenv b=2\n", "f", &e), 0);
    ck_assert_uint_eq(flags_list_count(f, "env"), 2);
    ck_assert(flags_bool(f, "detach"));
    ck_assert_int_eq(flags_parse_env(f, "T_", fake_env, &e), 0);
    ck_assert_uint_eq(flags_u64(f, "replicas"), 7);
    ck_assert_int_eq(flags_bytes(f, "limit-memory"), 1 << 30);
    ck_assert_int_eq(parse(f, args, FLAGS_MIXED, &e), 0);
    ck_assert_int_eq(flags_parse_file(f, "replicas 9\nenv z=1\n", "f", &e), 0); /* too late */
    ck_assert_uint_eq(flags_u64(f, "replicas"), 3);
    ck_assert_uint_eq(flags_list_count(f, "env"), 1);
    ck_assert_str_eq(flags_list_at(f, "env", 0), "c=3");
    flags_free(f);
}
END_TEST

START_TEST(missing_file_is_not_found)
{
    struct flags *f = flags_new(table, NULL);
    struct err e = { 0 };

    ck_assert_int_eq(flags_read_file(f, "/nonexistent/skep.conf", &e), -ERR_NOT_FOUND);
    flags_free(f);
}
END_TEST

START_TEST(list_is_bounded)
{
    const char *args[] = { "--env", "x", NULL };
    struct flags *f = flags_new(table, NULL);

    for (int i = 0; i < FLAGS_LIST_MAX; i++)
        ck_assert_int_eq(parse(f, args, FLAGS_MIXED, NULL), 0);
    ck_assert_int_lt(parse(f, args, FLAGS_MIXED, NULL), 0);
    flags_free(f);
}
END_TEST

static char *capture(size_t width)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    flags_print_options(out, "Options", width > 0 ? table : parent_table, width);
    (void)fclose(out);
    return text;
}

START_TEST(help_has_dockers_layout)
{
    char *text = capture(0);

    ck_assert_ptr_nonnull(strstr(text, "  -H, --host string   Where to connect (default "
                                       "\"unix:///run/x\")\n"));
    ck_assert_ptr_nonnull(strstr(text, "      --debug         Talk more\n"));
    free(text);
    text = capture(50);
    ck_assert_ptr_nonnull(strstr(text, "  -e, --env list             Set environment\n"
                                       "                             variables\n"));
    ck_assert_ptr_null(strstr(text, "secret-door"));
    free(text);
}
END_TEST

START_TEST(man_page_is_escaped)
{
    struct flags_man m = {
        .name = "ctl-x",
        .section = 1,
        .summary = "Does x",
        .synopsis = "ctl x [OPTIONS]",
        .description = ".leading dot and back\\slash\n\nsecond",
        .table = table,
    };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    flags_print_man(out, &m);
    (void)fclose(out);
    ck_assert_ptr_nonnull(strstr(text, ".TH \"CTL-X\" \"1\""));
    ck_assert_ptr_nonnull(strstr(text, "\n\\&.leading dot and back\\eslash\n.PP\nsecond\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "\\fB\\-\\-limit\\-memory\\fR \\fIbytes\\fR\nLimit Memory.\n"));
    ck_assert_ptr_nonnull(strstr(text, "Number of tasks (default 1).\n"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("flags");
    TCase *t = tcase_create("flags");

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, bad_options_are_named, 0, ARRAY_LEN(bad_cases));
    tcase_add_test(t, every_kind_is_read);
    tcase_add_loop_test(t, order_of_arguments, 0, ARRAY_LEN(order_cases));
    tcase_add_test(t, parent_flags_are_reachable);
    tcase_add_loop_test(t, configuration_file, 0, ARRAY_LEN(file_cases));
    tcase_add_test(t, sources_have_a_rank);
    tcase_add_test(t, missing_file_is_not_found);
    tcase_add_test(t, list_is_bounded);
    tcase_add_test(t, help_has_dockers_layout);
    tcase_add_test(t, man_page_is_escaped);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

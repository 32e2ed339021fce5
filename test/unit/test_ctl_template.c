/* ctl/template*.c: the part of Go's templates that --format needs. */
#include "ctl/template.h"

#include <check.h>
#include <string.h>

static const char data[] = "{\"ID\":\"abc\",\"Name\":\"web\",\"N\":3,\"Z\":0,\"T\":true,\"E\":\"\","
                           "\"Spec\":{\"Labels\":{\"b\":\"2\",\"a\":\"1\"},\"List\":[\"x\",\"y\"]},"
                           "\"_labels\":{\"zone\":\"east\"}}";

static const struct {
    const char *why, *text, *want; /* want beginning with '!': a part of the error */
    bool strict;
} cases[] = {
    { "text only", "hello", "hello", true },
    { "field", "{{.ID}}", "abc", true },
    { "blanks", "{{ .ID }}", "abc", true },
    { "chain", "{{.Spec.Labels.a}}", "1", true },
    { "number", "{{.N}}", "3", true },
    { "list", "{{.Spec.List}}", "[x y]", true },
    { "map", "{{.Spec.Labels}}", "map[a:1 b:2]", true },
    { "label", "{{.Label \"zone\"}}", "east", true },
    { "label that is not there", "{{.Label \"rack\"}}", "", true },
    { "json", "{{json .Spec.List}}", "[\"x\",\"y\"]", true },
    { "json of a string", "{{json .Name}}", "\"web\"", true },
    { "json hides private keys", "{{json .}}",
      "{\"E\":\"\",\"ID\":\"abc\",\"N\":3,\"Name\":\"web\",\"Spec\":{\"Labels\":{\"a\":\"1\",\"b\":"
      "\"2\"},\"List\":[\"x\",\"y\"]},\"T\":true,\"Z\":0}",
      true },
    { "upper", "{{upper .Name}}", "WEB", true },
    { "pipe", "{{.Name | upper | printf \"%s!\"}}", "WEB!", true },
    { "lower", "{{lower \"ABC\"}}", "abc", true },
    { "title", "{{title \"two words\"}}", "Two Words", true },
    { "join", "{{join .Spec.List \",\"}}", "x,y", true },
    { "split", "{{index (split \"a/b\" \"/\") 1}}", "b", true },
    { "index of a map", "{{index .Spec.Labels \"b\"}}", "2", true },
    { "len", "{{len .Spec.List}}{{len .Name}}", "23", true },
    { "pad", "[{{pad .Name 1 2}}]", "[ web  ]", true },
    { "truncate", "{{truncate .Name 2}}", "we", true },
    { "printf with width", "{{printf \"%-5s|%5d|%q\" .Name .N .ID}}", "web  |    3|\"abc\"", true },
    { "println", "{{println .ID .N}}", "abc 3\n", true },
    { "if", "{{if .T}}y{{else}}n{{end}}", "y", true },
    { "if of 0 and \"\"", "{{if .Z}}y{{else if .E}}z{{else}}n{{end}}", "n", true },
    { "else if", "{{if .Z}}y{{else if .T}}z{{else}}n{{end}}", "z", true },
    { "eq", "{{if eq .Name \"web\"}}y{{end}}", "y", true },
    { "ne, lt, gt", "{{ne .N 4}} {{lt .N 4}} {{gt .N 4}} {{ge 4 4}} {{le \"a\" \"b\"}}",
      "true true false true true", true },
    { "and, or, not", "{{and .T .Name}} {{or .E .ID}} {{not .T}}", "web abc false", true },
    { "range", "{{range .Spec.List}}<{{.}}>{{end}}", "<x><y>", true },
    { "range over a map, sorted", "{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}} {{end}}",
      "a=1 b=2 ", true },
    { "range with index", "{{range $i, $e := .Spec.List}}{{$i}}{{$e}}{{end}}", "0x1y", true },
    { "range of nothing", "{{range .E}}x{{else}}none{{end}}", "none", true },
    { "root inside range", "{{range .Spec.List}}{{$.ID}}{{end}}", "abcabc", true },
    { "with", "{{with .Spec}}{{.Labels.a}}{{end}}", "1", true },
    { "variable", "{{$x := .Name}}{{$x}}{{$x = .ID}}{{$x}}", "webabc", true },
    { "comment", "a{{/* no }} */}}b", "ab", true },
    { "trim", "a  {{- .ID -}}  b", "aabcb", true },
    { "parentheses with a chain", "{{(index .Spec.List 0)}}", "x", true },
    { "quotes inside", "{{print \"}}\" `\\n`}}", "}}\\n", true },
    { "missing field, lenient", "{{.Nope}}", "<no value>", false },
    { "missing chain, lenient", "{{.Nope.More}}", "<no value>", false },
    { "missing field in if, lenient", "{{if .Nope}}y{{else}}n{{end}}", "n", false },
    { "missing field, strict", "{{.Nope}}", "!can't evaluate field Nope; fields are: ID, Name",
      true },
    { "unclosed", "{{.ID", "!unclosed action", true },
    { "no end", "{{if .ID}}x", "!{{end}} is missing", true },
    { "end alone", "x{{end}}", "!unexpected {{end}}", true },
    { "else alone", "x{{else}}", "!unexpected {{else}}", true },
    { "empty action", "{{}}", "!missing value for command", true },
    { "unknown function", "{{foo .ID}}", "!function \"foo\" not defined", true },
    { "unknown variable", "{{$y}}", "!undefined variable \"$y\"", true },
    { "argument to a field", "{{.ID 1}}", "!can't give argument to non-function", true },
    { "open string", "{{print \"x}}", "!unterminated quoted string", true },
    { "open parenthesis", "{{(len .ID}}", "!unclosed left paren", true },
    { "bad character", "{{#}}", "!unexpected '#'", true },
    { "index out of range", "{{index .Spec.List 9}}", "!out of range", true },
    { "huge pad", "{{pad .ID 1000000 0}}", "!width out of range", true },
    { "a dot too many", "{{.ID.}}", "!field name is missing", true },
};

START_TEST(runs)
{
    CLEANUP_ARENA struct arena a = { 0 };
    json_t *value = json_loads(data, 0, NULL);
    struct template t = { 0 };
    struct err e = { 0 };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int rc = template_parse(&a, cases[_i].text, &t, &e);

    if (rc == 0)
        rc = template_run(&t, value, cases[_i].strict, out, &e);
    (void)fclose(out);
    if (cases[_i].want[0] == '!') {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %s", cases[_i].why, text);
        ck_assert_msg(strstr(e.message, cases[_i].want + 1) != NULL, "%s: %s", cases[_i].why,
                      e.message);
    } else {
        ck_assert_msg(rc == 0, "%s: %s", cases[_i].why, e.message);
        ck_assert_msg(strcmp(text, cases[_i].want) == 0, "%s: %s", cases[_i].why, text);
    }
    free(text);
    json_decref(value);
}
END_TEST

/* Depth is bounded: no template recurses without end. */
START_TEST(depth_is_bounded)
{
    CLEANUP_ARENA struct arena a = { 0 };
    struct template t = { 0 };
    char deep[4096];
    size_t at = 0;

    for (int i = 0; i < 200; i++)
        at += (size_t)snprintf(deep + at, sizeof(deep) - at, "{{if .T}}");
    ck_assert_int_eq(template_parse(&a, deep, &t, NULL), -ERR_INVALID);
    memset(deep, '(', 1000);
    memcpy(deep, "{{", 2);
    memcpy(deep + 1000, "}}", 3);
    ck_assert_int_eq(template_parse(&a, deep, &t, NULL), -ERR_INVALID);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl_template");
    TCase *t = tcase_create("template");

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, runs, 0, ARRAY_LEN(cases));
    tcase_add_test(t, depth_is_bounded);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

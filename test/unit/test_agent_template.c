#include "agentd/worker/template.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static Skep__KeyValue tier = { .key = (char *)"tier", .value = (char *)"gold" };
static Skep__KeyValue dotted = { .key = (char *)"a.b", .value = (char *)"c" };
static Skep__KeyValue *labels[] = { &tier, &dotted };

static const struct template_context context = {
    .service_id = "sid",
    .service_name = "web",
    .service_labels = labels,
    .service_label_count = 2,
    .node_id = "nid",
    .node_hostname = "host1",
    .node_architecture = "x86_64",
    .node_os = "linux",
    .task_id = "tid",
    .task_name = "web.3.tid",
    .task_slot = "3",
};

/* docker_api.md §5.2. want NULL: refused, and want_error is part of the reason. */
static const struct template_case {
    const char *why, *text, *want, *want_error;
} cases[] = {
    { "plain text", "A=b", "A=b", NULL },
    { "nothing", "", "", NULL },
    { "single braces are text", "{x} }} {", "{x} }} {", NULL },
    { "every field",
      "{{.Service.ID}} {{.Service.Name}} {{.Node.ID}} {{.Node.Hostname}} "
      "{{.Node.Platform.Architecture}} {{.Node.Platform.OS}} {{.Task.ID}} {{.Task.Name}} "
      "{{.Task.Slot}}",
      "sid web nid host1 x86_64 linux tid web.3.tid 3", NULL },
    { "white space inside", "{{  .Task.Slot\t}}", "3", NULL },
    { "trim markers", "a  {{- .Task.Slot -}}  b", "a3b", NULL },
    { "no trim without a space", "{{-.Task.Slot}}", NULL, "cannot evaluate" },
    { "a label", "{{.Service.Labels.tier}}", "gold", NULL },
    { "a label by index", "{{index .Service.Labels \"a.b\"}}", "c", NULL },
    { "a missing label", "{{.Service.Labels.nope}}", NULL, "cannot evaluate" },
    { "a missing label by index", "{{index .Service.Labels \"nope\"}}", NULL, "cannot evaluate" },
    { "the map itself", "{{.Service.Labels}}", NULL, "cannot evaluate" },
    { "join", "{{join \"-\" .Task.Slot \"x\" `y`}}", "3-x-y", NULL },
    { "join of one", "{{join \"-\" .Task.Slot}}", "3", NULL },
    { "join without separator", "{{join}}", NULL, "cannot evaluate" },
    { "a literal", "{{\"lit\"}}", "lit", NULL },
    { "an escape in a literal", "{{\"a\\n\"}}", NULL, "cannot evaluate" },
    { "an open literal", "{{\"a}}", NULL, "cannot evaluate" },
    { "an unknown field", "{{.Task.Nope}}", NULL, "'.Task.Nope'" },
    { "a function that is not offered", "{{printf \"%d\" 3}}", NULL, "cannot evaluate" },
    { "a pipeline", "{{.Task.ID | len}}", NULL, "cannot evaluate" },
    { "two operands", "{{.Task.ID .Task.ID}}", NULL, "cannot evaluate" },
    { "an empty action", "{{}}", NULL, "cannot evaluate" },
    { "no end", "a {{.Task.ID", NULL, "without '}}'" },
    { "the result is not expanded again", "{{\"{{.Task.ID\"}}", "{{.Task.ID", NULL },
};

START_TEST(template_expands)
{
    const struct template_case *c = &cases[_i];
    CLEANUP_BUF struct buf out = BUF_INIT(TEMPLATE_BYTES_MAX);
    struct err e = { 0 };
    int rc = template_expand(c->text, &context, &out, &e);

    if (c->want != NULL) {
        ck_assert_msg(rc == 0, "%s: %s", c->why, e.message);
        ck_assert_msg(strcmp(buf_str(&out), c->want) == 0, "%s: '%s'", c->why, buf_str(&out));
    } else {
        ck_assert_msg(rc == -ERR_INVALID, "%s: %d '%s'", c->why, rc, buf_str(&out));
        ck_assert_msg(strstr(e.message, c->want_error) != NULL, "%s: %s", c->why, e.message);
    }
}
END_TEST

/* Output beyond the buffer's maximum is refused, wherever it comes from. */
START_TEST(template_output_is_limited)
{
    static const char *const texts[] = {
        "0123456789", "01234{{.Task.Name}}",
        "{{join \"--\" .Task.Slot .Task.Slot .Task.Slot .Node.ID}}"
    };
    CLEANUP_BUF struct buf out = BUF_INIT(9);
    struct err e;

    ck_assert_int_eq(template_expand(texts[_i], &context, &out, &e), -ERR_TOO_BIG);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent template");
    TCase *tc = tcase_create("template");
    SRunner *sr;
    int failed;

    tcase_add_loop_test(tc, template_expands, 0, (int)ARRAY_LEN(cases));
    tcase_add_loop_test(tc, template_output_is_limited, 0, 3);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What people type for ctl: mounts, ports, images, constraints, command lines, environment files,
 * addresses, templates, configuration files. The first byte chooses the parser. Nothing crashes or
 * grows without end, and what is accepted is accepted again in its normal form. */
#include <string.h>

#include "common/assert.h"
#include "common/flags.h"
#include "ctl/client.h"
#include "ctl/output.h"
#include "ctl/parse.h"
#include "ctl/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct flag table[] = {
    { "name", 'n', FLAG_STRING, NULL, NULL, "", NULL, false },
    { "list", 'l', FLAG_LIST, NULL, NULL, "", NULL, false },
    { "time", 't', FLAG_DURATION, NULL, NULL, "", NULL, false },
    { "bool", 'b', FLAG_BOOL, NULL, NULL, "", NULL, false },
    { 0 },
};

static char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

static void mounts_and_ports(struct arena *a, const char *text)
{
    struct ports ports = { 0 };
    Skep__Mount *mount = NULL;
    struct err e;

    if (parse_mount(a, text, "/", &mount, &e) == 0)
        ASSERT(mount->target[0] == '/');
    if (parse_ports(a, text, &ports, &e) == 0)
        ASSERT(ports.count > 0 && ports.count <= PARSE_PORTS_MAX);
}

static void words(struct arena *a, const char *text)
{
    struct strings list = { 0 };
    struct strings fields = { 0 };
    struct strings env = { 0 };
    struct err e;

    if (parse_words(a, text, &list, &e) == 0)
        ASSERT(list.count <= strlen(text));
    if (parse_csv(a, text, &fields, &e) == 0)
        ASSERT(fields.count <= strlen(text) + 1);
    if (parse_env_file(a, text, no_environment, &env, &e) == 0)
        ASSERT(env.count <= strlen(text));
}

static void images_and_constraints(struct arena *a, const char *text)
{
    Skep__Constraint *constraint = NULL;
    Skep__NetworkAttachmentConfig *network = NULL;
    struct file_ref file;
    const char *image = NULL;
    const char *again = NULL;
    struct err e;

    (void)image_familiar(a, text);
    (void)image_registry(a, text);
    if (parse_image(a, text, &image, &e) == 0)
        ASSERT(parse_image(a, image, &again, &e) == 0 && strcmp(image, again) == 0);
    if (parse_constraint(a, text, &constraint, &e) == 0)
        ASSERT(parse_constraint(a, constraint_text(a, constraint), &constraint, &e) == 0);
    if (parse_file_ref(a, text, &file, &e) == 0)
        ASSERT(file.source[0] != '\0');
    if (parse_network(a, text, &network, &e) == 0)
        ASSERT(network->target[0] != '\0');
}

static void short_values(struct arena *a, const char *text)
{
    const char *got = NULL;
    const char *again = NULL;
    char *url = NULL;
    struct err e;

    if (parse_ulimit(a, text, &got, &e) == 0)
        ASSERT(parse_ulimit(a, got, &again, &e) == 0 && strcmp(got, again) == 0);
    if (parse_capability(a, text, &got, &e) == 0)
        ASSERT(parse_capability(a, got, &again, &e) == 0 && strcmp(got, again) == 0);
    if (parse_host(a, text, &got, &e) == 0)
        ASSERT(strchr(got, ' ') != NULL);
    if (client_url(a, text, &url, &e) == 0)
        ASSERT(strncmp(url, "ipc:///", 7) == 0 || strncmp(url, "tls+tcp://", 10) == 0);
}

static void templates(struct arena *a, const char *text, bool strict)
{
    static const char data[] = "{\"A\":\"x\",\"B\":{\"C\":[1,2,{\"d\":null}]},\"_labels\":{}}";
    const char *lines[] = { text, "a\tb" };
    struct template t = { 0 };
    struct err e;
    FILE *out = fopen("/dev/null", "we");
    json_t *value = json_loads(data, 0, NULL);
    int rc;

    ASSERT(out != NULL && value != NULL);
    output_table(out, lines, ARRAY_LEN(lines));
    if (template_parse(a, text, &t, &e) == 0) {
        rc = template_run(&t, value, strict, out, &e);
        ASSERT(rc == 0 || rc == -ERR_INVALID);
    }
    json_decref(value);
    (void)fclose(out);
}

static void configuration(const char *text)
{
    struct flags *f = flags_new(table, NULL);
    struct err e;

    if (flags_parse_file(f, text, "file", &e) == 0)
        ASSERT(flags_list_count(f, "list") <= FLAGS_LIST_MAX);
    flags_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_ARENA struct arena a = { 0 };
    CLEANUP_FREE char *text = NULL;

    if (size == 0)
        return 0;
    text = xstrndup((const char *)data + 1, size - 1);
    switch (data[0] % 7) {
    case 0:
        mounts_and_ports(&a, text);
        break;
    case 1:
        words(&a, text);
        break;
    case 2:
        images_and_constraints(&a, text);
        break;
    case 3:
        short_values(&a, text);
        break;
    case 4:
    case 5:
        templates(&a, text, data[0] % 7 == 4);
        break;
    default:
        configuration(text);
        break;
    }
    return 0;
}

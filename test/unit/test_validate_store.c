#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "managerd/control/validate.h"
#include "test/lib/spec_text.h"

#define ID(c) #c "000000000000000000000000"

/* A store with network "front" (and the ingress network), secret "key", config "conf", and service
 * "other" that publishes 80 through ingress, was given 30000, and has host port 90. */
static struct store *world_new(struct arena *a)
{
    struct store *s = store_new();
    struct store_tx *tx = store_tx_new();
    Skep__Network front = SKEP__NETWORK__INIT, ingress = SKEP__NETWORK__INIT;
    Skep__Secret secret = SKEP__SECRET__INIT;
    Skep__Config config = SKEP__CONFIG__INIT;
    Skep__Service other = SKEP__SERVICE__INIT;
    struct err e = { 0 };

    spec_set_all(&front.base, a, "id=" ID(1) " spec.annotations.name=front");
    spec_set_all(&ingress.base, a, "id=" ID(2) " spec.annotations.name=ingress spec.ingress=true");
    spec_set_all(&secret.base, a, "id=" ID(3) " spec.annotations.name=key");
    spec_set_all(&config.base, a, "id=" ID(4) " spec.annotations.name=conf");
    spec_set_all(&other.base, a,
                 "id=" ID(5) " endpoint.ports[0].published_port=80 "
                             "endpoint.ports[1].published_port=30000");
    other.spec = spec_service(a, "other",
                              "endpoint.ports[0].published_port=80 "
                              "endpoint.ports[1].published_port=90 "
                              "endpoint.ports[1].publish_mode=PUBLISH_HOST");
    store_tx_create(tx, &front.base);
    store_tx_create(tx, &ingress.base);
    store_tx_create(tx, &secret.base);
    store_tx_create(tx, &config.base);
    store_tx_create(tx, &other.base);
    int rc = store_apply(s, 1, store_tx_message(tx), NULL, &e);
    ck_assert_msg(rc == 0, "%s", e.message);
    store_tx_free(tx);
    return s;
}

static const struct world_case {
    const char *why;
    const char *set;
    const char *service_id;
    const char *want; /* NULL: valid; else part of the message */
} world_cases[] = {
    { "nothing", "", "", NULL },
    { "network by name", "task.networks[0].target=front", "", NULL },
    { "network by id", "task.networks[0].target=" ID(1), "", NULL },
    { "no such network", "task.networks[0].target=back", "", "network back not found" },
    { "ingress network", "task.networks[0].target=ingress", "",
      "cannot be explicitly attached to the ingress network \"ingress\"" },
    { "one network by name and by id",
      "task.networks[0].target=front task.networks[1].target=" ID(1), "", "given twice" },
    { "secret by name", "task.container.secrets[0].secret_name=key", "", NULL },
    { "no such secret", "task.container.secrets[0].secret_name=lock", "",
      "secret not found: lock" },
    { "secret whose id has another name",
      "task.container.secrets[0].secret_id=" ID(3) " task.container.secrets[0].secret_name=lock",
      "", "secret not found: lock" },
    { "config by id",
      "task.container.configs[0].config_id=" ID(4) " task.container.configs[0].config_name=conf",
      "", NULL },
    { "no such config", "task.container.configs[0].config_name=x", "", "config not found: x" },
    { "taken ingress port", "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=80",
      "", "port '80' is already in use by service 'other' (" ID(5) ") as an ingress port" },
    { "its own port", "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=80", ID(5),
      NULL },
    { "port that was chosen for another",
      "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=30000", "",
      "port '30000' is already in use" },
    { "another protocol",
      "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=80 "
      "endpoint.ports[0].protocol=PROTOCOL_UDP",
      "", NULL },
    { "ingress where another has a host port",
      "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=90", "",
      "port '90' is already in use by service 'other' (" ID(5) ") as a host-published port" },
    { "host where another has a host port",
      "endpoint.ports[0].target_port=1 endpoint.ports[0].published_port=90 "
      "endpoint.ports[0].publish_mode=PUBLISH_HOST",
      "", NULL },
    { "a port to be chosen", "endpoint.ports[0].target_port=1", "", NULL },
};

START_TEST(references_and_ports_are_checked)
{
    const struct world_case *c = &world_cases[_i];
    CLEANUP_ARENA struct arena a = { 0 };
    struct store *s = world_new(&a);
    Skep__ServiceSpec *spec = NULL;
    struct err e = { 0 };

    ck_assert_msg(control_validate_service(spec_service(&a, "web", c->set), &a, &spec, &e) == 0,
                  "%s: %s", c->why, e.message);
    int rc = control_validate_service_in(spec, s, c->service_id, &e);
    ck_assert_msg(rc == (c->want == NULL ? 0 : -ERR_INVALID), "%s: %d %s", c->why, rc, e.message);
    if (c->want != NULL)
        ck_assert_msg(strstr(e.message, c->want) != NULL, "%s: %s", c->why, e.message);
    if (rc == 0 && spec->task->n_networks > 0)
        ck_assert_str_eq(spec->task->networks[0]->target, ID(1));
    if (rc == 0 && spec->task->container->n_secrets > 0)
        ck_assert_str_eq(spec->task->container->secrets[0]->secret_id, ID(3));
    if (rc == 0 && spec->task->container->n_configs > 0)
        ck_assert_str_eq(spec->task->container->configs[0]->config_name, "conf");
    store_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("validate_store");
    TCase *tc = tcase_create("validate_store");

    tcase_add_loop_test(tc, references_and_ports_are_checked, 0, (int)ARRAY_LEN(world_cases));
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The networks that every cluster has. features.md 3.11. */
#include "managerd/allocator/internal.h"

#define PREDEFINED_LABEL "com.docker.swarm.predefined"

static void add(const char *name, const char *driver, bool ingress, struct prng *prng,
                struct store_tx *tx)
{
    Skep__Network n = SKEP__NETWORK__INIT;
    Skep__NetworkSpec spec = SKEP__NETWORK_SPEC__INIT;
    Skep__Annotations annotations = SKEP__ANNOTATIONS__INIT;
    Skep__KeyValue label = SKEP__KEY_VALUE__INIT, *labels = &label;
    Skep__Driver with = SKEP__DRIVER__INIT;
    struct id id = id_from_prng(prng);

    n.id = id.s;
    n.spec = &spec;
    annotations.name = text(name);
    label.key = text(PREDEFINED_LABEL);
    if (!ingress) {
        annotations.labels = &labels;
        annotations.n_labels = 1;
    }
    spec.annotations = &annotations;
    with.name = text(driver);
    spec.driver = &with;
    spec.ingress = ingress;
    spec.scope = text(ingress ? "swarm" : "local");
    store_tx_create(tx, &n.base);
}

void allocator_predefined(const struct store *s, struct prng *prng, bool ingress,
                          struct store_tx *tx)
{
    static const char *const networks[][2] = { { "host", "host" },
                                               { "bridge", "bridge" },
                                               { "none", "null" } };

    for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
        if (store_find_name(s, SKEP__KIND__KIND_NETWORK, networks[i][0]) == NULL)
            add(networks[i][0], networks[i][1], false, prng, tx);
    }
    if (ingress)
        add("ingress", "overlay", true, prng, tx);
}

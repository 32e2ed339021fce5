/* Specs of the cluster, secrets and configs. features.md 3.3, 3.16. */
#include <string.h>

#include "common/ip.h"
#include "common/message.h"
#include "common/text.h"
#include "managerd/control/control.h"
#include "managerd/control/defaults.h"
#include "managerd/control/validate_internal.h"

enum {
    SECRET_BYTES_MAX = 500 << 10,
    CONFIG_BYTES_MAX = 1000 << 10,
    POOLS_MAX = 64,
};
#define CERTIFICATE_EXPIRY_NS_MIN (INT64_C(3600) * 1000000000)

Skep__Annotations *validate_complete_annotations(Skep__Annotations *given, struct arena *a)
{
    if (given == NULL) {
        given = ARENA_NEW(a, Skep__Annotations);
        skep__annotations__init(given);
    }
    defaults_sort_map(given->labels, given->n_labels);
    return given;
}

/* ---- cluster ---- */

static void fill_cluster(Skep__ClusterSpec *spec, struct arena *a)
{
    const Skep__ClusterSpec *defaults = control_cluster_defaults(a);

    spec->annotations = validate_complete_annotations(spec->annotations, a);
    if (spec->annotations->name[0] == '\0')
        spec->annotations->name = defaults->annotations->name;
    if (spec->heartbeat_period == 0)
        spec->heartbeat_period = defaults->heartbeat_period;
    if (spec->certificate_expiry == 0)
        spec->certificate_expiry = defaults->certificate_expiry;
    if (spec->snapshot_interval == 0)
        spec->snapshot_interval = defaults->snapshot_interval;
    if (spec->n_address_pools == 0) {
        spec->n_address_pools = defaults->n_address_pools;
        spec->address_pools = defaults->address_pools;
    }
    if (spec->subnet_size == 0)
        spec->subnet_size = defaults->subnet_size;
    if (spec->data_path_port == 0)
        spec->data_path_port = defaults->data_path_port;
    if (spec->log_driver != NULL)
        defaults_sort_map(spec->log_driver->options, spec->log_driver->n_options);
}

static int check_pool(const Skep__ClusterSpec *spec, size_t at, struct err *e)
{
    const char *text = spec->address_pools[at];
    struct ip_net pool, other;
    char base[IP_NET_CHARS + 1];

    if (ip_net_parse(text, &pool, NULL) < 0 || pool.address.family != IP_V4)
        return err_set(e, ERR_INVALID,
                       "address_pools: invalid base pool %.64s, must be an IPv4 subnet as "
                       "10.0.0.0/8",
                       text);
    struct ip_net clean = ip_net_base(&pool);
    if (!ip_equal(&clean.address, &pool.address))
        return err_set(e, ERR_INVALID, "address_pools: %.64s has host bits set; %s is meant?", text,
                       ip_net_format(&clean, base));
    if (pool.prefix > spec->subnet_size)
        return err_set(e, ERR_INVALID,
                       "subnet_size: a subnet of /%u does not fit into the pool %.64s",
                       spec->subnet_size, text);
    for (size_t i = 0; i < at; i++) {
        if (ip_net_parse(spec->address_pools[i], &other, NULL) == 0 &&
            ip_net_overlap(&pool, &other))
            return err_set(e, ERR_INVALID, "address_pools: %.64s and %.64s overlap",
                           spec->address_pools[i], text);
    }
    return 0;
}

static int check_pools(const Skep__ClusterSpec *spec, struct err *e)
{
    int rc = validate_count("address_pools", spec->n_address_pools, POOLS_MAX, e);

    if (rc == 0 && spec->subnet_size > 29)
        rc = err_set(e, ERR_INVALID, "subnet_size: invalid mask length %u, must be at most 29",
                     spec->subnet_size);
    for (size_t i = 0; rc == 0 && i < spec->n_address_pools; i++)
        rc = check_pool(spec, i, e);
    return rc;
}

int control_validate_cluster(const Skep__ClusterSpec *in, struct arena *a,
                             Skep__ClusterSpec **ret_spec, struct err *e)
{
    int rc = validate_enums(&in->base, e);

    if (rc == 0 && message_measure(&in->base).packed > VALIDATE_SPEC_BYTES_MAX)
        rc = err_set(e, ERR_INVALID, "spec: more than %d bytes", VALIDATE_SPEC_BYTES_MAX);
    if (rc < 0)
        return rc;
    Skep__ClusterSpec *spec = (Skep__ClusterSpec *)message_clone_arena(a, &in->base);

    fill_cluster(spec, a);
    if (strcmp(spec->annotations->name, "default") != 0)
        return err_set(e, ERR_INVALID,
                       "annotations: the cluster's name is \"default\", not \"%.64s\"",
                       spec->annotations->name);
    rc = validate_labels("annotations.labels", spec->annotations->labels,
                         spec->annotations->n_labels, e);
    if (rc == 0)
        rc = validate_duration("heartbeat_period", spec->heartbeat_period, e);
    if (rc == 0 && spec->heartbeat_period < 100 * TEXT_NS_PER_MS)
        rc = err_set(e, ERR_INVALID, "heartbeat_period: must be at least 100ms");
    if (rc == 0 && spec->certificate_expiry < CERTIFICATE_EXPIRY_NS_MIN)
        rc = err_set(e, ERR_INVALID,
                     "certificate_expiry: minimum certificate expiry time is 1h0m0s");
    if (rc == 0)
        rc = validate_duration("certificate_expiry", spec->certificate_expiry, e);
    if (rc == 0 && (spec->data_path_port < 1024 || spec->data_path_port > 49151))
        rc = err_set(e, ERR_INVALID,
                     "data_path_port: %u is not between 1024 and 49151 (0 means 4789)",
                     spec->data_path_port);
    if (rc == 0)
        rc = check_pools(spec, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

/* ---- secrets and configs ---- */

static int check_data(const char *what, size_t size, size_t size_max, struct err *e)
{
    if (size == 0 || size > size_max)
        return err_set(e, ERR_INVALID,
                       "data: %s data must be larger than 0 and at most %zu bytes, "
                       "not %zu",
                       what, size_max, size);
    return 0;
}

int validate_file_annotations(const Skep__Annotations *given, struct err *e)
{
    int rc = validate_file_object_name("annotations", given->name, e);

    return rc == 0 ? validate_labels("annotations.labels", given->labels, given->n_labels, e) : rc;
}

int control_validate_secret(const Skep__SecretSpec *in, struct arena *a,
                            Skep__SecretSpec **ret_spec, struct err *e)
{
    int rc = check_data("secret", in->data.len, SECRET_BYTES_MAX, e);

    if (rc < 0)
        return rc;
    Skep__SecretSpec *spec = (Skep__SecretSpec *)message_clone_arena(a, &in->base);

    spec->annotations = validate_complete_annotations(spec->annotations, a);
    rc = validate_file_annotations(spec->annotations, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

int control_validate_config(const Skep__ConfigSpec *in, struct arena *a,
                            Skep__ConfigSpec **ret_spec, struct err *e)
{
    int rc = check_data("config", in->data.len, CONFIG_BYTES_MAX, e);

    if (rc < 0)
        return rc;
    Skep__ConfigSpec *spec = (Skep__ConfigSpec *)message_clone_arena(a, &in->base);

    spec->annotations = validate_complete_annotations(spec->annotations, a);
    rc = validate_file_annotations(spec->annotations, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

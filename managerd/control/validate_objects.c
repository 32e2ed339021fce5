/* Specs of the cluster, secrets, configs and networks. features.md 3.3, 3.16. */
#include <arpa/inet.h>
#include <string.h>

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

static Skep__Annotations *complete_annotations(Skep__Annotations *given, struct arena *a)
{
    if (given == NULL) {
        given = ARENA_NEW(a, Skep__Annotations);
        skep__annotations__init(given);
    }
    defaults_sort_map(given->labels, given->n_labels);
    return given;
}

/* "10.0.0.0/8", "fd00::/64": sets the prefix length. */
static bool cidr_parse(const char *text, bool *ret_ipv6, unsigned *ret_bits)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    uint64_t bits;

    if (slash == NULL || (size_t)(slash - text) >= sizeof(address))
        return false;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = '\0';
    bool ipv6 = strchr(address, ':') != NULL;
    if (!validate_is_ip(address) || text_parse_u64(slash + 1, &bits, NULL) < 0 ||
        bits > (ipv6 ? 128 : 32))
        return false;
    *ret_ipv6 = ipv6;
    *ret_bits = (unsigned)bits;
    return true;
}

/* ---- cluster ---- */

static void fill_cluster(Skep__ClusterSpec *spec, struct arena *a)
{
    const Skep__ClusterSpec *defaults = control_cluster_defaults(a);

    spec->annotations = complete_annotations(spec->annotations, a);
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

static int check_pools(const Skep__ClusterSpec *spec, struct err *e)
{
    int rc = validate_count("address_pools", spec->n_address_pools, POOLS_MAX, e);

    if (rc == 0 && spec->subnet_size > 29)
        rc = err_set(e, ERR_INVALID, "subnet_size: invalid mask length %u, must be at most 29",
                     spec->subnet_size);
    for (size_t i = 0; rc == 0 && i < spec->n_address_pools; i++) {
        unsigned bits = 0;
        bool ipv6 = false;

        if (!cidr_parse(spec->address_pools[i], &ipv6, &bits) || ipv6)
            rc = err_set(e, ERR_INVALID,
                         "address_pools: invalid base pool %.64s, must be an IPv4 subnet as "
                         "10.0.0.0/8",
                         spec->address_pools[i]);
        else if (bits > spec->subnet_size)
            rc = err_set(e, ERR_INVALID,
                         "subnet_size: a subnet of /%u does not fit into the pool %.64s",
                         spec->subnet_size, spec->address_pools[i]);
    }
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

static int check_annotations(const Skep__Annotations *given, struct err *e)
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

    spec->annotations = complete_annotations(spec->annotations, a);
    rc = check_annotations(spec->annotations, e);
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

    spec->annotations = complete_annotations(spec->annotations, a);
    rc = check_annotations(spec->annotations, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

/* ---- networks ---- */

static int check_ipam_address(const char *field, const char *text, bool ipv6, struct err *e)
{
    if (text[0] == '\0')
        return 0;
    if (!validate_is_ip(text) || (strchr(text, ':') != NULL) != ipv6)
        return err_set(e, ERR_INVALID, "ipam.%s: \"%.64s\" is no %s address", field, text,
                       ipv6 ? "IPv6" : "IPv4");
    return 0;
}

static int check_ipam(const Skep__IpamConfig *c, struct err *e)
{
    bool ipv6 = false, range_ipv6 = false;
    unsigned bits = 0, range_bits = 0;

    if (c->subnet[0] == '\0' && (c->range[0] != '\0' || c->gateway[0] != '\0'))
        return err_set(e, ERR_INVALID, "ipam: a range or gateway needs a subnet");
    if (c->subnet[0] != '\0' && !cidr_parse(c->subnet, &ipv6, &bits))
        return err_set(e, ERR_INVALID, "ipam.subnet: \"%.64s\" is no subnet as 10.1.0.0/24",
                       c->subnet);
    if (c->range[0] != '\0' && (!cidr_parse(c->range, &range_ipv6, &range_bits) ||
                                range_ipv6 != ipv6 || range_bits < bits))
        return err_set(e, ERR_INVALID, "ipam.range: \"%.64s\" is no part of the subnet %.64s",
                       c->range, c->subnet);
    int rc = check_ipam_address("gateway", c->gateway, ipv6, e);
    for (size_t i = 0; rc == 0 && i < c->n_reserved; i++)
        rc = check_ipam_address("reserved", c->reserved[i]->value, ipv6, e);
    return rc;
}

static void fill_network(Skep__NetworkSpec *spec, struct arena *a)
{
    spec->annotations = complete_annotations(spec->annotations, a);
    if (spec->driver == NULL) {
        spec->driver = ARENA_NEW(a, Skep__Driver);
        skep__driver__init(spec->driver);
    }
    if (spec->driver->name[0] == '\0')
        spec->driver->name = (char *)"overlay";
    if (spec->scope[0] == '\0')
        spec->scope = (char *)"swarm";
    defaults_sort_map(spec->driver->options, spec->driver->n_options);
    for (size_t i = 0; i < spec->n_ipam; i++)
        defaults_sort_map(spec->ipam[i]->reserved, spec->ipam[i]->n_reserved);
}

int control_validate_network(const Skep__NetworkSpec *in, struct arena *a,
                             Skep__NetworkSpec **ret_spec, struct err *e)
{
    if (message_measure(&in->base).packed > VALIDATE_SPEC_BYTES_MAX)
        return err_set(e, ERR_INVALID, "spec: more than %d bytes", VALIDATE_SPEC_BYTES_MAX);
    Skep__NetworkSpec *spec = (Skep__NetworkSpec *)message_clone_arena(a, &in->base);

    fill_network(spec, a);
    int rc = check_annotations(spec->annotations, e);
    if (rc == 0)
        rc = validate_line("driver.name", spec->driver->name, 256, e);
    if (rc == 0)
        rc = validate_labels("driver.options", spec->driver->options, spec->driver->n_options, e);
    if (rc == 0 && strcmp(spec->scope, "swarm") != 0 && strcmp(spec->scope, "local") != 0)
        rc = err_set(e, ERR_INVALID, "scope: \"%.32s\" must be swarm or local", spec->scope);
    if (rc == 0 && spec->ingress && spec->attachable)
        rc = err_set(e, ERR_INVALID, "ingress: the ingress network cannot be attachable");
    if (rc == 0)
        rc = validate_count("ipam", spec->n_ipam, POOLS_MAX, e);
    for (size_t i = 0; rc == 0 && i < spec->n_ipam; i++)
        rc = check_ipam(spec->ipam[i], e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

/* Network specs for themselves: drivers and their options, subnets and what lies in them. What they
 * have to do with other objects is in network.c. features.md 3.11. */
#include <string.h>
#include <strings.h>

#include "common/ip.h"
#include "common/message.h"
#include "common/text.h"
#include "managerd/control/defaults.h"
#include "managerd/control/validate_internal.h"

enum {
    SUBNETS_MAX = 64, /* of a node-local network */
    MTU_MIN = 576,    /* what every IPv4 host must take (RFC 791) */
    MTU_MIN_V6 = 1280,
    MTU_MAX = 65535,
    VNI_MAX = (1 << 24) - 1,
    OVERLAY_PREFIX_MIN = 8, /* of IPv4 */
};

#define MTU_OPTION "com.docker.network.driver.mtu"
#define VNI_OPTION "com.docker.network.driver.overlay.vxlanid_list"

/* ---- drivers and options ---- */

/* clang-format off */
static const struct driver {
    const char *name;
    const char *options[6]; /* those that end with '.' are prefixes */
} drivers[] = {
    { "overlay", { "encrypted", MTU_OPTION, VNI_OPTION } },
    { "bridge",  { "com.docker.network." } },
    { "macvlan", { "parent", "macvlan_mode", "com.docker.network." } },
    { "ipvlan",  { "parent", "ipvlan_mode", "ipvlan_flag", "com.docker.network." } },
    /* A configuration for networks of any node-local driver. */
    { "null",    { "parent", "macvlan_mode", "ipvlan_mode", "ipvlan_flag", "com.docker.network." } },
};
/* clang-format on */

static bool option_known(const struct driver *d, const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(d->options) && d->options[i] != NULL; i++) {
        size_t size = strlen(d->options[i]);

        if (d->options[i][size - 1] == '.' ? strncmp(key, d->options[i], size) == 0
                                           : strcmp(key, d->options[i]) == 0)
            return true;
    }
    return false;
}

static int check_mtu(const Skep__NetworkSpec *spec, const char *value, struct err *e)
{
    uint64_t mtu, least = spec->ipv6 ? MTU_MIN_V6 : MTU_MIN;

    if (text_parse_u64(value, &mtu, NULL) < 0 || mtu < least || mtu > MTU_MAX)
        return err_set(e, ERR_INVALID, "driver.options: %s=%.32s is not between %u and %d",
                       MTU_OPTION, value, (unsigned)least, MTU_MAX);
    return 0;
}

static int check_overlay_option(const Skep__NetworkSpec *spec, const Skep__KeyValue *o,
                                struct err *e)
{
    static const char *const truths[] = { "", "true", "false", "1", "0" };
    uint64_t vni;

    if (strcmp(o->key, MTU_OPTION) == 0)
        return check_mtu(spec, o->value, e);
    if (strcmp(o->key, VNI_OPTION) == 0) {
        if (text_parse_u64(o->value, &vni, NULL) < 0 || vni == 0 || vni > VNI_MAX)
            return err_set(e, ERR_INVALID,
                           "driver.options: %s=%.32s is not one number from 1 to %d", VNI_OPTION,
                           o->value, VNI_MAX);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(truths); i++) {
        if (strcasecmp(o->value, truths[i]) == 0)
            return 0;
    }
    return err_set(e, ERR_INVALID, "driver.options: %s=%.32s must be true or false", o->key,
                   o->value);
}

static int check_driver(const Skep__NetworkSpec *spec, struct err *e)
{
    const struct driver *d = NULL;
    int rc = validate_labels("driver.options", spec->driver->options, spec->driver->n_options, e);

    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (strcmp(drivers[i].name, spec->driver->name) == 0)
            d = &drivers[i];
    }
    if (rc < 0)
        return rc;
    if (d == NULL || (strcmp(d->name, "null") == 0) != spec->config_only)
        return err_set(e, ERR_INVALID,
                       "driver: \"%.64s\" is no network driver that networks can be made with; use "
                       "overlay, bridge, macvlan or ipvlan",
                       spec->driver->name);
    for (size_t i = 0; rc == 0 && i < spec->driver->n_options; i++) {
        const Skep__KeyValue *o = spec->driver->options[i];

        if (!option_known(d, o->key))
            rc = err_set(e, ERR_INVALID, "driver.options: %.64s is unknown for driver %s", o->key,
                         d->name);
        else if (strcmp(d->name, "overlay") == 0)
            rc = check_overlay_option(spec, o, e);
    }
    return rc;
}

static bool is_overlay(const Skep__NetworkSpec *spec)
{
    return strcmp(spec->driver->name, "overlay") == 0;
}

static int check_kind(const Skep__NetworkSpec *spec, struct err *e)
{
    if (strcmp(spec->scope, "swarm") != 0 && strcmp(spec->scope, "local") != 0)
        return err_set(e, ERR_INVALID, "scope: \"%.32s\" must be swarm or local", spec->scope);
    if (is_overlay(spec) && strcmp(spec->scope, "swarm") != 0)
        return err_set(e, ERR_INVALID, "scope: an overlay network is always the swarm's");
    if (spec->ingress && !is_overlay(spec))
        return err_set(e, ERR_INVALID, "ingress: the ingress network must be an overlay");
    if (spec->ingress && spec->attachable)
        return err_set(e, ERR_INVALID, "ingress: the ingress network cannot be attachable");
    if (spec->ingress && spec->internal)
        return err_set(e, ERR_INVALID, "ingress: the ingress network cannot be internal");
    if (!spec->ingress && strcasecmp(spec->annotations->name, "ingress") == 0)
        return err_set(e, ERR_INVALID,
                       "annotations: the name ingress is for the network of published ports "
                       "(--ingress)");
    if (spec->config_from[0] != '\0' &&
        (spec->config_only || is_overlay(spec) || spec->n_ipam > 0 || spec->driver->n_options > 0))
        return err_set(e, ERR_INVALID,
                       "config_from: user-specified configurations are not supported if the "
                       "network depends on a configuration network");
    return 0;
}

/* ---- subnets ---- */

/* A subnet or range as it should be written. */
static int parse_net(const char *field, const char *text, struct ip_net *ret, struct err *e)
{
    char clean[IP_NET_CHARS + 1];

    if (ip_net_parse(text, ret, NULL) < 0)
        return err_set(e, ERR_INVALID, "ipam.%s: \"%.64s\" is no subnet as 10.1.0.0/24", field,
                       text);
    struct ip_net base = ip_net_base(ret);
    if (!ip_equal(&base.address, &ret->address))
        return err_set(e, ERR_INVALID, "ipam.%s: %.64s has host bits set; %s is meant?", field,
                       text, ip_net_format(&base, clean));
    return 0;
}

static int check_subnet(const Skep__NetworkSpec *spec, const Skep__IpamConfig *c,
                        struct ip_net *ret, struct err *e)
{
    int rc = parse_net("subnet", c->subnet, ret, e);
    bool v4 = ret->address.family == IP_V4;

    if (rc < 0)
        return rc;
    if (ip_is_any(&ret->address) || ip_is_loopback(&ret->address) ||
        ip_is_multicast(&ret->address) || ip_is_link_local(&ret->address))
        return err_set(e, ERR_INVALID, "ipam.subnet: %.64s is not for networks of hosts",
                       c->subnet);
    if (is_overlay(spec) &&
        (ret->prefix > ip_bits(&ret->address) - 2 || (v4 && ret->prefix < OVERLAY_PREFIX_MIN)))
        return err_set(e, ERR_INVALID, "ipam.subnet: %.64s: the prefix is not between /%d and /%u",
                       c->subnet, v4 ? OVERLAY_PREFIX_MIN : 0, ip_bits(&ret->address) - 2);
    return 0;
}

static int check_address(const char *field, const char *text, const struct ip_net *subnet,
                         struct err *e)
{
    struct ip ip, last = ip_net_last(subnet);
    char net[IP_NET_CHARS + 1];

    (void)ip_net_format(subnet, net);
    if (ip_parse(text, &ip, NULL) < 0 || ip.family != subnet->address.family)
        return err_set(e, ERR_INVALID, "ipam.%s: \"%.64s\" is no %s address", field, text,
                       subnet->address.family == IP_V6 ? "IPv6" : "IPv4");
    if (!ip_net_has(subnet, &ip))
        return err_set(e, ERR_INVALID, "ipam.%s: %s is not in the subnet %s", field, text, net);
    if (ip_equal(&ip, &subnet->address) || (ip.family == IP_V4 && ip_equal(&ip, &last)))
        return err_set(e, ERR_INVALID, "ipam.%s: %s stands for the whole subnet %s", field, text,
                       net);
    return 0;
}

static int check_reserved(const Skep__IpamConfig *c, const struct ip_net *subnet, struct err *e)
{
    int rc = validate_labels("ipam.reserved", c->reserved, c->n_reserved, e);
    struct ip mine, other;

    for (size_t i = 0; rc == 0 && i < c->n_reserved; i++) {
        const char *text = c->reserved[i]->value;

        rc = check_address("reserved", text, subnet, e);
        if (rc < 0 || ip_parse(text, &mine, e) < 0)
            return rc;
        for (size_t k = 0; rc == 0 && k < i; k++) {
            if (ip_parse(c->reserved[k]->value, &other, NULL) == 0 && ip_equal(&mine, &other))
                rc = err_set(e, ERR_INVALID, "ipam.reserved: %s is given twice", text);
        }
        if (rc == 0 && ip_parse(c->gateway, &other, NULL) == 0 && ip_equal(&mine, &other))
            rc = err_set(e, ERR_INVALID, "ipam.reserved: %s is the gateway", text);
    }
    return rc;
}

static int check_ipam(const Skep__NetworkSpec *spec, const Skep__IpamConfig *c, struct ip_net *ret,
                      struct err *e)
{
    struct ip_net range;

    if (c->subnet[0] == '\0')
        return err_set(e, ERR_INVALID, "ipam: a range, gateway or aux-address needs a subnet");
    int rc = check_subnet(spec, c, ret, e);
    if (rc == 0 && c->range[0] != '\0') {
        rc = parse_net("range", c->range, &range, e);
        if (rc == 0 && !ip_net_within(&range, ret))
            rc = err_set(e, ERR_INVALID, "ipam.range: \"%.64s\" is no part of the subnet %.64s",
                         c->range, c->subnet);
    }
    if (rc == 0 && c->gateway[0] != '\0')
        rc = check_address("gateway", c->gateway, ret, e);
    return rc == 0 ? check_reserved(c, ret, e) : rc;
}

/* One subnet per family in an overlay; elsewhere they must only not meet. */
static int check_subnets(const Skep__NetworkSpec *spec, struct err *e)
{
    struct ip_net nets[SUBNETS_MAX];
    int rc = validate_count("ipam", spec->n_ipam, SUBNETS_MAX, e);

    for (size_t i = 0; rc == 0 && i < spec->n_ipam; i++) {
        rc = check_ipam(spec, spec->ipam[i], &nets[i], e);
        for (size_t k = 0; rc == 0 && k < i; k++) {
            if (ip_net_overlap(&nets[i], &nets[k]))
                rc = err_set(e, ERR_INVALID, "ipam.subnet: %s and %s overlap",
                             spec->ipam[k]->subnet, spec->ipam[i]->subnet);
            else if (is_overlay(spec) && nets[i].address.family == nets[k].address.family)
                rc = err_set(e, ERR_INVALID,
                             "ipam.subnet: %s and %s: an overlay network has one subnet per "
                             "address family; take a larger one",
                             spec->ipam[k]->subnet, spec->ipam[i]->subnet);
        }
    }
    return rc;
}

/* ---- all of it ---- */

static void fill_network(Skep__NetworkSpec *spec, struct arena *a)
{
    struct ip_net net;

    spec->annotations = validate_complete_annotations(spec->annotations, a);
    if (spec->driver == NULL) {
        spec->driver = ARENA_NEW(a, Skep__Driver);
        skep__driver__init(spec->driver);
    }
    if (spec->config_only)
        spec->driver->name = (char *)"null";
    else if (spec->driver->name[0] == '\0')
        spec->driver->name = (char *)"overlay";
    if (spec->scope[0] == '\0')
        spec->scope = (char *)(spec->config_only ? "local" : "swarm");
    defaults_sort_map(spec->driver->options, spec->driver->n_options);
    for (size_t i = 0; i < spec->n_ipam; i++) {
        defaults_sort_map(spec->ipam[i]->reserved, spec->ipam[i]->n_reserved);
        if (ip_net_parse(spec->ipam[i]->subnet, &net, NULL) == 0 && net.address.family == IP_V6)
            spec->ipv6 = true;
    }
}

int control_validate_network(const Skep__NetworkSpec *in, struct arena *a,
                             Skep__NetworkSpec **ret_spec, struct err *e)
{
    if (message_measure(&in->base).packed > VALIDATE_SPEC_BYTES_MAX)
        return err_set(e, ERR_INVALID, "spec: more than %d bytes", VALIDATE_SPEC_BYTES_MAX);
    Skep__NetworkSpec *spec = (Skep__NetworkSpec *)message_clone_arena(a, &in->base);

    fill_network(spec, a);
    int rc = validate_file_annotations(spec->annotations, e);
    if (rc == 0)
        rc = check_driver(spec, e);
    if (rc == 0)
        rc = check_kind(spec, e);
    if (rc == 0)
        rc = check_subnets(spec, e);
    if (rc == 0)
        *ret_spec = spec;
    return rc;
}

/* Networks in the Engine API's shape. */
#include "ctl/json.h"

#include "common/text.h"

static json_t *ipam_json(const Skep__Network *n)
{
    bool allocated = n->n_ipam > 0;
    size_t count = allocated ? n->n_ipam : n->spec->n_ipam;
    Skep__IpamConfig *const *items = allocated ? n->ipam : n->spec->ipam;
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *o = json_object();

        json_set_string(o, "Subnet", items[i]->subnet);
        json_set_string(o, "IPRange", items[i]->range);
        json_set_string(o, "Gateway", items[i]->gateway);
        json_set_map(o, "AuxiliaryAddresses", items[i]->n_reserved, items[i]->reserved);
        (void)json_array_append_new(list, o);
    }
    return json_pack("{sssnso}", "Driver", "default", "Options", "Config", list);
}

/* Options as given, with what was allocated beside them, as dockerd shows the VNI. */
static json_t *options_json(const Skep__Network *n)
{
    const Skep__Driver *d = n->spec->driver;
    json_t *o = d != NULL ? json_map(d->n_options, d->options) : json_object();
    char text[TEXT_SHORT_MAX];

    if (n->vni != 0) {
        (void)snprintf(text, sizeof(text), "%u", n->vni);
        (void)json_object_set_new(o, "com.docker.network.driver.overlay.vxlanid_list",
                                  json_string(text));
    }
    if (n->mtu != 0) {
        (void)snprintf(text, sizeof(text), "%u", n->mtu);
        (void)json_object_set_new(o, "com.docker.network.driver.mtu", json_string(text));
    }
    return o;
}

json_t *json_network(const Skep__Network *n)
{
    const Skep__Annotations *a = n->spec->annotations;
    char time[TEXT_TIME_MAX];
    json_t *o = json_object();

    (void)json_object_set_new(o, "Name", json_string(a->name));
    (void)json_object_set_new(o, "Id", json_string(n->id));
    (void)json_object_set_new(
        o, "Created",
        json_string(text_format_time(time, n->meta != NULL ? n->meta->created_at : 0)));
    (void)json_object_set_new(o, "Scope",
                              json_string(n->spec->scope[0] != '\0' ? n->spec->scope : "swarm"));
    (void)json_object_set_new(o, "Driver",
                              json_string(n->spec->driver != NULL ? n->spec->driver->name : ""));
    (void)json_object_set_new(o, "EnableIPv4", json_true());
    (void)json_object_set_new(o, "EnableIPv6", json_boolean(n->spec->ipv6));
    (void)json_object_set_new(o, "IPAM", ipam_json(n));
    (void)json_object_set_new(o, "Internal", json_boolean(n->spec->internal));
    (void)json_object_set_new(o, "Attachable", json_boolean(n->spec->attachable));
    (void)json_object_set_new(o, "Ingress", json_boolean(n->spec->ingress));
    (void)json_object_set_new(o, "ConfigFrom", json_pack("{ss}", "Network", n->spec->config_from));
    (void)json_object_set_new(o, "ConfigOnly", json_boolean(n->spec->config_only));
    (void)json_object_set_new(o, "Containers", json_null());
    (void)json_object_set_new(o, "Options", options_json(n));
    (void)json_object_set_new(o, "Labels", json_map(a->n_labels, a->labels));
    json_set_string(o, "Error", n->error);
    json_set_string(o, "Warning", n->warning);
    if (n->fullness_percent > 0)
        json_set_integer(o, "FullnessPercent", n->fullness_percent);
    return o;
}

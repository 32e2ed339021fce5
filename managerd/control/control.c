#include "managerd/control/control.h"

/* clang-format off */
static const struct control_method methods[] = {
    { SKEP__METHOD__METHOD_OBJECT_GET, &skep__object_get_request__descriptor,
      NULL, control_object_get },
    { SKEP__METHOD__METHOD_OBJECT_LIST, &skep__object_list_request__descriptor,
      NULL, control_object_list },
    { SKEP__METHOD__METHOD_SERVICE_CREATE, &skep__service_create_request__descriptor,
      control_service_create, control_service_created },
    { SKEP__METHOD__METHOD_SERVICE_UPDATE, &skep__service_update_request__descriptor,
      control_service_update, control_service_updated },
    { SKEP__METHOD__METHOD_SERVICE_REMOVE, &skep__service_remove_request__descriptor,
      control_service_remove, NULL },
    { SKEP__METHOD__METHOD_NODE_UPDATE, &skep__node_update_request__descriptor,
      control_node_update, control_node_updated },
    { SKEP__METHOD__METHOD_NODE_REMOVE, &skep__node_remove_request__descriptor,
      control_node_remove, NULL },
    { SKEP__METHOD__METHOD_CLUSTER_UPDATE, &skep__cluster_update_request__descriptor,
      control_cluster_update, control_cluster_updated },
    { SKEP__METHOD__METHOD_NETWORK_CREATE, &skep__network_create_request__descriptor,
      control_network_create, control_network_created },
    { SKEP__METHOD__METHOD_NETWORK_REMOVE, &skep__network_remove_request__descriptor,
      control_network_remove, NULL },
};
/* clang-format on */

const struct control_method *control_method_find(Skep__Method method)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (methods[i].method == method)
            return &methods[i];
    }
    return NULL;
}

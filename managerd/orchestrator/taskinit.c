/* The beginning of a leadership. Running updates and delayed starts need nothing special: their
 * state is in the tasks (see orchestrator.h). What has to be found are the services, tasks whose
 * service is gone, and nodes that may have changed without a leader. swarmkit
 * manager/orchestrator/taskinit. */
#include <string.h>

#include "managerd/orchestrator/internal.h"

void taskinit_watch_all(struct orchestrator *o, const struct store *s)
{
    const ProtobufCMessage *m;
    const char *last = "";

    for (m = store_first(s, SKEP__KIND__KIND_SERVICE); m != NULL;
         m = store_after(s, SKEP__KIND__KIND_SERVICE, object_id(m)))
        (void)orchestrator_watch(o, object_id(m));
    for (m = store_first(s, SKEP__KIND__KIND_TASK); m != NULL;
         m = store_after(s, SKEP__KIND__KIND_TASK, object_id(m))) {
        const Skep__Task *t = (const Skep__Task *)m;

        if (strcmp(t->service_id, last) != 0)
            (void)orchestrator_watch(o, t->service_id);
        last = t->service_id;
        if (t->node_id[0] != '\0' && !task_dead(t) && store_node(s, t->node_id) == NULL)
            orchestrator_touch_node(o, t->node_id);
    }
    for (m = store_first(s, SKEP__KIND__KIND_NODE); m != NULL;
         m = store_after(s, SKEP__KIND__KIND_NODE, object_id(m))) {
        orchestrator_know_node(o, (const Skep__Node *)m);
        orchestrator_touch_node(o, object_id(m));
    }
}

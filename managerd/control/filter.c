/* Filters of list calls: values of one filter are ORed, filters are ANDed (docker's rule). */
#include "managerd/control/filter.h"

#include <string.h>
#include <strings.h>

static bool any_prefix(char *const *prefixes, size_t count, const char *text)
{
    if (count == 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (strncasecmp(text, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

static bool any_equal(char *const *values, size_t count, const char *text)
{
    if (count == 0)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(values[i], text) == 0)
            return true;
    }
    return false;
}

/* Labels are ANDed in docker: each wanted one must be there. */
static bool labels_match(Skep__KeyValue *const *wanted, size_t wanted_count,
                         Skep__KeyValue *const *labels, size_t count)
{
    for (size_t i = 0; i < wanted_count; i++) {
        bool found = false;

        for (size_t j = 0; j < count && !found; j++)
            found =
                strcmp(wanted[i]->key, labels[j]->key) == 0 &&
                (wanted[i]->value[0] == '\0' || strcmp(wanted[i]->value, labels[j]->value) == 0);
        if (!found)
            return false;
    }
    return true;
}

static bool annotations_match(const Skep__ObjectFilter *f, const Skep__Annotations *annotations)
{
    static Skep__KeyValue *const none[1];

    return labels_match(f->labels, f->n_labels, annotations != NULL ? annotations->labels : none,
                        annotations != NULL ? annotations->n_labels : 0);
}

static bool node_matches(const Skep__ObjectFilter *f, const Skep__Node *n)
{
    const Skep__Annotations *own = n->spec != NULL ? n->spec->annotations : NULL;
    const Skep__EngineDescription *engine = n->description != NULL ? n->description->engine : NULL;
    bool role = f->n_roles == 0;

    for (size_t i = 0; i < f->n_roles; i++)
        role = role || f->roles[i] == n->role;
    return role &&
           labels_match(f->node_labels, f->n_node_labels, own != NULL ? own->labels : NULL,
                        own != NULL ? own->n_labels : 0) &&
           labels_match(f->labels, f->n_labels, engine != NULL ? engine->labels : NULL,
                        engine != NULL ? engine->n_labels : 0);
}

static bool task_matches(const Skep__ObjectFilter *f, const Skep__Task *t, const struct store *s)
{
    bool desired = f->n_desired_states == 0, slot = f->n_slots == 0;

    for (size_t i = 0; i < f->n_desired_states; i++)
        desired = desired || f->desired_states[i] == t->desired_state;
    for (size_t i = 0; i < f->n_slots; i++)
        slot = slot || f->slots[i] == t->slot;
    if (!desired || !slot || !any_equal(f->service_ids, f->n_service_ids, t->service_id) ||
        !any_equal(f->node_ids, f->n_node_ids, t->node_id))
        return false;
    if (f->current_only) {
        const Skep__Service *service = store_service(s, t->service_id);

        if (service == NULL || service->meta->spec_version != t->spec_version)
            return false;
    }
    const Skep__Revision *revision = f->n_labels > 0 ? store_task_revision(s, t) : NULL;
    return f->n_labels == 0 ||
           (revision != NULL && annotations_match(f, revision->spec->annotations));
}

const char *control_service_mode(const Skep__ServiceSpec *spec)
{
    switch (spec->mode_case) {
    case SKEP__SERVICE_SPEC__MODE_GLOBAL:
        return "global";
    case SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB:
        return "replicated-job";
    case SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB:
        return "global-job";
    case SKEP__SERVICE_SPEC__MODE_REPLICATED:
    case SKEP__SERVICE_SPEC__MODE__NOT_SET:
    case _SKEP__SERVICE_SPEC__MODE__CASE_IS_INT_SIZE:
    default:
        return "replicated";
    }
}

static bool kind_matches(const Skep__ObjectFilter *f, const ProtobufCMessage *o,
                         const struct store *s)
{
    switch (object_kind(o)) {
    case SKEP__KIND__KIND_NODE:
        return node_matches(f, (const Skep__Node *)o);
    case SKEP__KIND__KIND_TASK:
        return task_matches(f, (const Skep__Task *)o, s);
    case SKEP__KIND__KIND_SERVICE: {
        const Skep__ServiceSpec *spec = ((const Skep__Service *)o)->spec;

        return any_equal(f->modes, f->n_modes, control_service_mode(spec)) &&
               annotations_match(f, spec->annotations);
    }
    case SKEP__KIND__KIND_NETWORK:
        return annotations_match(f, ((const Skep__Network *)o)->spec->annotations);
    case SKEP__KIND__KIND_SECRET:
        return annotations_match(f, ((const Skep__Secret *)o)->spec->annotations);
    case SKEP__KIND__KIND_CONFIG:
        return annotations_match(f, ((const Skep__Config *)o)->spec->annotations);
    case SKEP__KIND__KIND_NONE:
    case SKEP__KIND__KIND_CLUSTER:
    case SKEP__KIND__KIND_REVISION:
    case _SKEP__KIND_IS_INT_SIZE:
    default:
        return true;
    }
}

bool control_filter_matches(const Skep__ObjectFilter *f, const ProtobufCMessage *o,
                            const struct store *s)
{
    return f == NULL || (any_prefix(f->ids, f->n_ids, object_id(o)) &&
                         any_prefix(f->names, f->n_names, object_name(o)) && kind_matches(f, o, s));
}

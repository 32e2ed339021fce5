#include "test/sim/cluster_trace.h"

#include <inttypes.h>

static void trace_task(FILE *out, const Skep__Task *t)
{
    fprintf(out,
            "task %.6s of %.6s version %" PRIu64 " slot %" PRIu64 "#%" PRIu64
            " node %s wanted %d state %d cause %d iteration %" PRIu64,
            t->id, t->service_id, t->spec_version, t->slot, t->attempt, t->node_id,
            (int)t->desired_state, (int)t->status->state, (int)t->cause, t->job_iteration);
}

static void trace_update(FILE *out, const char *name, const Skep__UpdateConfig *u)
{
    if (u != NULL)
        fprintf(out, " %s %" PRIu64 " at once order %d action %d", name, u->parallelism,
                (int)u->order, (int)u->failure_action);
}

static void trace_service(FILE *out, const Skep__Service *s)
{
    fprintf(out, "service %.6s version %" PRIu64 " mode %d image %s iteration %" PRIu64, s->id,
            s->meta->spec_version, (int)s->spec->mode_case, s->spec->task->container->image,
            s->job_iteration);
    if (s->spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        fprintf(out, " replicas %" PRIu64, s->spec->replicated->replicas);
    trace_update(out, "update", s->spec->update);
    trace_update(out, "rollback", s->spec->rollback);
    if (s->update_status != NULL)
        fprintf(out, " status %d %s", (int)s->update_status->state, s->update_status->message);
}

void cluster_trace_event(FILE *out, const struct world *w, const struct store_event *ev)
{
    static const char *const actions[] = { "create", "update", "remove" };
    const ProtobufCMessage *m = ev->after != NULL ? ev->after : ev->before;

    fprintf(out, "%" PRIu64 ".%03" PRIu64 " %" PRIu64 " %s ", w->now_ms / 1000, w->now_ms % 1000,
            ev->version, actions[ev->action]);
    if (ev->kind == SKEP__KIND__KIND_TASK)
        trace_task(out, (const Skep__Task *)m);
    else if (ev->kind == SKEP__KIND__KIND_SERVICE)
        trace_service(out, (const Skep__Service *)m);
    else if (ev->kind == SKEP__KIND__KIND_NODE)
        fprintf(out, "node %s state %d availability %d", object_id(m),
                (int)((const Skep__Node *)m)->status->state,
                (int)((const Skep__Node *)m)->spec->availability);
    else
        fprintf(out, "kind %d %s", (int)ev->kind, object_id(m));
    fprintf(out, "\n");
}

/* service create, update, rollback, rm. */
#include <string.h>

#include "common/message.h"
#include "managerd/control/control.h"
#include "managerd/control/filter.h"
#include "managerd/control/validate.h"

static void subject_set(struct control_subject *subject, Skep__Kind kind, const char *id)
{
    subject->kind = kind;
    subject->id = id_from_str(id);
}

static int name_is_free(const struct store *s, const char *name, struct err *e)
{
    if (store_find_name(s, SKEP__KIND__KIND_SERVICE, name) != NULL)
        return err_set(e, ERR_EXISTS,
                       "name conflicts with an existing object: service %s already exists", name);
    return 0;
}

/* Where all ports are the hosts' own, there is nothing for the allocator to add. */
static Skep__Endpoint first_endpoint(Skep__EndpointSpec *spec)
{
    Skep__Endpoint endpoint = SKEP__ENDPOINT__INIT;

    endpoint.spec = spec;
    for (size_t i = 0; i < spec->n_ports; i++) {
        if (spec->ports[i]->publish_mode == SKEP__PUBLISH_MODE__PUBLISH_INGRESS)
            return endpoint;
    }
    endpoint.ports = spec->ports;
    endpoint.n_ports = spec->n_ports;
    return endpoint;
}

int control_service_create(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__ServiceCreateRequest *req = (const Skep__ServiceCreateRequest *)request;
    const struct store *store = env->core->store;
    Skep__Service service = SKEP__SERVICE__INIT;
    struct id id = id_from_prng(env->core->prng);

    if (req->spec == NULL)
        return err_set(e, ERR_INVALID, "spec: missing");
    int rc = control_validate_service(req->spec, env->arena, &service.spec, e);
    if (rc == 0)
        rc = control_validate_service_in(service.spec, store, "", e);
    if (rc == 0)
        rc = name_is_free(store, service.spec->annotations->name, e);
    if (rc < 0)
        return rc;
    Skep__Endpoint endpoint = first_endpoint(service.spec->endpoint);

    service.id = id.s;
    service.endpoint = &endpoint;
    store_tx_create(tx, &service.base);
    subject_set(subject, SKEP__KIND__KIND_SERVICE, id.s);
    return 0;
}

static int refuse_forbidden_changes(const Skep__ServiceSpec *old, const Skep__ServiceSpec *new,
                                    struct err *e)
{
    if (strcmp(old->annotations->name, new->annotations->name) != 0)
        return err_set(e, ERR_UNSUPPORTED, "renaming services is not supported");
    if (old->mode_case != new->mode_case)
        return err_set(e, ERR_UNSUPPORTED, "service mode change is not allowed (%s to %s)",
                       control_service_mode(old), control_service_mode(new));
    return 0;
}

/* The stored credentials stay unless new ones come along: reads never return them. */
static void keep_registry_auth(const Skep__ServiceSpec *old, Skep__ServiceSpec *new)
{
    if (new->task->container->registry_auth[0] == '\0')
        new->task->container->registry_auth = old->task->container->registry_auth;
}

/* What the previous spec names may be gone, or taken by others, by now. */
static int rollback(const struct control_env *env, const Skep__Service *old, Skep__Service *service,
                    struct err *e)
{
    if (old->previous_spec == NULL)
        return err_set(e, ERR_PRECONDITION, "service %s does not have a previous spec", old->id);
    Skep__ServiceSpec *copy =
        (Skep__ServiceSpec *)message_clone_arena(env->arena, &old->previous_spec->base);
    int rc = control_validate_service_in(copy, env->core->store, old->id, e);

    if (rc < 0)
        return err_wrap(e, rc, "the previous spec");
    service->spec = old->previous_spec;
    service->previous_spec = old->spec;
    service->previous_spec_version = old->meta->spec_version;
    return 0;
}

static int update(const struct control_env *env, const Skep__ServiceUpdateRequest *req,
                  const Skep__Service *old, Skep__Service *service, struct err *e)
{
    if (req->spec == NULL)
        return err_set(e, ERR_INVALID, "spec: missing");
    int rc = control_validate_service(req->spec, env->arena, &service->spec, e);
    if (rc == 0)
        rc = control_validate_service_in(service->spec, env->core->store, old->id, e);
    if (rc == 0)
        rc = refuse_forbidden_changes(old->spec, service->spec, e);
    if (rc < 0)
        return rc;
    if (req->keep_registry_auth)
        keep_registry_auth(old->spec, service->spec);
    service->previous_spec = old->spec;
    service->previous_spec_version = old->meta->spec_version;
    return 0;
}

int control_service_update(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__ServiceUpdateRequest *req = (const Skep__ServiceUpdateRequest *)request;
    const ProtobufCMessage *found = NULL;
    Skep__UpdateStatus status = SKEP__UPDATE_STATUS__INIT;
    int rc = store_resolve(env->core->store, SKEP__KIND__KIND_SERVICE, req->id, &found, e);

    if (rc < 0)
        return rc;
    const Skep__Service *old = (const Skep__Service *)found;
    Skep__Service service = *old;

    if (req->spec_version != 0 && req->spec_version != old->meta->spec_version)
        return err_set(e, ERR_CONFLICT, "update out of sequence: service %s was changed meanwhile",
                       old->spec->annotations->name);
    service.update_status = NULL;
    if (req->rollback) {
        rc = rollback(env, old, &service, e);
        status.state = SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED;
        status.started_at = env->core->wall_ns;
        status.message = (char *)"manually requested rollback";
        service.update_status = &status;
    } else {
        rc = update(env, req, old, &service, e);
    }
    if (rc < 0)
        return rc;
    if (service.spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB ||
        service.spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB)
        service.job_iteration = old->job_iteration + 1;
    store_tx_update(tx, &service.base, 0, old->meta->spec_version);
    subject_set(subject, SKEP__KIND__KIND_SERVICE, old->id);
    return 0;
}

int control_service_remove(const struct control_env *env, const ProtobufCMessage *request,
                           struct store_tx *tx, struct control_subject *subject, struct err *e)
{
    const Skep__ServiceRemoveRequest *req = (const Skep__ServiceRemoveRequest *)request;
    const ProtobufCMessage *found = NULL;
    int rc = store_resolve(env->core->store, SKEP__KIND__KIND_SERVICE, req->ref, &found, e);

    if (rc < 0)
        return rc;
    store_tx_remove(tx, SKEP__KIND__KIND_SERVICE, object_id(found), 0);
    subject_set(subject, SKEP__KIND__KIND_SERVICE, object_id(found));
    return 0;
}

static Skep__Service *changed_service(const struct control_env *env,
                                      const struct control_subject *subject, struct err *e)
{
    const Skep__Service *service = store_service(env->core->store, subject->id.s);

    if (service == NULL) {
        (void)err_set(e, ERR_NOT_FOUND, "service %s was removed meanwhile", subject->id.s);
        return NULL;
    }
    return control_redacted(env, &service->base)->service;
}

int control_service_created(const struct control_env *env, const ProtobufCMessage *request,
                            const struct control_subject *subject, ProtobufCMessage **ret_answer,
                            struct err *e)
{
    Skep__ServiceCreateResponse *answer = ARENA_NEW(env->arena, Skep__ServiceCreateResponse);

    (void)request; /* everything is in the subject */
    skep__service_create_response__init(answer);
    answer->service = changed_service(env, subject, e);
    answer->warnings = (char **)subject->warnings;
    answer->n_warnings = subject->warning_count;
    *ret_answer = &answer->base;
    return answer->service != NULL ? 0 : -ERR_NOT_FOUND;
}

int control_service_updated(const struct control_env *env, const ProtobufCMessage *request,
                            const struct control_subject *subject, ProtobufCMessage **ret_answer,
                            struct err *e)
{
    Skep__ServiceUpdateResponse *answer = ARENA_NEW(env->arena, Skep__ServiceUpdateResponse);

    (void)request; /* everything is in the subject */
    skep__service_update_response__init(answer);
    answer->service = changed_service(env, subject, e);
    answer->warnings = (char **)subject->warnings;
    answer->n_warnings = subject->warning_count;
    *ret_answer = &answer->base;
    return answer->service != NULL ? 0 : -ERR_NOT_FOUND;
}

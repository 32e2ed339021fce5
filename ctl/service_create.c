/* service create, update, rollback, scale: change, then show the progress. */
#include <inttypes.h>
#include <string.h>

#include "common/text.h"
#include "ctl/objects.h"
#include "ctl/progress.h"
#include "ctl/spec.h"

enum { CONFLICT_RETRIES = 10, NAME_RETRIES = 5 };

static void print_warnings(struct ctl *c, size_t count, char *const *warnings)
{
    for (size_t i = 0; i < count; i++)
        (void)fprintf(c->err, "%s\n", warnings[i]);
}

/* ---- create ---- */

static int create(struct ctl *c, Skep__ServiceSpec *spec, Skep__Service **ret, struct err *e)
{
    Skep__ServiceCreateRequest body = SKEP__SERVICE_CREATE_REQUEST__INIT;
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SERVICE_CREATE,
        .body = &body.base,
        .answer = &skep__service_create_response__descriptor,
        .mutation = true,
    };
    bool named = spec->annotations->name[0] != '\0';
    int rc = -ERR_EXISTS;

    body.spec = spec;
    for (int attempt = 0; attempt < NAME_RETRIES && rc == -ERR_EXISTS; attempt++) {
        ProtobufCMessage *m = NULL;
        const Skep__ServiceCreateResponse *answer;

        if (!named)
            spec->annotations->name = arena_strdup(&c->arena, name_random(&c->arena));
        rc = ctl_call(c, &r, &m, e);
        if (rc == 0) {
            answer = (const Skep__ServiceCreateResponse *)m;
            if (answer->service == NULL)
                return err_set(e, ERR_PROTO, "managerd answered without the service");
            print_warnings(c, answer->n_warnings, answer->warnings);
            *ret = answer->service;
        }
        if (named)
            break;
    }
    return rc;
}

int service_create(struct ctl *c)
{
    Skep__ServiceSpec *spec = NULL;
    Skep__Service *service = NULL;
    struct progress_options o = { .quiet = flags_bool(c->flags, "quiet"),
                                  .timeout_ns = flags_duration(c->flags, "wait-timeout") };
    struct err e = { 0 };
    int rc = spec_create(c, &spec, &e);

    if (rc < 0)
        return ctl_error(c, rc, &e);
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    rc = create(c, spec, &service, &e);
    if (rc < 0)
        return ctl_error(c, rc, &e);
    (void)fprintf(c->out, "%s\n", service->id);
    if (flags_bool(c->flags, "detach"))
        return 0;
    o.service_id = service->id;
    o.ref = service->id;
    return progress_wait(c, &o);
}

/* ---- update ---- */

static int send_update(struct ctl *c, Skep__ServiceUpdateRequest *body, struct err *e)
{
    struct client_request r = {
        .method = SKEP__METHOD__METHOD_SERVICE_UPDATE,
        .body = &body->base,
        .answer = &skep__service_update_response__descriptor,
        .mutation = true,
    };
    ProtobufCMessage *m = NULL;
    int rc = ctl_call(c, &r, &m, e);

    if (rc == 0)
        print_warnings(c, ((Skep__ServiceUpdateResponse *)m)->n_warnings,
                       ((Skep__ServiceUpdateResponse *)m)->warnings);
    return rc;
}

/* Changes a spec that was just read. */
typedef int spec_change_fn(struct ctl *c, Skep__ServiceSpec *spec, const void *arg, struct err *e);

/* Reads, changes and writes a service; when somebody else wrote in between, the change is made
 * again on what is there now. *ret is the service as read last. */
static int change_service(struct ctl *c, const char *ref, spec_change_fn *change, const void *arg,
                          Skep__Service **ret)
{
    struct err e = { 0 };

    for (int attempt = 0;; attempt++) {
        Skep__ServiceUpdateRequest body = SKEP__SERVICE_UPDATE_REQUEST__INIT;
        int rc = service_get(c, ref, ret, &e);

        if (rc == 0)
            rc = change(c, (*ret)->spec, arg, &e);
        if (rc == 0) {
            body.id = (*ret)->id;
            body.spec_version = (*ret)->meta != NULL ? (*ret)->meta->spec_version : 0;
            body.spec = (*ret)->spec;
            body.keep_registry_auth = (*ret)->spec->task->container->registry_auth[0] == '\0';
            rc = send_update(c, &body, &e);
        }
        if (rc == -ERR_CONFLICT && attempt < CONFLICT_RETRIES)
            continue;
        return rc < 0 ? ctl_error(c, rc, &e) : 0;
    }
}

static int roll_back(struct ctl *c, const char *ref, Skep__Service **ret)
{
    Skep__ServiceUpdateRequest body = SKEP__SERVICE_UPDATE_REQUEST__INIT;
    struct err e = { 0 };
    int rc = service_get(c, ref, ret, &e);

    if (rc == 0) {
        body.id = (*ret)->id;
        body.spec_version = (*ret)->meta != NULL ? (*ret)->meta->spec_version : 0;
        body.rollback = true;
        rc = send_update(c, &body, &e);
    }
    return rc < 0 ? ctl_error(c, rc, &e) : 0;
}

static int change_by_flags(struct ctl *c, Skep__ServiceSpec *spec, const void *arg, struct err *e)
{
    (void)arg;
    return spec_update(c, spec, e);
}

/* docker refuses other changes beside --rollback; flags of the display are none. */
static bool other_flags(struct ctl *c)
{
    static const char *const harmless[] = { "rollback", "detach", "quiet", "wait-timeout" };
    bool other = false;

    for (const struct flag *f = c->cmd->flags; f->name != NULL; f++) {
        bool ok = !flags_given(c->flags, f->name);

        for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
            ok |= strcmp(harmless[i], f->name) == 0;
        other |= !ok;
    }
    return other;
}

int service_update(struct ctl *c)
{
    const char *ref = flags_arg(c->flags, 0);
    bool rollback = flags_bool(c->flags, "rollback");
    struct progress_options o = { .ref = ref,
                                  .quiet = flags_bool(c->flags, "quiet"),
                                  .rollback_asked = rollback,
                                  .timeout_ns = flags_duration(c->flags, "wait-timeout") };
    Skep__Service *service = NULL;
    int status;

    if (rollback && other_flags(c))
        return ctl_fail(c, "other flags may not be combined with --rollback");
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    status = rollback ? roll_back(c, ref, &service)
                      : change_service(c, ref, change_by_flags, NULL, &service);
    if (status != 0)
        return status;
    (void)fprintf(c->out, "%s\n", ref);
    if (flags_bool(c->flags, "detach"))
        return 0;
    o.service_id = service->id;
    return progress_wait(c, &o);
}

int service_rollback(struct ctl *c)
{
    const char *ref = flags_arg(c->flags, 0);
    struct progress_options o = { .ref = ref,
                                  .quiet = flags_bool(c->flags, "quiet"),
                                  .rollback_asked = true,
                                  .timeout_ns = flags_duration(c->flags, "wait-timeout") };
    Skep__Service *service = NULL;
    int status;

    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    status = roll_back(c, ref, &service);
    if (status != 0)
        return status;
    (void)fprintf(c->out, "%s\n", ref);
    if (flags_bool(c->flags, "detach"))
        return 0;
    o.service_id = service->id;
    return progress_wait(c, &o);
}

/* ---- scale ---- */

static int change_replicas(struct ctl *c, Skep__ServiceSpec *spec, const void *arg, struct err *e)
{
    uint64_t replicas = *(const uint64_t *)arg;

    spec_fill(&c->arena, spec);
    if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED)
        spec->replicated->replicas = replicas;
    else if (spec->mode_case == SKEP__SERVICE_SPEC__MODE_REPLICATED_JOB)
        spec->replicated_job->total_completions = replicas;
    else
        return err_set(e, ERR_INVALID,
                       "scale can only be used with replicated or replicated-job mode");
    return 0;
}

struct scale {
    const char *ref;
    uint64_t replicas;
    const char *service_id;
};

static int parse_scale(struct ctl *c, const char *text, struct scale *ret)
{
    const char *equals = strrchr(text, '=');
    struct err e = { 0 };
    char *ref;

    if (equals == NULL || equals == text)
        return ctl_fail(c, "invalid scale specifier '%s': write SERVICE=REPLICAS", text);
    ref = arena_strdup(&c->arena, text);
    ref[equals - text] = '\0';
    if (text_parse_u64(equals + 1, &ret->replicas, &e) < 0)
        return ctl_fail(c, "invalid replicas value %s: %s", equals + 1, e.message);
    ret->ref = ref;
    return 0;
}

int service_scale(struct ctl *c)
{
    size_t count = (size_t)flags_arg_count(c->flags);
    struct scale *list = arena_array(&c->arena, count, sizeof(*list));
    int status = 0;

    for (size_t i = 0; i < count; i++)
        status |= parse_scale(c, flags_arg(c->flags, (int)i), &list[i]);
    if (status != 0)
        return status;
    if (ctl_client(c) == NULL)
        return CMD_EXIT_FAILED;
    for (size_t i = 0; i < count; i++) {
        Skep__Service *service = NULL;

        if (change_service(c, list[i].ref, change_replicas, &list[i].replicas, &service) != 0) {
            (void)fprintf(c->err, "%s was not scaled\n", list[i].ref);
            status = CMD_EXIT_FAILED;
            continue;
        }
        list[i].service_id = service->id;
        (void)fprintf(c->out, "%s scaled to %" PRIu64 "\n", list[i].ref, list[i].replicas);
    }
    for (size_t i = 0; i < count && !flags_bool(c->flags, "detach"); i++) {
        struct progress_options o = { .service_id = list[i].service_id,
                                      .ref = list[i].ref,
                                      .timeout_ns = flags_duration(c->flags, "wait-timeout") };

        if (o.service_id != NULL)
            status |= progress_wait(c, &o);
    }
    return status;
}

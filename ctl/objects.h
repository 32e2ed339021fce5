/* Reading objects from a manager: one by reference, or lists with all their pages. Everything lives
 * in the command's arena. One thread. */
#ifndef SKEP_CTL_OBJECTS_H
#define SKEP_CTL_OBJECTS_H

#include "ctl/client.h"
#include "ctl/cmd.h"
#include "proto/control.pb-c.h"

struct objects {
    size_t count;
    Skep__Object **items;
    size_t status_count;
    Skep__ServiceStatus **statuses; /* services only */
    uint64_t version;
};

/* One call in the command's arena; the client must have been opened. */
int ctl_call(struct ctl *c, const struct client_request *r, ProtobufCMessage **ret,
             struct err *e) MUST_CHECK;

/* By id, name or unique id prefix. */
int object_get(struct ctl *c, Skep__Kind kind, const char *ref, Skep__Object **ret,
               struct err *e) MUST_CHECK;
/* filter may be NULL. */
int object_list(struct ctl *c, Skep__Kind kind, const Skep__ObjectFilter *filter,
                struct objects *ret, struct err *e) MUST_CHECK;
int service_get(struct ctl *c, const char *ref, Skep__Service **ret, struct err *e) MUST_CHECK;
/* "self" is the node of the manager that answers. */
int node_get(struct ctl *c, const char *ref, Skep__Node **ret, struct err *e) MUST_CHECK;
/* A network with spec and annotations. network_show.c */
int network_get(struct ctl *c, const char *ref, Skep__Network **ret, struct err *e) MUST_CHECK;
/* host, bridge, none: every cluster has them. */
bool network_is_predefined(const Skep__Network *n);
int info_get(struct ctl *c, Skep__InfoResponse **ret, struct err *e) MUST_CHECK;
int cluster_get(struct ctl *c, Skep__Cluster **ret, struct err *e) MUST_CHECK;

/* The first 12 characters of an id. */
const char *id_short(struct arena *a, const char *id);
/* Capital first letter, as docker shows enum texts. */
const char *text_title(struct arena *a, const char *text);
/* Never NULL. */
const char *service_name(const Skep__Service *s);
const char *node_name(const Skep__Node *n);
/* NULL when the id is not in the list. */
const Skep__Service *objects_service(const struct objects *list, const char *id);
const Skep__Node *objects_node(const struct objects *list, const char *id);

/* tasks.c: prints tasks as `service ps` and `node ps` do. Returns the exit status. */
int tasks_print(struct ctl *c, const struct objects *tasks, const struct objects *services);
/* Fills f from the command's --filter flags: id, name, node, desired-state. */
int tasks_filter(struct ctl *c, Skep__ObjectFilter *f, bool with_node, struct err *e) MUST_CHECK;
/* The spec that a task was made from: its service's current one or an older revision; NULL when it
 * is gone. */
const Skep__ServiceSpec *task_spec(struct ctl *c, const Skep__Task *t,
                                   const Skep__Service *service);
/* "*:8080->80/tcp, *:90-92->90-92/tcp": published ports of one mode, as docker folds them. Pure. */
const char *ports_text(struct arena *a, size_t count, Skep__PortConfig *const *ports,
                       Skep__PublishMode mode);

/* pretty.c: inspect --pretty. */
void pretty_service(struct ctl *c, FILE *out, const Skep__Service *s);
void pretty_node(struct ctl *c, FILE *out, const Skep__Node *n);

#endif

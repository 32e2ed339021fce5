/* Objects as the Docker Engine API writes them: field names, order, omission of empty members and
 * enum texts, for inspect and --format. Pure; the caller owns the value. */
#ifndef SKEP_CTL_JSON_H
#define SKEP_CTL_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/control.pb-c.h"
#include "proto/objects.pb-c.h"

json_t *json_service(const Skep__Service *s);
json_t *json_service_spec(const Skep__ServiceSpec *s);
/* spec: of the task's revision; NULL when it is not known. */
json_t *json_task(const Skep__Task *t, const Skep__ServiceSpec *spec);
json_t *json_task_spec(const Skep__TaskSpec *t);
json_t *json_node(const Skep__Node *n);
json_t *json_node_network(const Skep__NodeNetwork *n);
json_t *json_cluster(const Skep__Cluster *c);
json_t *json_network(const Skep__Network *n);

/* Members that are left out when they are empty, and those that never are. */
void json_set_string(json_t *o, const char *key, const char *value);
void json_set_integer(json_t *o, const char *key, int64_t value);
void json_set_true(json_t *o, const char *key, bool value);
void json_set_strings(json_t *o, const char *key, size_t count, char *const *items);
void json_set_map(json_t *o, const char *key, size_t count, Skep__KeyValue *const *items);
json_t *json_map(size_t count, Skep__KeyValue *const *items);
/* ID, Version, CreatedAt, UpdatedAt. */
json_t *json_object_head(const char *id, const Skep__Meta *meta);

/* Enum texts, lower case, as docker writes them. Never NULL. */
const char *text_task_state(Skep__TaskState state);
const char *text_node_state(Skep__NodeState state);
const char *text_availability(Skep__NodeAvailability availability);
const char *text_role(Skep__NodeRole role);
const char *text_reachability(Skep__Reachability reachability);
const char *text_update_state(Skep__UpdateStatus__State state);
const char *text_failure_action(Skep__UpdateFailureAction action);
const char *text_order(Skep__UpdateOrder order);
const char *text_restart_condition(Skep__RestartCondition condition);
const char *text_protocol(Skep__Protocol protocol);
const char *text_publish_mode(Skep__PublishMode mode);
const char *text_source(Skep__SourcePolicy source);
const char *text_endpoint_mode(Skep__EndpointMode mode);
const char *text_mount_type(Skep__Mount__Type type);
/* The reverse for what people type; false when text is none of them. */
bool availability_parse(const char *text, Skep__NodeAvailability *ret);
bool role_parse(const char *text, Skep__NodeRole *ret);
bool task_state_parse(const char *text, Skep__TaskState *ret);

#endif

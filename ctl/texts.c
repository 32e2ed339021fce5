/* One list per enum: what docker's API and CLI call its values. */
#include <string.h>

#include "common/mem.h"
#include "ctl/json.h"

struct word {
    int value;
    const char *text;
};

static const char *find(const struct word *words, size_t count, int value)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i].value == value)
            return words[i].text;
    }
    return "unknown";
}

static bool parse(const struct word *words, size_t count, const char *text, int *ret)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i].text, text) == 0) {
            *ret = words[i].value;
            return true;
        }
    }
    return false;
}

#define FIND(words, value) find(words, ARRAY_LEN(words), (int)(value))

static const struct word task_states[] = {
    { SKEP__TASK_STATE__TASK_NEW, "new" },
    { SKEP__TASK_STATE__TASK_PENDING, "pending" },
    { SKEP__TASK_STATE__TASK_ASSIGNED, "assigned" },
    { SKEP__TASK_STATE__TASK_ACCEPTED, "accepted" },
    { SKEP__TASK_STATE__TASK_PREPARING, "preparing" },
    { SKEP__TASK_STATE__TASK_READY, "ready" },
    { SKEP__TASK_STATE__TASK_STARTING, "starting" },
    { SKEP__TASK_STATE__TASK_RUNNING, "running" },
    { SKEP__TASK_STATE__TASK_COMPLETE, "complete" },
    { SKEP__TASK_STATE__TASK_SHUTDOWN, "shutdown" },
    { SKEP__TASK_STATE__TASK_FAILED, "failed" },
    { SKEP__TASK_STATE__TASK_REJECTED, "rejected" },
    { SKEP__TASK_STATE__TASK_REMOVE, "remove" },
    { SKEP__TASK_STATE__TASK_ORPHANED, "orphaned" },
};

const char *text_task_state(Skep__TaskState state)
{
    return FIND(task_states, state);
}

bool task_state_parse(const char *text, Skep__TaskState *ret)
{
    int value;

    if (!parse(task_states, ARRAY_LEN(task_states), text, &value))
        return false;
    *ret = (Skep__TaskState)value;
    return true;
}

const char *text_node_state(Skep__NodeState state)
{
    static const struct word words[] = {
        { SKEP__NODE_STATE__NODE_UNKNOWN, "unknown" },
        { SKEP__NODE_STATE__NODE_DOWN, "down" },
        { SKEP__NODE_STATE__NODE_READY, "ready" },
        { SKEP__NODE_STATE__NODE_DISCONNECTED, "disconnected" },
    };

    return FIND(words, state);
}

static const struct word availabilities[] = {
    { SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE, "active" },
    { SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE, "pause" },
    { SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN, "drain" },
};

const char *text_availability(Skep__NodeAvailability availability)
{
    return FIND(availabilities, availability);
}

bool availability_parse(const char *text, Skep__NodeAvailability *ret)
{
    int value;

    if (!parse(availabilities, ARRAY_LEN(availabilities), text, &value))
        return false;
    *ret = (Skep__NodeAvailability)value;
    return true;
}

static const struct word roles[] = {
    { SKEP__NODE_ROLE__ROLE_WORKER, "worker" },
    { SKEP__NODE_ROLE__ROLE_MANAGER, "manager" },
};

const char *text_role(Skep__NodeRole role)
{
    return FIND(roles, role);
}

bool role_parse(const char *text, Skep__NodeRole *ret)
{
    int value;

    if (!parse(roles, ARRAY_LEN(roles), text, &value))
        return false;
    *ret = (Skep__NodeRole)value;
    return true;
}

const char *text_reachability(Skep__Reachability reachability)
{
    static const struct word words[] = {
        { SKEP__REACHABILITY__REACHABILITY_UNKNOWN, "unknown" },
        { SKEP__REACHABILITY__REACHABILITY_UNREACHABLE, "unreachable" },
        { SKEP__REACHABILITY__REACHABILITY_REACHABLE, "reachable" },
    };

    return FIND(words, reachability);
}

const char *text_update_state(Skep__UpdateStatus__State state)
{
    static const struct word words[] = {
        { SKEP__UPDATE_STATUS__STATE__NONE, "" },
        { SKEP__UPDATE_STATUS__STATE__UPDATING, "updating" },
        { SKEP__UPDATE_STATUS__STATE__PAUSED, "paused" },
        { SKEP__UPDATE_STATUS__STATE__COMPLETED, "completed" },
        { SKEP__UPDATE_STATUS__STATE__ROLLBACK_STARTED, "rollback_started" },
        { SKEP__UPDATE_STATUS__STATE__ROLLBACK_PAUSED, "rollback_paused" },
        { SKEP__UPDATE_STATUS__STATE__ROLLBACK_COMPLETED, "rollback_completed" },
    };

    return FIND(words, state);
}

const char *text_failure_action(Skep__UpdateFailureAction action)
{
    static const struct word words[] = {
        { SKEP__UPDATE_FAILURE_ACTION__FAILURE_PAUSE, "pause" },
        { SKEP__UPDATE_FAILURE_ACTION__FAILURE_CONTINUE, "continue" },
        { SKEP__UPDATE_FAILURE_ACTION__FAILURE_ROLLBACK, "rollback" },
    };

    return FIND(words, action);
}

const char *text_order(Skep__UpdateOrder order)
{
    return order == SKEP__UPDATE_ORDER__ORDER_START_FIRST ? "start-first" : "stop-first";
}

const char *text_restart_condition(Skep__RestartCondition condition)
{
    static const struct word words[] = {
        { SKEP__RESTART_CONDITION__RESTART_ANY, "any" },
        { SKEP__RESTART_CONDITION__RESTART_ON_FAILURE, "on-failure" },
        { SKEP__RESTART_CONDITION__RESTART_NONE, "none" },
    };

    return FIND(words, condition);
}

const char *text_protocol(Skep__Protocol protocol)
{
    static const struct word words[] = {
        { SKEP__PROTOCOL__PROTOCOL_TCP, "tcp" },
        { SKEP__PROTOCOL__PROTOCOL_UDP, "udp" },
        { SKEP__PROTOCOL__PROTOCOL_SCTP, "sctp" },
    };

    return FIND(words, protocol);
}

const char *text_publish_mode(Skep__PublishMode mode)
{
    return mode == SKEP__PUBLISH_MODE__PUBLISH_HOST ? "host" : "ingress";
}

const char *text_source(Skep__SourcePolicy source)
{
    static const struct word words[] = {
        { SKEP__SOURCE_POLICY__SOURCE_SNAT, "snat" },
        { SKEP__SOURCE_POLICY__SOURCE_PRESERVE, "preserve" },
        { SKEP__SOURCE_POLICY__SOURCE_LOCAL, "local" },
    };

    return FIND(words, source);
}

const char *text_endpoint_mode(Skep__EndpointMode mode)
{
    return mode == SKEP__ENDPOINT_MODE__ENDPOINT_DNSRR ? "dnsrr" : "vip";
}

const char *text_mount_type(Skep__Mount__Type type)
{
    static const struct word words[] = {
        { SKEP__MOUNT__TYPE__BIND, "bind" },
        { SKEP__MOUNT__TYPE__VOLUME, "volume" },
        { SKEP__MOUNT__TYPE__TMPFS, "tmpfs" },
    };

    return FIND(words, type);
}

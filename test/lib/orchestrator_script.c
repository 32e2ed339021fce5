#include "test/lib/orchestrator_script.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/assert.h"
#include "common/message.h"
#include "common/text.h"
#include "test/lib/spec_text.h"
#include "test/sim/cluster_world.h"

struct script {
    struct world world;
    struct arena arena;
    struct buf *out;
    uint64_t start_ms;
    bool quiet;
    /* Services that were there at some time: tasks outlive them. */
    struct seen {
        const char *id, *name;
        bool per_node;
    } seen[64];
    size_t seen_count;
};

/* ---- names ---- */

static void print(struct script *s, const char *format, ...) PRINTF(2, 3);

static void print(struct script *s, const char *format, ...)
{
    char line[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    int rc = buf_append_str(s->out, line);
    ASSERT(rc == 0);
}

static void see(struct script *s, const Skep__Service *service)
{
    ASSERT(s->seen_count < ARRAY_LEN(s->seen));
    s->seen[s->seen_count++] = (struct seen){
        .id = arena_strdup(&s->arena, service->id),
        .name = arena_strdup(&s->arena, service->spec->annotations->name),
        .per_node = service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL ||
                    service->spec->mode_case == SKEP__SERVICE_SPEC__MODE_GLOBAL_JOB,
    };
}

static const struct seen *service_of(const struct script *s, const Skep__Task *t)
{
    for (size_t i = 0; i < s->seen_count; i++) {
        if (strcmp(s->seen[i].id, t->service_id) == 0)
            return &s->seen[i];
    }
    UNREACHABLE();
}

static const char *task_name(struct script *s, const Skep__Task *t)
{
    const struct seen *service = service_of(s, t);

    if (service->per_node)
        return arena_printf(&s->arena, "%s.%s#%" PRIu64, service->name, t->node_id, t->attempt);
    return arena_printf(&s->arena, "%s.%" PRIu64 "#%" PRIu64, service->name, t->slot, t->attempt);
}

static const char *enum_text(struct script *s, const ProtobufCEnumDescriptor *type, int value,
                             const char *prefix)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(type, value);
    const char *name = v != NULL ? v->name : "?";

    if (strncmp(name, prefix, strlen(prefix)) == 0)
        name += strlen(prefix);
    char *text = arena_strdup(&s->arena, name);
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    return text;
}

static const char *state_text(struct script *s, Skep__TaskState state)
{
    return enum_text(s, &skep__task_state__descriptor, (int)state, "TASK_");
}

static const char *image_of(struct script *s, const Skep__Task *t)
{
    const Skep__Revision *r = store_task_revision(s->world.store, t);

    return r != NULL ? r->spec->task->container->image : "?";
}

/* Ids in messages become names. */
static const char *named(struct script *s, const char *message)
{
    const char *at = strstr(message, "of task ");
    const Skep__Task *t = at != NULL ? store_task(s->world.store, at + 8) : NULL;

    if (t == NULL)
        return message;
    return arena_printf(&s->arena, "%.*s%s", (int)(at + 8 - message), message, task_name(s, t));
}

/* ---- what happens ---- */

static void print_time(struct script *s)
{
    uint64_t ms = s->world.now_ms - s->start_ms;

    print(s, "%3" PRIu64 ".%" PRIu64 "  ", ms / 1000, ms % 1000 / 100);
}

static void task_changed(struct script *s, const Skep__Task *from, const Skep__Task *to)
{
    Skep__TaskState was = from->status->state, is = to->status->state;

    if (from->desired_state != to->desired_state) {
        print_time(s);
        print(s, "%s wanted %s\n", task_name(s, to), state_text(s, to->desired_state));
    }
    if (was != is && is >= SKEP__TASK_STATE__TASK_RUNNING) {
        print_time(s);
        print(s, "%s %s", task_name(s, to), state_text(s, is));
        print(s, is == SKEP__TASK_STATE__TASK_RUNNING ? " on %s\n" : "\n", to->node_id);
    }
}

static void service_changed(struct script *s, const Skep__Service *from, const Skep__Service *to)
{
    const Skep__UpdateStatus *status = to->update_status;

    if (status == NULL || message_equal((const ProtobufCMessage *)from->update_status,
                                        (const ProtobufCMessage *)status))
        return;
    print_time(s);
    print(s, "%s %s: %s\n", to->spec->annotations->name,
          enum_text(s, &skep__update_status__state__descriptor, (int)status->state, ""),
          named(s, status->message));
}

static void task_created(struct script *s, const Skep__Task *t)
{
    print_time(s);
    print(s, "%s %s %s%s\n", task_name(s, t),
          enum_text(s, &skep__task_cause__descriptor, (int)t->cause, "CAUSE_"), image_of(s, t),
          t->desired_state == SKEP__TASK_STATE__TASK_READY ? ", held back" : "");
}

static void on_event(void *ctx, const struct store_event *ev)
{
    struct script *s = ctx;

    if (ev->kind == SKEP__KIND__KIND_SERVICE && ev->action == STORE_CREATE)
        see(s, (const Skep__Service *)ev->after);
    if (s->quiet)
        return;
    if (ev->kind == SKEP__KIND__KIND_SERVICE && ev->action == STORE_UPDATE) {
        service_changed(s, (const Skep__Service *)ev->before, (const Skep__Service *)ev->after);
    } else if (ev->kind != SKEP__KIND__KIND_TASK) {
        return;
    } else if (ev->action == STORE_CREATE) {
        task_created(s, (const Skep__Task *)ev->after);
    } else if (ev->action == STORE_UPDATE) {
        task_changed(s, (const Skep__Task *)ev->before, (const Skep__Task *)ev->after);
    } else {
        print_time(s);
        print(s, "%s deleted\n", task_name(s, (const Skep__Task *)ev->before));
    }
}

/* ---- commands ---- */

static const char script_defaults[] =
    "task.restart.delay=5s update.parallelism=1 rollback.parallelism=1";

static int service_command(struct script *s, const char *verb, char *rest)
{
    char *name = strsep(&rest, " ");
    const Skep__Service *service = world_service(&s->world, name);

    if (strcmp(verb, "create") == 0) {
        bool job = rest != NULL && strstr(rest, "_job") != NULL;
        Skep__ServiceSpec *spec =
            spec_service(&s->arena, name, job ? "task.restart.delay=5s" : script_defaults);

        spec_set_all(&spec->base, &s->arena, rest != NULL ? rest : "");
        return world_service_create(&s->world, spec);
    }
    if (strcmp(verb, "rm") == 0)
        return world_service_remove(&s->world, name);
    if (strcmp(verb, "rollback") == 0 || service == NULL)
        return world_service_update(&s->world, name, NULL);
    Skep__ServiceSpec *spec =
        (Skep__ServiceSpec *)message_clone_arena(&s->arena, &service->spec->base);
    spec_set_all(&spec->base, &s->arena, rest != NULL ? rest : "");
    return world_service_update(&s->world, name, spec);
}

static bool node_command(struct world *w, const char *verb, char *rest)
{
    const char *id = strsep(&rest, " ");

    if (strcmp(verb, "down") == 0 || strcmp(verb, "up") == 0)
        world_node_connect(w, id, strcmp(verb, "up") == 0);
    else if (strcmp(verb, "drain") == 0)
        world_node_availability(w, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_DRAIN);
    else if (strcmp(verb, "pause") == 0)
        world_node_availability(w, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_PAUSE);
    else if (strcmp(verb, "activate") == 0)
        world_node_availability(w, id, SKEP__NODE_AVAILABILITY__AVAILABILITY_ACTIVE);
    else if (strcmp(verb, "forget") == 0)
        world_node_remove(w, id);
    else if (strcmp(verb, "label") == 0) {
        const char *key = strsep(&rest, "=");

        world_node_label(w, id, key, rest);
    } else if (strcmp(verb, "memory") == 0) {
        int64_t bytes = 0;

        if (text_parse_bytes(rest, &bytes, NULL) < 0)
            return false;
        world_node_memory(w, id, bytes);
    } else {
        return false;
    }
    return true;
}

static const Skep__Task *find_task(struct script *s, const char *name)
{
    for (const ProtobufCMessage *m = store_first(s->world.store, SKEP__KIND__KIND_TASK); m != NULL;
         m = store_after(s->world.store, SKEP__KIND__KIND_TASK, object_id(m))) {
        if (strcmp(task_name(s, (const Skep__Task *)m), name) == 0)
            return (const Skep__Task *)m;
    }
    return NULL;
}

static void end_task(struct script *s, char *rest)
{
    const Skep__Task *t = find_task(s, strsep(&rest, " "));
    const ProtobufCEnumValue *state =
        protobuf_c_enum_descriptor_get_value_by_name(&skep__task_state__descriptor, rest);

    if (t == NULL || state == NULL ||
        !world_task_end(&s->world, t->id, (Skep__TaskState)state->value))
        print(s, "no such task runs\n");
}

static int by_name(const void *a, const void *b, void *ctx)
{
    const Skep__Task *x = *(const Skep__Task *const *)a, *y = *(const Skep__Task *const *)b;
    bool per_node = service_of(ctx, x)->per_node;
    int order =
        per_node ? strcmp(x->node_id, y->node_id) : (x->slot > y->slot) - (x->slot < y->slot);

    return order != 0 ? order : (x->attempt > y->attempt) - (x->attempt < y->attempt);
}

static void show(struct script *s, const char *name)
{
    const Skep__Service *service = world_service(&s->world, name);
    size_t total = store_count(s->world.store, SKEP__KIND__KIND_TASK), count = 0;
    const Skep__Task **tasks = arena_array(&s->arena, total + 1, sizeof(*tasks));

    if (service != NULL)
        print(s, "%s: %s%s%s\n", name, service->spec->task->container->image,
              service->update_status != NULL ? ", " : "",
              service->update_status != NULL ? named(s, service->update_status->message) : "");
    for (const ProtobufCMessage *m = store_first(s->world.store, SKEP__KIND__KIND_TASK); m != NULL;
         m = store_after(s->world.store, SKEP__KIND__KIND_TASK, object_id(m))) {
        const Skep__Task *t = (const Skep__Task *)m;

        if (strcmp(service_of(s, t)->name, name) == 0)
            tasks[count++] = t;
    }
    if (count > 1)
        qsort_r(tasks, count, sizeof(*tasks), by_name, s);
    for (size_t i = 0; i < count; i++)
        print(s, "  %s %s %s%s%s, wanted %s\n", task_name(s, tasks[i]), image_of(s, tasks[i]),
              state_text(s, tasks[i]->status->state), tasks[i]->node_id[0] != '\0' ? " on " : "",
              tasks[i]->node_id, state_text(s, tasks[i]->desired_state));
    if (count == 0)
        print(s, "  no tasks\n");
}

static void nodes_command(struct script *s, char *rest)
{
    for (const char *id = strsep(&rest, " "); id != NULL; id = strsep(&rest, " "))
        world_node_add(&s->world, id);
}

static void command(struct script *s, char *line)
{
    char *rest = line;
    const char *verb = strsep(&rest, " ");
    static const char *const service_verbs[] = { "create", "update", "rollback", "rm" };

    for (size_t i = 0; i < ARRAY_LEN(service_verbs); i++) {
        if (strcmp(verb, service_verbs[i]) == 0) {
            if (service_command(s, verb, rest) < 0)
                print(s, "refused: %s\n", s->world.e.message);
            return;
        }
    }
    if (strcmp(verb, "nodes") == 0)
        nodes_command(s, rest);
    else if (strcmp(verb, "run") == 0)
        world_run_ms(&s->world, (uint64_t)(strtod(rest, NULL) * 1000 + 0.5));
    else if (strcmp(verb, "leader") == 0)
        world_change_leader(&s->world);
    else if (strcmp(verb, "clock") == 0)
        s->world.wall_ns += (int64_t)(strtod(rest, NULL) * 1e9);
    else if (strcmp(verb, "show") == 0)
        show(s, rest);
    else if (strcmp(verb, "quiet") == 0)
        s->quiet = strcmp(rest, "on") == 0;
    else if (strcmp(verb, "end") == 0)
        end_task(s, rest);
    else if (!node_command(&s->world, verb, rest))
        print(s, "unknown command %s\n", verb);
}

/* ---- the file ---- */

static void run_lines(struct script *s, char *text)
{
    bool expected = false; /* between "----" and the empty line */

    for (char *line = strsep(&text, "\n"); line != NULL; line = strsep(&text, "\n")) {
        if (expected && line[0] != '\0')
            continue; /* what was expected; what happened is there already */
        if (text == NULL && line[0] == '\0')
            return; /* after the last newline */
        expected = false;
        if (line[0] == '\0' || line[0] == '#') {
            print(s, "%s\n", line);
        } else if (strcmp(line, "----") == 0) {
            expected = true;
        } else {
            print(s, "%s\n", line);
            if (text == NULL || strncmp(text, "----", 4) != 0) {
                command(s, line);
                continue;
            }
            print(s, "----\n");
            command(s, line);
        }
    }
}

int orchestrator_script_run(const char *path, struct buf *file, struct buf *out, struct err *e)
{
    struct script *s = xcalloc(1, sizeof(*s));
    int rc = buf_read_file(file, path, e);

    if (rc < 0) {
        free(s);
        return rc;
    }
    world_init(&s->world, 1);
    s->world.watch = on_event;
    s->world.watch_ctx = s;
    s->out = out;
    run_lines(s, arena_strdup(&s->arena, buf_str(file)));
    world_deinit(&s->world);
    arena_deinit(&s->arena);
    free(s);
    return 0;
}

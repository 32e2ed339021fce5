#include <inttypes.h>
#include <string.h>

#include "common/assert.h"
#include "managerd/store/internal.h"

/* One transaction being applied. Changes go straight into the tables, so that later actions see
 * earlier ones; the first refusal undoes them from the list of changes. */
enum { WARM_BATCH = 16 };

struct apply {
    struct store *s;
    const Skep__Transaction *t;
    uint64_t index;
    struct err *e;
    struct table_hint hints[WARM_BATCH]; /* of the actions around the current one */
};

/* Room for a shallow copy of any object. */
union any_copy {
    struct any_object any;
    Skep__Node node;
    Skep__Service service;
    Skep__Task task;
    Skep__Network network;
    Skep__Cluster cluster;
    Skep__Secret secret;
    Skep__Config config;
    Skep__Revision revision;
};

/* ---- changing ---- */

static void note_change(struct store *s, struct entry *e)
{
    if (s->change_count == s->change_capacity) {
        s->change_capacity = MAX(s->change_capacity * 2, (size_t)16);
        s->changes = xrealloc_array(s->changes, s->change_capacity, sizeof(*s->changes));
    }
    s->changes[s->change_count++] = (struct change){ .entry = e, .before = e->object };
    e->change = (uint32_t)s->change_count;
}

/* Takes over the reference to `to`. What was there before the transaction is kept for undoing. */
static void set_object(struct store *s, struct entry *e, const ProtobufCMessage *to)
{
    const ProtobufCMessage *from = e->object;
    bool noted = e->change != 0;

    if (!noted)
        note_change(s, e);
    index_replace(s, e, to);
    if (noted)
        object_unref(from);
}

static void undo(struct store *s)
{
    for (size_t i = s->change_count; i-- > 0;) {
        struct change *c = &s->changes[i];
        const ProtobufCMessage *gone = c->entry->object;

        index_replace(s, c->entry, c->before);
        object_unref(gone);
        c->entry->change = 0;
        if (c->before == NULL)
            table_drop(s, c->entry);
    }
    s->change_count = 0;
    index_sweep(s);
}

/* Stores object (borrowed, shallow parts allowed) with the given meta. */
static void put(const struct apply *a, struct entry *e, const ProtobufCMessage *object,
                Skep__Meta *meta)
{
    union any_copy copy;
    Skep__TaskStatus unset = SKEP__TASK_STATUS__INIT;

    ASSERT(object->descriptor->sizeof_message <= sizeof(copy));
    memcpy(&copy, object, object->descriptor->sizeof_message);
    copy.any.meta = meta;
    if (e->kind == SKEP__KIND__KIND_TASK && copy.task.status == NULL)
        copy.task.status = &unset;
    struct message_size size = message_measure(&copy.any.base);
    set_object(a->s, e, object_new(&copy.any.base, &size));
}

/* The service's spec became `spec` with this transaction. */
static void put_revision(const struct apply *a, const Skep__Service *service)
{
    char id[STORE_REVISION_ID_CHARS + 1];
    Skep__Revision r = SKEP__REVISION__INIT;
    Skep__Meta meta = SKEP__META__INIT;

    store_revision_id(service->id, a->index, id);
    r.id = id;
    r.service_id = service->id;
    r.spec_version = a->index;
    r.spec = service->spec;
    meta.version = a->index;
    meta.created_at = a->t->wall_ns;
    meta.updated_at = a->t->wall_ns;
    struct entry *e = table_find(a->s, SKEP__KIND__KIND_REVISION, id);
    if (e == NULL)
        e = table_add(a->s, SKEP__KIND__KIND_REVISION, id);
    put(a, e, &r.base, &meta);
}

static bool service_names(const struct store *s, const struct spec_version *v)
{
    const Skep__Service *service = store_service(s, v->group->id);

    return service != NULL && (service->meta->spec_version == v->number ||
                               service->previous_spec_version == v->number);
}

static void collect_revisions(struct store *s)
{
    for (size_t i = 0; i < s->touched_count; i++) {
        struct spec_version *v = s->touched[i];

        if (v->revision != NULL && v->task_count == 0 && !service_names(s, v))
            set_object(s, v->revision, NULL);
    }
    index_sweep(s);
}

/* ---- checking ---- */

static bool id_fits(const char *id)
{
    size_t chars = strlen(id);

    if (chars == 0 || chars > STORE_ID_CHARS_MAX)
        return false;
    for (size_t i = 0; i < chars; i++) {
        if (id[i] <= ' ' || id[i] > '~')
            return false;
    }
    return true;
}

static int unwrap_checked(const struct apply *a, const Skep__Object *wrapped,
                          const ProtobufCMessage **ret_object, Skep__Kind *ret_kind)
{
    Skep__Kind kind = SKEP__KIND__KIND_NONE;
    const ProtobufCMessage *object = object_unwrap(wrapped, &kind);

    if (object == NULL)
        return err_set(a->e, ERR_INVALID, "an action without an object");
    const char *text = kind_info(kind)->text, *id = object_id(object);
    if (kind == SKEP__KIND__KIND_REVISION)
        return err_set(a->e, ERR_INVALID, "revision %s: revisions follow their service", id);
    if (!id_fits(id))
        return err_set(a->e, ERR_INVALID, "%s: the id is empty, too long or unprintable", text);
    if (kind_info(kind)->spec_offset != 0 && object_spec(object, kind) == NULL)
        return err_set(a->e, ERR_INVALID, "%s %s has no spec", text, id);
    if (message_measure(object).packed > STORE_OBJECT_BYTES_MAX)
        return err_set(a->e, ERR_TOO_BIG, "%s %s exceeds %d bytes", text, id,
                       STORE_OBJECT_BYTES_MAX);
    *ret_object = object;
    *ret_kind = kind;
    return 0;
}

/* own: the entry that may have the name. */
static int check_name(const struct apply *a, Skep__Kind kind, const ProtobufCMessage *object,
                      const struct entry *own)
{
    if (!kind_info(kind)->unique_names)
        return 0;
    const struct entry *other = index_find_name(a->s, kind, object_name(object));
    if (other == NULL || other == own)
        return 0;
    return err_set(a->e, ERR_EXISTS, "name conflicts with an existing object: %s %s already exists",
                   kind_info(kind)->text, object_name(object));
}

static int check_versions(const struct apply *a, const struct entry *e, uint64_t expect_version,
                          uint64_t expect_spec_version)
{
    const Skep__Meta *meta = object_meta(e->object);

    if ((expect_version == 0 || expect_version == meta->version) &&
        (expect_spec_version == 0 || expect_spec_version == meta->spec_version))
        return 0;
    return err_set(a->e, ERR_CONFLICT, "%s %s: update out of sequence", kind_info(e->kind)->text,
                   e->id);
}

/* What no order of transactions may undo (features.md 3.2). */
static int check_task(const struct apply *a, const Skep__Task *from, const Skep__Task *to)
{
    Skep__TaskState state = to->status != NULL ? to->status->state : SKEP__TASK_STATE__TASK_NEW;

    if (to->desired_state < from->desired_state || state < from->status->state)
        return err_set(a->e, ERR_INVALID, "task %s: states cannot go back", from->id);
    if (from->node_id[0] != '\0' && strcmp(from->node_id, to->node_id) != 0)
        return err_set(a->e, ERR_INVALID, "task %s is bound to its node", from->id);
    return 0;
}

/* ---- actions ---- */

/* A task computed before its service was removed may be applied after: it would have no spec. */
static int check_task_spec(const struct apply *a, const Skep__Task *t)
{
    if (t->service_id[0] == '\0' || store_task_revision(a->s, t) != NULL)
        return 0;
    return err_set(a->e, ERR_NOT_FOUND, "task %s: version %lu of service %s is gone", t->id,
                   (unsigned long)t->spec_version, t->service_id);
}

static int apply_create(struct apply *a, const Skep__StoreAction *action)
{
    const ProtobufCMessage *object;
    Skep__Kind kind;
    int rc = unwrap_checked(a, action->create, &object, &kind);

    if (rc < 0)
        return rc;
    const char *text = kind_info(kind)->text, *id = object_id(object);
    struct entry *e = table_find(a->s, kind, id);
    if (e != NULL && e->object != NULL)
        return err_set(a->e, ERR_EXISTS, "%s %s already exists", text, id);
    if (kind == SKEP__KIND__KIND_CLUSTER && store_cluster(a->s) != NULL)
        return err_set(a->e, ERR_EXISTS, "the cluster object already exists");
    rc = check_name(a, kind, object, NULL);
    if (rc == 0 && kind == SKEP__KIND__KIND_TASK)
        rc = check_task_spec(a, (const Skep__Task *)object);
    if (rc < 0)
        return rc;
    Skep__Meta meta = SKEP__META__INIT;
    meta.version = a->index;
    meta.created_at = a->t->wall_ns;
    meta.updated_at = a->t->wall_ns;
    meta.spec_version = kind_info(kind)->spec_offset != 0 ? a->index : 0;
    if (e == NULL)
        e = table_add(a->s, kind, id);
    put(a, e, object, &meta);
    if (kind == SKEP__KIND__KIND_SERVICE)
        put_revision(a, (const Skep__Service *)e->object);
    return 0;
}

/* What others may have written since it was computed: the allocator the endpoint, another operator,
 * with the same spec, the iteration of a job. */
static Skep__Service operators_update(const Skep__Service *from, const Skep__Service *to)
{
    Skep__Service s = *to;

    s.endpoint = from->endpoint;
    if (to->job_iteration != 0)
        s.job_iteration = from->job_iteration + 1;
    return s;
}

static int apply_update(struct apply *a, const Skep__StoreAction *action)
{
    const ProtobufCMessage *object;
    Skep__Kind kind;
    int rc = unwrap_checked(a, action->update, &object, &kind);

    if (rc < 0)
        return rc;
    struct entry *e = table_find_live(a->s, kind, object_id(object));
    if (e == NULL)
        return err_set(a->e, ERR_NOT_FOUND, "%s %s not found", kind_info(kind)->text,
                       object_id(object));
    rc = check_versions(a, e, action->expect_version, action->expect_spec_version);
    if (rc == 0)
        rc = check_name(a, kind, object, e);
    if (rc == 0 && kind == SKEP__KIND__KIND_TASK)
        rc = check_task(a, (const Skep__Task *)e->object, (const Skep__Task *)object);
    if (rc < 0)
        return rc;
    Skep__Meta meta = *object_meta(e->object);
    bool same_spec = message_equal(object_spec(e->object, kind), object_spec(object, kind));
    meta.version = a->index;
    meta.updated_at = a->t->wall_ns;
    if (!same_spec)
        meta.spec_version = a->index;
    Skep__Service service;
    if (kind == SKEP__KIND__KIND_SERVICE && action->expect_spec_version != 0) {
        service = operators_update((const Skep__Service *)e->object, (const Skep__Service *)object);
        object = &service.base;
    }
    put(a, e, object, &meta);
    if (!same_spec && kind == SKEP__KIND__KIND_SERVICE)
        put_revision(a, (const Skep__Service *)e->object);
    return 0;
}

static int apply_remove(struct apply *a, const Skep__StoreAction *action)
{
    const Skep__ObjectRef *ref = action->remove;

    if (ref == NULL || !kind_valid((int)ref->kind) || ref->kind == SKEP__KIND__KIND_REVISION)
        return err_set(a->e, ERR_INVALID, "remove: not a kind of object");
    struct entry *e = table_find_live(a->s, ref->kind, ref->id);
    if (e == NULL)
        return err_set(a->e, ERR_NOT_FOUND, "%s %s not found", kind_info(ref->kind)->text, ref->id);
    int rc = check_versions(a, e, action->expect_version, action->expect_spec_version);
    if (rc < 0)
        return rc;
    set_object(a->s, e, NULL);
    return 0;
}

static bool state_known(Skep__TaskState state)
{
    return protobuf_c_enum_descriptor_get_value(&skep__task_state__descriptor, (int)state) != NULL;
}

/* See TaskDelta: what would go backwards is left out; the rest is merged. */
static int apply_task(struct apply *a, const Skep__StoreAction *action,
                      const struct table_hint *hint)
{
    const Skep__TaskDelta *d = action->task;

    if (d == NULL)
        return err_set(a->e, ERR_INVALID, "an action without a task");
    struct entry *e = table_hint_check(hint, SKEP__KIND__KIND_TASK, d->task_id)
                          ? hint->entry
                          : table_find(a->s, SKEP__KIND__KIND_TASK, d->task_id);
    if (e == NULL || e->object == NULL)
        return 0;
    Skep__Task task = *(const Skep__Task *)e->object;
    Skep__TaskStatus status;
    Skep__Meta meta = *task.meta;
    bool binds = d->node_id[0] != '\0' && task.node_id[0] == '\0', changed = binds;

    if (binds && table_find_live(a->s, SKEP__KIND__KIND_NODE, d->node_id) == NULL)
        return 0; /* removed since it was chosen: the scheduler chooses again */
    if (d->desired_state > task.desired_state && state_known(d->desired_state)) {
        task.desired_state = d->desired_state;
        changed = true;
    }
    if (binds)
        task.node_id = d->node_id;
    if (d->status != NULL && d->status->state >= task.status->state &&
        state_known(d->status->state)) {
        status = *d->status;
        status.applied_at = a->t->wall_ns;
        task.status = &status;
        if (status.state == SKEP__TASK_STATE__TASK_RUNNING && task.running_at == 0)
            task.running_at = a->t->wall_ns;
        changed = true;
    }
    if (d->n_networks > 0) {
        task.n_networks = d->n_networks;
        task.networks = d->networks;
        changed = true;
    }
    if (d->slot != 0 && d->slot != task.slot) {
        task.slot = d->slot;
        changed = true;
    }
    if (!changed)
        return 0;
    meta.version = a->index;
    meta.updated_at = a->t->wall_ns;
    task.meta = &meta;
    struct message_size size = message_measure(&task.base);
    if (size.packed <= STORE_OBJECT_BYTES_MAX)
        set_object(a->s, e, object_new(&task.base, &size));
    return 0;
}

static int apply_action(struct apply *a, const Skep__StoreAction *action,
                        const struct table_hint *hint)
{
    switch (action->action_case) {
    case SKEP__STORE_ACTION__ACTION_CREATE:
        return apply_create(a, action);
    case SKEP__STORE_ACTION__ACTION_UPDATE:
        return apply_update(a, action);
    case SKEP__STORE_ACTION__ACTION_TASK:
        return apply_task(a, action, hint);
    case SKEP__STORE_ACTION__ACTION_REMOVE:
        return apply_remove(a, action);
    case SKEP__STORE_ACTION__ACTION__NOT_SET:
    case _SKEP__STORE_ACTION__ACTION__CASE_IS_INT_SIZE:
        break;
    }
    return err_set(a->e, ERR_INVALID, "an action of an unknown kind");
}

/* ---- the transaction ---- */

/* Fetches what the next task deltas will touch: the tables are far larger than the caches, and
 * waiting for memory one task at a time would take longer than all the rest. */
static void warm(struct apply *a, size_t first)
{
    size_t count = MIN(a->t->n_actions - first, (size_t)WARM_BATCH);

    for (size_t i = 0; i < count; i++) {
        const Skep__StoreAction *action = a->t->actions[first + i];
        bool task = action->action_case == SKEP__STORE_ACTION__ACTION_TASK && action->task != NULL;

        a->hints[i] = (struct table_hint){ 0 };
        if (task)
            table_hint(a->s, SKEP__KIND__KIND_TASK, action->task->task_id, &a->hints[i]);
    }
    for (size_t i = 0; i < count; i++)
        table_hint_entry(a->s, &a->hints[i]);
    for (size_t i = 0; i < count; i++)
        table_hint_object(a->s, &a->hints[i]);
}

static int apply_all(struct apply *a)
{
    const Skep__Transaction *t = a->t;

    if (t->n_actions > STORE_TX_ACTIONS_MAX)
        return err_set(a->e, ERR_TOO_BIG, "a transaction of %zu actions", t->n_actions);
    for (size_t i = 0; i < t->n_actions; i++) {
        if (i % WARM_BATCH == 0)
            warm(a, i);
        int rc = apply_action(a, t->actions[i], &a->hints[i % WARM_BATCH]);

        if (rc < 0)
            return rc;
    }
    collect_revisions(a->s);
    return 0;
}

enum { GRAVES_PER_APPLY = 16 };

/* Ends the changes: entries without an object go, events are told and kept. */
static void finish(struct store *s, const struct store_listener *to)
{
    size_t told = 0;

    for (size_t i = 0; i < s->change_count; i++) {
        struct change *c = &s->changes[i];
        struct store_event ev = { .kind = c->entry->kind,
                                  .before = c->before,
                                  .after = c->entry->object,
                                  .version = s->version };

        c->entry->change = 0;
        if (ev.after == NULL)
            table_drop(s, c->entry);
        if (ev.before == NULL && ev.after == NULL)
            continue;
        ev.action = ev.before == NULL  ? STORE_CREATE
                    : ev.after == NULL ? STORE_REMOVE
                                       : STORE_UPDATE;
        history_add(&s->history, &ev);
        told++;
    }
    s->change_count = 0;
    history_tell(&s->history, told, to);
    history_trim(&s->history);
    graveyard_sweep(s->graveyard, GRAVES_PER_APPLY + 2 * told);
}

static const char *first_object_id(const Skep__Transaction *t)
{
    const Skep__StoreAction *a = t->n_actions > 0 ? t->actions[0] : NULL;
    Skep__Kind kind;

    if (a == NULL)
        return "";
    if (a->action_case == SKEP__STORE_ACTION__ACTION_REMOVE)
        return a->remove != NULL ? a->remove->id : "";
    if (a->action_case == SKEP__STORE_ACTION__ACTION_TASK)
        return a->task != NULL ? a->task->task_id : "";
    if (a->action_case != SKEP__STORE_ACTION__ACTION_CREATE &&
        a->action_case != SKEP__STORE_ACTION__ACTION_UPDATE)
        return "";
    const ProtobufCMessage *object = object_unwrap(a->create, &kind);
    return object != NULL ? object_id(object) : "";
}

int store_apply(struct store *s, uint64_t index, const Skep__Transaction *t,
                const struct store_listener *to, struct err *e)
{
    struct err local = { 0 };
    struct apply a = { .s = s, .t = t, .index = index, .e = e != NULL ? e : &local };

    ASSERT(index > s->version);
    ASSERT(s->change_count == 0 && s->touched_count == 0);
    s->version = index;
    if (t->request_id.len != 0 && t->request_id.len != STORE_REQUEST_ID_BYTES)
        return err_set(e, ERR_INVALID, "a request id of %zu bytes", t->request_id.len);
    const struct request *seen =
        t->request_id.len != 0 ? request_find(s, t->request_id.data) : NULL;
    if (seen != NULL)
        return seen->code == 0 ? 0 : err_set(e, (enum err_code)seen->code, "%s", seen->text);
    int rc = apply_all(&a);
    if (rc < 0)
        undo(s);
    else
        finish(s, to);
    if (t->request_id.len != 0)
        request_add(s, t->request_id.data, index, -rc,
                    rc < 0 ? err_message(a.e, rc) : first_object_id(t));
    return rc;
}

int store_apply_packed(struct store *s, uint64_t index, ProtobufCBinaryData data,
                       const struct store_listener *to, struct err *e)
{
    ProtobufCAllocator allocator = message_arena_allocator(&s->decode);
    Skep__Transaction *t = skep__transaction__unpack(&allocator, data.len, data.data);

    if (t == NULL) {
        arena_reset(&s->decode);
        return err_set(e, ERR_PROTO, "entry %" PRIu64 " does not decode as a transaction", index);
    }
    int rc = store_apply(s, index, t, to, e);
    arena_reset(&s->decode);
    return rc;
}

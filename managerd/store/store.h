/* The replicated store: typed tables of immutable, reference-counted protobuf objects with ordered
 * iteration. Every manager holds one; it changes only by store_apply(), which is deterministic:
 * same transactions in the same order, same bytes, on every manager. Pure: no I/O, clock or
 * randomness.
 *
 * Reading returns borrowed pointers, valid until the next store_apply(); object_ref() keeps one
 * longer (a snapshot does). Objects are one block of memory each; nobody writes into them.
 *
 * Concurrency: transactions are computed from what is committed and proposed without a lock; many
 * may be in flight. What a decision relied on travels along as an expectation and is checked again
 * at apply (optimistic, as SwarmKit's versions, but at the state machine). */
#ifndef SKEP_MANAGERD_STORE_STORE_H
#define SKEP_MANAGERD_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/id.h"
#include "common/mem.h"
#include "proto/objects.pb-c.h"

enum {
    STORE_TX_ACTIONS_MAX = 4096,
    STORE_TX_BYTES_MAX = 3 << 19, /* 1.5 MiB packed, SwarmKit's figure */
    STORE_OBJECT_BYTES_MAX = 1 << 20,
    STORE_KIND_COUNT = 9, /* SKEP__KIND__KIND_REVISION + 1 */
};

struct store;

struct store *store_new(void);
void store_free(struct store *s);

/* Raft index of the last applied transaction. */
uint64_t store_version(const struct store *s);

/* ---- objects ---- */

/* Any object message (Skep__Node …) that came out of a store. */
const void *object_ref(const void *object);
void object_unref(const void *object);
Skep__Kind object_kind(const ProtobufCMessage *object);
const char *object_id(const ProtobufCMessage *object);
/* Name in the spec's annotations; "" for tasks and revisions; nodes: the hostname. */
const char *object_name(const ProtobufCMessage *object);
const Skep__Meta *object_meta(const ProtobufCMessage *object);

/* ---- reading: NULL when there is none ---- */

const ProtobufCMessage *store_get(const struct store *s, Skep__Kind kind, const char *id);
/* Names are unique per kind and compared without case; nodes (hostnames) may repeat: first by id.
 */
const ProtobufCMessage *store_find_name(const struct store *s, Skep__Kind kind, const char *name);
/* By id, then name, then unique id prefix (docker's order). -ERR_NOT_FOUND or -ERR_INVALID when a
 * prefix is ambiguous; the message says which and names the kind as docker does. */
int store_resolve(const struct store *s, Skep__Kind kind, const char *ref,
                  const ProtobufCMessage **ret_object, struct err *e) MUST_CHECK;
const Skep__Node *store_node(const struct store *s, const char *id);
const Skep__Service *store_service(const struct store *s, const char *id);
const Skep__Task *store_task(const struct store *s, const char *id);
/* The one cluster object. */
const Skep__Cluster *store_cluster(const struct store *s);
/* The spec that a task was created from; NULL once its service and all its tasks are gone. */
const Skep__Revision *store_revision(const struct store *s, const char *service_id,
                                     uint64_t spec_version);
const Skep__Revision *store_task_revision(const struct store *s, const Skep__Task *task);
/* Writes "<service id>.<spec version>". */
enum { STORE_REVISION_ID_CHARS = ID_CHARS + 1 + 20 };
void store_revision_id(const char *service_id, uint64_t spec_version,
                       char ret_id[STORE_REVISION_ID_CHARS + 1]);
size_t store_count(const struct store *s, Skep__Kind kind);

/* Ordered scans, by id. for (o = store_first(…); o; o = store_next(…)) — the id of the current
 * object is enough to go on, so a scan may be resumed after changes. */
const ProtobufCMessage *store_first(const struct store *s, Skep__Kind kind);
/* The first object with an id greater than after_id. O(log n). */
const ProtobufCMessage *store_after(const struct store *s, Skep__Kind kind, const char *after_id);

/* Tasks of one service in (slot, id) order, tasks of one node in id order. O(1) per step; not
 * across store_apply(). */
struct store_iter {
    const void *at;
    const void *index;
};
const Skep__Task *store_service_tasks(const struct store *s, const char *service_id,
                                      struct store_iter *it);
const Skep__Task *store_node_tasks(const struct store *s, const char *node_id,
                                   struct store_iter *it);
/* Begins with the first task of that slot or, when it has none, of the next one: go on while
 * task->slot == slot. O(log n). */
const Skep__Task *store_slot_tasks(const struct store *s, const char *service_id, uint64_t slot,
                                   struct store_iter *it);
const Skep__Task *store_iter_next(struct store_iter *it);
size_t store_service_task_count(const struct store *s, const char *service_id);

/* ---- transactions ---- */

/* Collects actions; what is passed in is copied. */
struct store_tx;
struct store_tx *store_tx_new(void);
void store_tx_free(struct store_tx *tx);
void store_tx_clear(struct store_tx *tx);
/* object's meta is set at apply and ignored here. */
void store_tx_create(struct store_tx *tx, const ProtobufCMessage *object);
/* object carries the id of what it replaces. Expectations: 0 = not checked. A service's update that
 * expects a spec version is an operator's: its endpoint stays as it is stored, because the
 * allocator may have written it since the update was computed; a job's iteration, unless 0, becomes
 * the next one of what is stored. */
void store_tx_update(struct store_tx *tx, const ProtobufCMessage *object, uint64_t expect_version,
                     uint64_t expect_spec_version);
void store_tx_remove(struct store_tx *tx, Skep__Kind kind, const char *id, uint64_t expect_version);
/* Merged at apply as TaskDelta in proto/objects.proto says; never refuses the transaction. */
void store_tx_task(struct store_tx *tx, const Skep__TaskDelta *delta);
size_t store_tx_action_count(const struct store_tx *tx);
/* True when another action might break a limit: propose this one first. */
bool store_tx_full(const struct store_tx *tx);
/* The packed transaction, malloc'ed, for a Raft entry. wall_ns: the leader's clock. */
void store_tx_pack(const struct store_tx *tx, int64_t wall_ns, const uint8_t *request_id,
                   uint8_t **ret_data, size_t *ret_size);
/* The same as a message that the tx owns, for tests, benches and the simulator. */
const Skep__Transaction *store_tx_message(const struct store_tx *tx);

enum store_action { STORE_CREATE, STORE_UPDATE, STORE_REMOVE };
struct store_event {
    enum store_action action;
    Skep__Kind kind;
    const ProtobufCMessage *before; /* NULL on create */
    const ProtobufCMessage *after;  /* NULL on remove */
    uint64_t version;
};
typedef void store_event_fn(void *ctx, const struct store_event *ev);
struct store_listener {
    store_event_fn *fn;
    void *ctx;
};

/* Applies a transaction at a Raft index: everything or nothing. Tells the listener (NULL:
 * nobody) once per changed object after all changes are in (objects of the event are valid during
 * the call). A refused transaction returns -ERR_CONFLICT (expected version), -ERR_EXISTS (id or
 * name), -ERR_NOT_FOUND (update or remove of what is gone) or -ERR_INVALID, with the object named
 * in e, and changes nothing but the store's version. A service's spec change (create, update with
 * another spec) also writes its Revision and sets meta.spec_version = index; unreferenced revisions
 * go with the last task or service that named them. A replayed request_id within the kept window
 * returns its first result.
 */
int store_apply(struct store *s, uint64_t index, const Skep__Transaction *t,
                const struct store_listener *to, struct err *e) MUST_CHECK;
/* Decodes and applies. -ERR_PROTO when data is no transaction (the caller must stop applying). */
int store_apply_packed(struct store *s, uint64_t index, ProtobufCBinaryData data,
                       const struct store_listener *to, struct err *e) MUST_CHECK;

/* What became of the transaction with this request id (16 bytes), if it is among the last
 * STORE_REQUESTS of them. */
enum { STORE_REQUESTS = 4096, STORE_REQUEST_ID_BYTES = 16 };
struct store_result {
    uint64_t version;
    int rc;                /* as store_apply() returned it */
    const char *message;   /* of a refusal, else "" */
    const char *object_id; /* rc 0: of the first action's object, e.g. what the call created */
};
bool store_find_result(const struct store *s, const uint8_t *request_id,
                       struct store_result *ret_result);

/* ---- watching ---- */

/* The last STORE_HISTORY_EVENTS changes are kept for resuming watches. Fills up to max events after
 * version `since`; returns the count, or -ERR_STALE when `since` is no longer kept. Events of one
 * version are never split. Fewer when they keep more than STORE_HISTORY_BYTES of replaced objects
 * alive. -ERR_STALE, too, when max is smaller than the events of the next version. Objects are
 * valid until the next store_apply(). */
enum { STORE_HISTORY_EVENTS = 16384, STORE_HISTORY_BYTES = 2 << 20 };
int store_history(const struct store *s, uint64_t since, struct store_event *ret_events,
                  size_t max);

/* ---- snapshots ---- */

/* All objects at one version: a copy of their addresses, no serialising and no counting (100 000
 * objects: well under a millisecond); the disk thread packs them later with store_snapshot_next().
 * Taken and freed on the loop thread; the store keeps replaced objects that a snapshot has. A
 * snapshot may outlive the store. */
struct store_snapshot;
struct store_snapshot *store_snapshot_take(const struct store *s);
uint64_t store_snapshot_version(const struct store_snapshot *snap);
/* Packs the next objects, up to max bytes, into mem; returns the size, 0 at the end. Any thread. */
size_t store_snapshot_next(struct store_snapshot *snap, uint8_t *mem, size_t max);
void store_snapshot_free(struct store_snapshot *snap);
/* Loading: begin empties a new store aside, feed takes the chunks in any cut, finish swaps it in.
 */
struct store_loader;
struct store_loader *store_loader_new(void);
int store_loader_feed(struct store_loader *l, const uint8_t *mem, size_t size,
                      struct err *e) MUST_CHECK;
int store_loader_finish(struct store_loader *l, uint64_t version, struct store *s,
                        struct err *e) MUST_CHECK;
void store_loader_free(struct store_loader *l);

/* Equal on managers with equal content at equal version. O(objects). */
uint64_t store_hash(const struct store *s);

#endif

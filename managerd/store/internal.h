/* Inside the store: what its files share. An entry stands for one id for as long as the object
 * lives; its object is replaced by every change. Order of files: object.c (memory), table.c
 * (entries and lookups), index.c (tasks by service and node, names, revisions), apply.c, history.c,
 * snapshot.c, resolve.c; tx.c is independent of the others. */
#ifndef SKEP_MANAGERD_STORE_INTERNAL_H
#define SKEP_MANAGERD_STORE_INTERNAL_H

#include "common/arena.h"
#include "common/map.h"
#include "common/message.h"
#include "common/tree.h"
#include "managerd/store/store.h"

/* ---- objects ---- */

/* What every object message begins with. */
struct any_object {
    ProtobufCMessage base;
    char *id;
    Skep__Meta *meta;
};

struct kind_info {
    const char *text;
    const ProtobufCMessageDescriptor *descriptor;
    Skep__Object__ObjectCase object_case;
    uint32_t spec_offset; /* of the pointer to the spec; 0: has none */
    bool unique_names;
};
/* Kinds from 1 to STORE_KIND_COUNT - 1. */
const struct kind_info *kind_info(Skep__Kind kind);
bool kind_valid(int kind);

/* A counted copy with one reference; m may point anywhere; size is its measure. */
const ProtobufCMessage *object_new(const ProtobufCMessage *m, const struct message_size *size);
size_t object_size(const ProtobufCMessage *object);
/* NULL when the kind has no spec or none is set. */
const ProtobufCMessage *object_spec(const ProtobufCMessage *object, Skep__Kind kind);
/* What an Object message wraps; NULL when nothing. */
const ProtobufCMessage *object_unwrap(const Skep__Object *wrapped, Skep__Kind *ret_kind);
void object_wrap(const ProtobufCMessage *object, Skep__Kind kind, Skep__Object *ret_wrapped);

/* ---- tables ---- */

struct entry {
    struct tree_node by_id;         /* in tables[kind] */
    const ProtobufCMessage *object; /* one reference; NULL: removed by the running transaction */
    uint64_t prefix;                /* the id's first 8 characters, in sorting order */
    uint32_t change;                /* 1 + place in store.changes while a transaction runs */
    Skep__Kind kind;
    uint32_t id_chars;
    uint32_t place; /* in store.live, while there is an object */
    /* tasks only */
    uint64_t slot; /* as in by_service */
    struct tree_node by_service;
    struct group *service, *node; /* NULL: none */
    uint32_t by_node;             /* place in node->list */
    struct spec_version *version;
    char id[];
};

/* The tasks of one service or of one node. Exists while it has a task or a revision. */
struct group {
    bool by_node;
    /* services */
    struct tree tasks;
    struct tree versions; /* struct spec_version */
    /* Nodes: tasks come and go much more often than they are listed, so a new one is put at the
     * end and the list is ordered when somebody reads it. */
    struct entry **list; /* NULL: gone */
    uint32_t list_count; /* places in use, gone ones included */
    uint32_t list_capacity;
    uint32_t sorted_count; /* places that are in order */
    uint32_t task_count;
    char id[];
};

/* One service version that a task or a revision stands for. */
struct spec_version {
    struct tree_node by_number; /* in group.versions */
    struct group *group;
    uint64_t number;
    size_t task_count;
    struct entry *revision; /* NULL: none */
    bool touched;           /* in store.touched */
};

struct change {
    struct entry *entry;
    const ProtobufCMessage *before; /* owns a reference; NULL: created */
};

struct request {
    uint8_t id[16];
    uint64_t version;
    int code;   /* 0 or a positive ERR_* */
    char *text; /* the error, or the first object's id */
};

/* Snapshots do not count references, which would mean touching every object while the loop thread
 * waits. Instead, what the store lets go of is kept until no snapshot can contain it: an object
 * that was replaced at version r is in no snapshot of version r or later. Shared by a store and its
 * snapshots, because a snapshot may outlive the store's content (store_loader_finish). */
struct retired {
    const ProtobufCMessage *object; /* owns a reference */
    uint64_t version;               /* replaced at */
};
struct graveyard {
    struct retired *retired; /* a ring, by version */
    size_t capacity, first, count;
    struct store_snapshot *snapshots; /* those that live, newest first */
    bool closed;                      /* the store is gone; the last snapshot frees this */
};
struct graveyard *graveyard_new(void);
/* Lets go of the store's reference to an object that was replaced at version. */
void graveyard_bury(struct graveyard *y, const ProtobufCMessage *object, uint64_t version);
/* Frees up to max objects that no snapshot needs. */
void graveyard_sweep(struct graveyard *y, size_t max);
/* The store is gone. */
void graveyard_close(struct graveyard *y);

struct history {
    struct store_event *events; /* a ring; each owns references to before and after */
    size_t capacity, first, count;
    size_t bytes;   /* of the before objects: what only history keeps alive */
    uint64_t floor; /* changes up to this version are not kept */
    struct graveyard *graveyard;
};

enum { STORE_ID_CHARS_MAX = ID_CHARS }; /* so that a revision id has room */

struct store {
    uint64_t version;
    struct tree tables[STORE_KIND_COUNT];
    struct map ids;      /* entries by (kind, id) */
    struct map names;    /* entries by (kind, name), kinds with unique names */
    struct map services; /* groups by id */
    struct map nodes;
    /* All entries with an object, and those objects: what a snapshot copies. No order. */
    struct entry **live;
    const ProtobufCMessage **objects;
    size_t live_count, live_capacity;
    struct graveyard *graveyard;
    struct request *requests; /* a ring of STORE_REQUESTS, made by the first use */
    size_t request_first, request_count;
    struct map request_ids;
    struct history history;
    struct arena decode;
    /* the running transaction */
    struct change *changes;
    size_t change_count, change_capacity;
    struct spec_version **touched;
    size_t touched_count, touched_capacity;
};

struct entry *entry_of(const struct tree_node *by_id);
/* NULL when there is none; finds entries that the running transaction removed, too. */
struct entry *table_find(const struct store *s, Skep__Kind kind, const char *id);
/* Only those that have an object. */
struct entry *table_find_live(const struct store *s, Skep__Kind kind, const char *id);
/* Fetching ahead, in three steps with time between them: the slot, the entry, the object. Entries
 * stay until the end of a transaction, so a hint may be used for as long. */
struct table_hint {
    bool set;
    uint64_t hash;
    struct entry *entry; /* probably */
};
void table_hint(const struct store *s, Skep__Kind kind, const char *id,
                struct table_hint *ret_hint);
void table_hint_entry(const struct store *s, struct table_hint *h);
void table_hint_object(const struct store *s, const struct table_hint *h);
/* True when the hint is the entry of this id. */
bool table_hint_check(const struct table_hint *h, Skep__Kind kind, const char *id);
/* Makes an entry without an object; it joins its tree with the first object. */
struct entry *table_add(struct store *s, Skep__Kind kind, const char *id);
/* Frees an entry without an object. */
void table_drop(struct store *s, struct entry *e);

/* Sets what an entry holds (NULL: nothing) and keeps all indexes right; the references stay the
 * caller's to settle. */
void index_replace(struct store *s, struct entry *e, const ProtobufCMessage *to);
struct entry *index_find_name(const struct store *s, Skep__Kind kind, const char *name);
struct group *index_group(const struct store *s, bool by_node, const char *id);
struct spec_version *index_version(const struct group *g, uint64_t number);
/* Notes a version whose revision may have become useless. */
void index_touch(struct store *s, struct spec_version *v);
/* Frees touched versions and groups that nothing is left of; revisions first by the caller. */
void index_sweep(struct store *s);

/* ---- results and history ---- */

/* Remembers a result; an old one beyond the window goes. */
void request_add(struct store *s, const uint8_t *id, uint64_t version, int code, const char *text);
const struct request *request_find(const struct store *s, const uint8_t *id);
const struct request *request_at(const struct store *s, size_t i);

/* Takes over before's reference and makes one for after. Events of one transaction are added, told
 * and then trimmed to the limit in bytes. */
void history_add(struct history *h, const struct store_event *ev);
/* Tells of the last count events. */
void history_tell(const struct history *h, size_t count, const struct store_listener *to);
void history_trim(struct history *h);
void history_clear(struct history *h, uint64_t floor);

#endif

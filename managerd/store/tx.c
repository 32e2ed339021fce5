#include <string.h>

#include "common/assert.h"
#include "managerd/store/internal.h"

struct store_tx {
    Skep__Transaction message;
    struct arena arena; /* the actions and all they point to */
    size_t action_capacity;
    size_t packed; /* bytes of the packed actions */
};

struct store_tx *store_tx_new(void)
{
    struct store_tx *tx = xcalloc(1, sizeof(*tx));

    skep__transaction__init(&tx->message);
    return tx;
}

void store_tx_free(struct store_tx *tx)
{
    if (tx == NULL)
        return;
    arena_deinit(&tx->arena);
    free(tx->message.actions);
    free(tx);
}

void store_tx_clear(struct store_tx *tx)
{
    arena_reset(&tx->arena);
    tx->message.n_actions = 0;
    tx->packed = 0;
}

/* a borrows everything it points to. */
static void add(struct store_tx *tx, const Skep__StoreAction *a)
{
    struct message_size size = message_measure(&a->base);
    void *mem = arena_alloc(&tx->arena, size.structs + size.bytes);

    if (tx->message.n_actions == tx->action_capacity) {
        tx->action_capacity = MAX(tx->action_capacity * 2, (size_t)16);
        tx->message.actions = xrealloc_array(tx->message.actions, tx->action_capacity,
                                             sizeof(struct Skep__StoreAction *));
    }
    tx->message.actions[tx->message.n_actions++] =
        (Skep__StoreAction *)message_clone_at(mem, &a->base, &size);
    tx->packed += size.packed + 1 + 5; /* tag and length */
}

void store_tx_create(struct store_tx *tx, const ProtobufCMessage *object)
{
    Skep__StoreAction a = SKEP__STORE_ACTION__INIT;
    Skep__Object wrapped;

    object_wrap(object, object_kind(object), &wrapped);
    a.action_case = SKEP__STORE_ACTION__ACTION_CREATE;
    a.create = &wrapped;
    add(tx, &a);
}

void store_tx_update(struct store_tx *tx, const ProtobufCMessage *object, uint64_t expect_version,
                     uint64_t expect_spec_version)
{
    Skep__StoreAction a = SKEP__STORE_ACTION__INIT;
    Skep__Object wrapped;

    object_wrap(object, object_kind(object), &wrapped);
    a.expect_version = expect_version;
    a.expect_spec_version = expect_spec_version;
    a.action_case = SKEP__STORE_ACTION__ACTION_UPDATE;
    a.update = &wrapped;
    add(tx, &a);
}

void store_tx_remove(struct store_tx *tx, Skep__Kind kind, const char *id, uint64_t expect_version)
{
    Skep__StoreAction a = SKEP__STORE_ACTION__INIT;
    Skep__ObjectRef ref = SKEP__OBJECT_REF__INIT;

    ref.kind = kind;
    ref.id = (char *)(uintptr_t)id;
    a.expect_version = expect_version;
    a.action_case = SKEP__STORE_ACTION__ACTION_REMOVE;
    a.remove = &ref;
    add(tx, &a);
}

void store_tx_task(struct store_tx *tx, const Skep__TaskDelta *delta)
{
    Skep__StoreAction a = SKEP__STORE_ACTION__INIT;

    a.action_case = SKEP__STORE_ACTION__ACTION_TASK;
    a.task = (Skep__TaskDelta *)(uintptr_t)delta;
    add(tx, &a);
}

size_t store_tx_action_count(const struct store_tx *tx)
{
    return tx->message.n_actions;
}

bool store_tx_full(const struct store_tx *tx)
{
    enum { HEAD_BYTES = 64 }; /* wall_ns, request_id */

    return tx->message.n_actions >= STORE_TX_ACTIONS_MAX ||
           tx->packed > STORE_TX_BYTES_MAX - STORE_OBJECT_BYTES_MAX - HEAD_BYTES;
}

void store_tx_pack(const struct store_tx *tx, int64_t wall_ns, const uint8_t *request_id,
                   uint8_t **ret_data, size_t *ret_size)
{
    Skep__Transaction t = tx->message;

    t.wall_ns = wall_ns;
    if (request_id != NULL) {
        t.request_id.data = (uint8_t *)(uintptr_t)request_id;
        t.request_id.len = STORE_REQUEST_ID_BYTES;
    }
    size_t size = skep__transaction__get_packed_size(&t);
    uint8_t *data = xmalloc(size);
    size_t written = skep__transaction__pack(&t, data);
    ASSERT(written == size);
    *ret_data = data;
    *ret_size = size;
}

const Skep__Transaction *store_tx_message(const struct store_tx *tx)
{
    return &tx->message;
}

/* The keys of encrypted networks. A network always has a key that senders use (key_epoch); a new
 * one is stored first, so that every receiver can have it before the first packet under it, and
 * becomes the senders' at least SWITCH_NS later. Older ones stay for what is still on the way:
 * three in all. Ages are by the wall clock of whoever leads: a step of it makes a rotation early
 * or late, never unsafe, because the order is the same.
 *
 * Unpredictable bytes come from the shell (core_env.random). */
#include <string.h>

#include "managerd/allocator/internal.h"

enum { KEY_BYTES = 32, KEYS_MAX = 3 };
#define HOUR_NS (INT64_C(3600) * 1000000000)
#define ROTATE_NS (12 * HOUR_NS)             /* as SwarmKit */
#define SWITCH_NS (INT64_C(60) * 1000000000) /* from a key's coming to its use */

static Skep__NetworkKey *new_key(struct allocator *a, const struct core_env *env, uint32_t epoch)
{
    Skep__NetworkKey *key = arena_alloc(&a->scratch, sizeof(*key));

    skep__network_key__init(key);
    key->epoch = epoch;
    key->created_at = env->wall_ns;
    key->key.len = KEY_BYTES;
    key->key.data = arena_alloc(&a->scratch, KEY_BYTES);
    core_random(env, key->key.data, KEY_BYTES);
    return key;
}

static void append(struct allocator *a, Skep__Network *n, Skep__NetworkKey *key)
{
    size_t drop = n->n_keys >= KEYS_MAX ? n->n_keys - KEYS_MAX + 1 : 0, count = n->n_keys - drop;
    Skep__NetworkKey **keys = arena_array(&a->scratch, count + 1, sizeof(Skep__NetworkKey *));

    if (count > 0)
        memcpy(keys, n->keys + drop, count * sizeof(Skep__NetworkKey *));
    keys[count] = key;
    n->keys = keys;
    n->n_keys = count + 1;
}

bool keys_advance(struct allocator *a, const struct core_env *env, Skep__Network *n,
                  int64_t *ret_due_ns)
{
    if (n->n_keys == 0) {
        append(a, n, new_key(a, env, 1));
        n->key_epoch = 1;
        *ret_due_ns = ROTATE_NS;
        return true;
    }
    const Skep__NetworkKey *newest = n->keys[n->n_keys - 1];
    int64_t age_ns = MAX(env->wall_ns - newest->created_at, 0);
    bool in_use = newest->epoch == n->key_epoch;
    int64_t wait_ns = in_use ? ROTATE_NS : SWITCH_NS;

    if (age_ns < wait_ns) {
        *ret_due_ns = wait_ns - age_ns;
        return false;
    }
    if (in_use)
        append(a, n, new_key(a, env, newest->epoch + 1));
    else /* nodes that are not down have had it for SWITCH_NS */
        n->key_epoch = newest->epoch;
    *ret_due_ns = in_use ? SWITCH_NS : ROTATE_NS;
    return true;
}

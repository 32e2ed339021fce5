#include "agentd/netplan/tables_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

enum { SET_DIRECT_MAX = 32 }; /* up to here a set is changed at once */

static const char *id_of(const void *item)
{
    return CONTAINER_OF(item, const struct record, m)->id;
}

/* The place of the first member, of count, whose id is not below id. */
static size_t lower_bound(const struct set *s, size_t count, const char *id)
{
    size_t low = 0;

    if (count > 0 && strcmp(id_of(s->items[count - 1]), id) < 0)
        return count; /* they mostly come in order */
    while (low < count) {
        size_t middle = low + (count - low) / 2;

        if (strcmp(id_of(s->items[middle]), id) < 0)
            low = middle + 1;
        else
            count = middle;
    }
    return low;
}

static void move(struct set *s, size_t to, size_t from, size_t count)
{
    if (count > 0 && to != from)
        memmove(&s->items[to], &s->items[from], count * sizeof(s->items[0]));
}

static void reserve(const void ***items, uint32_t *capacity, size_t count)
{
    if (count <= *capacity)
        return;
    *capacity = (uint32_t)MAX(count, *capacity * (size_t)2);
    *items = xrealloc_array(*items, *capacity, sizeof((*items)[0]));
}

/* ---- many at once ---- */

static int compare_items(const void *a, const void *b)
{
    return strcmp(id_of(*(const void *const *)a), id_of(*(const void *const *)b));
}

/* In order, each once. */
static void sort_pending(struct set *s)
{
    size_t kept = 1;
    bool sorted = true;

    for (size_t i = 1; i < s->pending_count && sorted; i++)
        sorted = compare_items(&s->pending[i - 1], &s->pending[i]) < 0;
    if (sorted)
        return;
    qsort(s->pending, s->pending_count, sizeof(s->pending[0]), compare_items);
    for (size_t i = 1; i < s->pending_count; i++) {
        if (s->pending[i] != s->pending[kept - 1])
            s->pending[kept++] = s->pending[i];
    }
    s->pending_count = (uint32_t)kept;
}

/* From the last one down, the members behind each are moved to where they will stay. */
static void add_pending(struct set *s)
{
    size_t end = s->count, fresh = 0;

    for (size_t i = 0; i < s->pending_count; i++) {
        size_t at = lower_bound(s, s->count, id_of(s->pending[i]));

        if (at == s->count || s->items[at] != s->pending[i])
            s->pending[fresh++] = s->pending[i];
    }
    reserve(&s->items, &s->capacity, s->count + fresh);
    s->count += (uint32_t)fresh;
    for (size_t left = fresh; left > 0; left--) {
        size_t at = lower_bound(s, end, id_of(s->pending[left - 1]));

        move(s, at + left, at, end - at);
        s->items[at + left - 1] = s->pending[left - 1];
        end = at;
    }
}

static void remove_pending(struct set *s)
{
    size_t gone = 0, hole = 0;

    for (size_t i = 0; i < s->pending_count; i++) {
        size_t at = lower_bound(s, s->count, id_of(s->pending[i]));

        if (at == s->count || s->items[at] != s->pending[i]) {
            s->pending[i] = NULL;
            continue;
        }
        s->pending[i] = &s->items[at];
    }
    for (size_t i = 0; i < s->pending_count; i++) {
        if (s->pending[i] == NULL)
            continue;
        size_t at = (size_t)((const void **)s->pending[i] - s->items);

        if (gone > 0)
            move(s, hole - (gone - 1), hole + 1, at - hole - 1);
        hole = at;
        gone++;
    }
    if (gone > 0)
        move(s, hole - (gone - 1), hole + 1, s->count - hole - 1);
    s->count -= (uint32_t)gone;
}

void set_flush(struct set *s)
{
    if (s->pending_count > 0) {
        sort_pending(s);
        if (s->removing)
            remove_pending(s);
        else
            add_pending(s);
    }
    free(s->pending);
    s->pending = NULL;
    s->pending_count = s->pending_capacity = 0;
}

static void wait_for_flush(struct set *s, const void *item, bool removing)
{
    if (s->removing != removing)
        set_flush(s);
    s->removing = removing;
    reserve(&s->pending, &s->pending_capacity, s->pending_count + (size_t)1);
    s->pending[s->pending_count++] = item;
}

/* ---- one ---- */

void set_add(struct set *s, const void *item)
{
    if (s->pending_count > 0 || s->count >= SET_DIRECT_MAX) {
        wait_for_flush(s, item, false);
        return;
    }
    size_t at = lower_bound(s, s->count, id_of(item));

    if (at < s->count && s->items[at] == item)
        return;
    reserve(&s->items, &s->capacity, s->count + (size_t)1);
    move(s, at + 1, at, s->count - at);
    s->items[at] = item;
    s->count++;
}

void set_remove(struct set *s, const void *item)
{
    if (s->pending_count > 0 || s->count > SET_DIRECT_MAX) {
        wait_for_flush(s, item, true);
        return;
    }
    size_t at = lower_bound(s, s->count, id_of(item));

    if (at == s->count || s->items[at] != item)
        return;
    move(s, at, at + 1, s->count - at - 1);
    s->count--;
}

void set_deinit(struct set *s)
{
    free(s->items);
    free(s->pending);
    *s = (struct set){ 0 };
}

const void *set_after(const struct set *s, const char *id)
{
    size_t at = lower_bound(s, s->count, id);

    if (at < s->count && strcmp(id_of(s->items[at]), id) == 0)
        at++;
    return at < s->count ? s->items[at] : NULL;
}

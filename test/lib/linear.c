#include "test/lib/linear.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "common/mem.h"

enum { CACHE_SLOTS_MIN = 1024 };

/* A call or a return, in the order of time. A call that is taken leaves the list with its return.
 */
struct event {
    size_t op;
    uint64_t at_ns;
    bool is_return;
    struct event *match; /* the other one; NULL: never returned */
    struct event *prev, *next;
};

/* Stands for a set of operations and a value. Sets are hashed by a random number per operation:
 * 128 bits, so that two never meet. */
struct key {
    uint64_t a, b;
};

struct frame {
    struct event *call;
    uint64_t value; /* before it was taken */
};

struct search {
    const struct linear_op *ops;
    struct event *events;
    struct event head;
    struct frame *stack;
    size_t depth;
    struct key set; /* of the operations taken */
    uint64_t value;
    struct key *cache; /* zero: empty */
    size_t cache_slots, cache_count;
    struct linear_result *result;
};

static uint64_t mix(uint64_t x) /* splitmix64's finisher */
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static struct key key_of(uint64_t number)
{
    return (struct key){ mix(number * 2 + 0x9e3779b97f4a7c15u), mix(number * 2 + 1 + 0x632be5ab) };
}

/* ---- the cache ---- */

static bool cache_put(struct key *slots, size_t count, struct key k)
{
    size_t i = k.a & (count - 1);

    while (slots[i].a != 0 || slots[i].b != 0) {
        if (slots[i].a == k.a && slots[i].b == k.b)
            return false;
        i = (i + 1) & (count - 1);
    }
    slots[i] = k;
    return true;
}

static void cache_grow(struct search *s)
{
    size_t slots = MAX(s->cache_slots * 2, (size_t)CACHE_SLOTS_MIN);
    struct key *grown = xcalloc(slots, sizeof(*grown));

    for (size_t i = 0; i < s->cache_slots; i++) {
        if (s->cache[i].a != 0 || s->cache[i].b != 0)
            (void)cache_put(grown, slots, s->cache[i]); /* they differ */
    }
    free(s->cache);
    s->cache = grown;
    s->cache_slots = slots;
}

/* False when this set was seen with this value before. */
static bool is_new(struct search *s, struct key set, uint64_t value)
{
    struct key k = key_of(value ^ 0x5bd1e9955bd1e995u);

    k.a = mix(k.a ^ set.a) | 1;
    k.b ^= set.b;
    if (s->cache_count * 2 >= s->cache_slots)
        cache_grow(s);
    if (!cache_put(s->cache, s->cache_slots, k))
        return false;
    s->cache_count++;
    return true;
}

/* ---- the list ---- */

static void unlink_event(struct event *e)
{
    e->prev->next = e->next;
    if (e->next != NULL)
        e->next->prev = e->prev;
}

static void relink_event(struct event *e)
{
    e->prev->next = e;
    if (e->next != NULL)
        e->next->prev = e;
}

static int compare_events(const void *a, const void *b)
{
    const struct event *x = a, *y = b;

    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->is_return != y->is_return) /* at the same instant: they overlap */
        return x->is_return ? 1 : -1;
    return (x->op > y->op) - (x->op < y->op);
}

static bool counts(const struct linear_op *op)
{
    return op->return_ns != LINEAR_UNKNOWN || op->type == LINEAR_WRITE || op->type == LINEAR_CAS;
}

static size_t make_events(struct search *s, size_t count)
{
    CLEANUP_FREE struct event **calls = xcalloc(count, sizeof(struct event *));
    struct event *last = &s->head;
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        if (!counts(&s->ops[i]))
            continue;
        s->events[n++] = (struct event){ .op = i, .at_ns = s->ops[i].call_ns };
        if (s->ops[i].return_ns != LINEAR_UNKNOWN)
            s->events[n++] =
                (struct event){ .op = i, .at_ns = s->ops[i].return_ns, .is_return = true };
    }
    if (n > 0)
        qsort(s->events, n, sizeof(*s->events), compare_events);
    for (size_t i = 0; i < n; i++) {
        struct event *e = &s->events[i];

        e->prev = last;
        last->next = e;
        last = e;
        if (!e->is_return) {
            calls[e->op] = e;
            continue;
        }
        ASSERT(calls[e->op] != NULL); /* no answer before its call */
        e->match = calls[e->op];
        e->match->match = e;
    }
    return n;
}

/* ---- the search ---- */

/* May op happen at this value, and which one does it leave? */
static bool step(const struct linear_op *op, uint64_t value, uint64_t *ret_value)
{
    *ret_value = value;
    switch (op->type) {
    case LINEAR_READ:
        return op->value == value;
    case LINEAR_CAS_FAILED:
        return op->expect != value;
    case LINEAR_CAS:
        if (op->expect != value)
            return false;
        break;
    case LINEAR_WRITE:
        break;
    }
    *ret_value = op->value;
    return true;
}

static void toggle(struct search *s, size_t op)
{
    struct key k = key_of(op);

    s->set.a ^= k.a;
    s->set.b ^= k.b;
}

/* Takes the call if that leads to something new. */
static bool take(struct search *s, struct event *call)
{
    uint64_t value;

    if (!step(&s->ops[call->op], s->value, &value))
        return false;
    toggle(s, call->op);
    if (!is_new(s, s->set, value)) {
        toggle(s, call->op);
        return false;
    }
    s->stack[s->depth++] = (struct frame){ call, s->value };
    s->value = value;
    unlink_event(call);
    if (call->match != NULL)
        unlink_event(call->match);
    return true;
}

static struct event *take_back(struct search *s)
{
    struct frame f = s->stack[--s->depth];

    if (f.call->match != NULL)
        relink_event(f.call->match);
    relink_event(f.call);
    toggle(s, f.call->op);
    s->value = f.value;
    return f.call;
}

static void note_blocked(struct search *s, const struct event *e)
{
    struct linear_result *r = s->result;

    if (s->depth < r->taken)
        return;
    r->taken = s->depth;
    r->blocked = e->op;
    r->value = s->value;
}

static enum linear_verdict run(struct search *s, uint64_t states_max)
{
    struct event *e = s->head.next;

    while (e != NULL) { /* behind the last return, what is left never had an answer */
        if (!e->is_return) {
            e = take(s, e) ? s->head.next : e->next;
            if (states_max != 0 && s->cache_count > states_max)
                return LINEAR_TOO_LONG;
            continue;
        }
        note_blocked(s, e);
        if (s->depth == 0)
            return LINEAR_ILLEGAL;
        e = take_back(s)->next;
    }
    return LINEAR_LEGAL;
}

void linear_check(const struct linear_op *ops, size_t count, uint64_t initial, uint64_t states_max,
                  struct linear_result *ret)
{
    struct search s = { .ops = ops, .value = initial, .result = ret };

    memset(ret, 0, sizeof(*ret));
    s.events = xcalloc(count * 2 + 1, sizeof(*s.events));
    s.stack = xcalloc(count + 1, sizeof(*s.stack));
    (void)make_events(&s, count);
    ret->verdict = run(&s, states_max);
    ret->states = s.cache_count;
    free(s.cache);
    free(s.stack);
    free(s.events);
}

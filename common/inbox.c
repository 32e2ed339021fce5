#include "common/inbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/assert.h"

struct record {
    inbox_fn *fn; /* NULL = cancelled */
    void *ctx, *arg;
};

struct inbox {
    struct loop *loop;
    int event_fd;
    bool in_batch, free_after_batch; /* a record may free the inbox */
    pthread_mutex_t lock;
    /* Under the lock. event_fd is readable exactly while count > 0. The ring starts small and
     * doubles up to capacity: most of a listener's slots are never used at once. */
    struct record *ring;
    uint32_t capacity, allocated, first, count;
};

static void signal_set(struct inbox *in)
{
    uint64_t one = 1;

    ASSERT(write(in->event_fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static void signal_clear(struct inbox *in)
{
    uint64_t value;

    ASSERT(read(in->event_fd, &value, sizeof(value)) == (ssize_t)sizeof(value));
}

static bool pop(struct inbox *in, struct record *ret)
{
    bool found = false;

    (void)pthread_mutex_lock(&in->lock);
    if (in->count > 0) {
        *ret = in->ring[in->first];
        in->first = (in->first + 1) % in->allocated;
        if (--in->count == 0)
            signal_clear(in);
        found = true;
    }
    (void)pthread_mutex_unlock(&in->lock);
    return found;
}

static void release(struct inbox *in)
{
    (void)close(in->event_fd); /* an eventfd has nothing to flush */
    (void)pthread_mutex_destroy(&in->lock);
    free(in->ring);
    free(in);
}

static void on_readable(void *ctx, int fd, uint32_t events)
{
    struct inbox *in = ctx;
    struct record r;

    (void)fd, (void)events;
    in->in_batch = true;
    for (int i = 0; i < INBOX_BATCH_MAX && !in->free_after_batch && pop(in, &r); i++) {
        if (r.fn != NULL)
            r.fn(r.ctx, r.arg);
    }
    in->in_batch = false;
    if (in->free_after_batch)
        release(in);
}

struct inbox *inbox_new(struct loop *l, uint32_t capacity, struct err *e)
{
    ASSERT(capacity > 0);
    CLEANUP_CLOSE int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        (void)err_errno(e, errno, "eventfd");
        return NULL;
    }
    struct inbox *in = xcalloc(1, sizeof(*in));
    int rc = loop_watch_fd(l, fd, EPOLLIN, on_readable, in);

    if (rc < 0) {
        (void)err_set(e, (enum err_code) - rc, "watch inbox: %s", err_str(rc));
        free(in);
        return NULL;
    }
    in->loop = l;
    in->event_fd = TAKE_FD(fd);
    in->capacity = capacity;
    ASSERT(pthread_mutex_init(&in->lock, NULL) == 0);
    return in;
}

void inbox_free(struct inbox *in)
{
    if (in == NULL)
        return;
    loop_unwatch_fd(in->loop, in->event_fd);
    if (in->in_batch)
        in->free_after_batch = true;
    else
        release(in);
}

static void grow(struct inbox *in)
{
    uint32_t allocated = (uint32_t)MIN(MAX((uint64_t)in->allocated * 2, 64), in->capacity);
    struct record *ring = xcalloc(allocated, sizeof(*ring));

    for (uint32_t i = 0; i < in->count; i++)
        ring[i] = in->ring[(in->first + i) % in->allocated];
    free(in->ring);
    in->ring = ring;
    in->allocated = allocated;
    in->first = 0;
}

void inbox_post(struct inbox *in, inbox_fn *fn, void *ctx, void *arg)
{
    ASSERT(fn != NULL);
    (void)pthread_mutex_lock(&in->lock);
    ASSERT(in->count < in->capacity);
    if (in->count == in->allocated)
        grow(in);
    in->ring[(in->first + in->count) % in->allocated] = (struct record){ fn, ctx, arg };
    if (in->count++ == 0)
        signal_set(in);
    (void)pthread_mutex_unlock(&in->lock);
}

uint32_t inbox_cancel(struct inbox *in, const void *ctx)
{
    uint32_t count = 0;

    (void)pthread_mutex_lock(&in->lock);
    for (uint32_t i = 0; i < in->count; i++) {
        struct record *r = &in->ring[(in->first + i) % in->allocated];

        if (r->fn != NULL && r->ctx == ctx) {
            r->fn = NULL;
            count++;
        }
    }
    (void)pthread_mutex_unlock(&in->lock);
    return count;
}

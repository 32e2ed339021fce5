#include "agentd/net/differences.h"

#include <stdarg.h>

void differences_add(struct differences *d, const char *what, const char *problem,
                     const char *object_format, ...)
{
    Skep__NetworkDifference *item;
    char object[256];
    va_list args;

    if (d->count++ >= DIFFERENCES_MAX)
        return;
    va_start(args, object_format);
    (void)vsnprintf(object, sizeof(object), object_format, args); /* cut: for people */
    va_end(args);
    item = ARENA_NEW(d->arena, Skep__NetworkDifference);
    skep__network_difference__init(item);
    item->network_id = arena_strdup(d->arena, d->network_id != NULL ? d->network_id : "");
    item->what = arena_strdup(d->arena, what);
    item->object = arena_strdup(d->arena, object);
    item->problem = arena_strdup(d->arena, problem);
    d->items[d->count - 1] = item;
}

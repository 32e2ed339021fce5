/* task inspect. */
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"

static int inspect_one(struct ctl *c, const char *ref, void *objects, struct err *e)
{
    Skep__Object *o = NULL;
    int rc = object_get(c, SKEP__KIND__KIND_TASK, ref, &o, e);

    if (rc == -ERR_NOT_FOUND)
        return err_set(e, ERR_NOT_FOUND, "no such task: %.80s", ref);
    if (rc < 0)
        return rc;
    if (o->object_case == SKEP__OBJECT__OBJECT_TASK)
        json_array_append_new(objects, json_task(o->task, task_spec(c, o->task, NULL)));
    return 0;
}

int task_inspect(struct ctl *c)
{
    return output_inspected(c, inspect_one);
}

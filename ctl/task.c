/* task inspect. */
#include "ctl/json.h"
#include "ctl/objects.h"
#include "ctl/output.h"

int task_inspect(struct ctl *c)
{
    json_t *list = json_array();
    int status = 0;

    if (ctl_client(c) == NULL) {
        json_decref(list);
        return CMD_EXIT_FAILED;
    }
    for (int i = 0; i < flags_arg_count(c->flags); i++) {
        Skep__Object *o = NULL;
        struct err e = { 0 };
        int rc = object_get(c, SKEP__KIND__KIND_TASK, flags_arg(c->flags, i), &o, &e);

        if (rc == -ERR_NOT_FOUND)
            status = ctl_fail(c, "no such task: %s", flags_arg(c->flags, i));
        else if (rc < 0)
            status = ctl_error(c, rc, &e);
        else if (o->object_case == SKEP__OBJECT__OBJECT_TASK)
            json_array_append_new(list, json_task(o->task, task_spec(c, o->task, NULL)));
    }
    return output_objects(c, list) | status;
}

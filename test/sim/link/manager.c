/* What managerd/leader.c calls in parts of a manager that the simulator does not have. */
#include "managerd/manager.h"

void skep_calls_drop(struct manager *m);
void skep_manager_fatal(const struct err *e);

void agent_calls_drop(struct manager *m)
{
    skep_calls_drop(m);
}

void log_calls_drop(struct manager *m)
{
    (void)m; /* nobody reads logs */
}

void control_watches_drop(struct manager *m)
{
    (void)m; /* nobody watches */
}

void manager_fatal(struct manager *m, const struct err *e)
{
    (void)m; /* whose loop runs */
    skep_manager_fatal(e);
}

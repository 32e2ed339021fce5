#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/worker/task.h"
#include "common/mem.h"
#include "common/prng.h"

/* Short names: the stories below are read, not searched. */
enum {
    ASSIGNED = SKEP__TASK_STATE__TASK_ASSIGNED,
    PREPARING = SKEP__TASK_STATE__TASK_PREPARING,
    READY = SKEP__TASK_STATE__TASK_READY,
    STARTING = SKEP__TASK_STATE__TASK_STARTING,
    RUNNING = SKEP__TASK_STATE__TASK_RUNNING,
    COMPLETE = SKEP__TASK_STATE__TASK_COMPLETE,
    SHUTDOWN = SKEP__TASK_STATE__TASK_SHUTDOWN,
    FAILED = SKEP__TASK_STATE__TASK_FAILED,
    REJECTED = SKEP__TASK_STATE__TASK_REJECTED,
    REMOVE = SKEP__TASK_STATE__TASK_REMOVE,
    ORPHANED = SKEP__TASK_STATE__TASK_ORPHANED,
};

/* One line of a story: what happens, and what the machine must want and be afterwards. */
struct line {
    enum task_event_type event;
    int arg; /* DESIRED: state; DONE: result */
    const struct container_facts *facts;
    uint32_t after_ms;
    bool for_networks;
    enum task_op want_op;
    int want_state;
    const char *want_error; /* NULL: not looked at */
    bool want_gone, want_cancel;
};

static const struct container_facts created = { .phase = CONTAINER_CREATED, .id = "c1" };
static const struct container_facts running = { .phase = CONTAINER_RUNNING, .id = "c1", .pid = 7 };
static const struct container_facts exited0 = { .phase = CONTAINER_EXITED, .id = "c1" };
static const struct container_facts exited3 = { .phase = CONTAINER_EXITED,
                                                .id = "c1",
                                                .exit_code = 3 };
static const struct container_facts exited3_why = {
    .phase = CONTAINER_EXITED, .id = "c1", .exit_code = 3, .error = "boom"
};
static const struct container_facts killed_oom = {
    .phase = CONTAINER_EXITED, .id = "c1", .exit_code = 137, .oom_killed = true
};
static const struct container_facts exited137 = { .phase = CONTAINER_EXITED,
                                                  .id = "c1",
                                                  .exit_code = 137 };
static const struct container_facts absent = { .phase = CONTAINER_ABSENT };
static const struct container_facts running_again = { .phase = CONTAINER_RUNNING,
                                                      .id = "c1",
                                                      .pid = 8 };
static const struct container_facts health_starting = {
    .phase = CONTAINER_RUNNING, .id = "c1", .pid = 7, .health = HEALTH_STARTING
};
static const struct container_facts healthy = {
    .phase = CONTAINER_RUNNING, .id = "c1", .pid = 7, .health = HEALTH_HEALTHY
};
static const struct container_facts unhealthy = {
    .phase = CONTAINER_RUNNING, .id = "c1", .pid = 7, .health = HEALTH_UNHEALTHY
};

#define DESIRE(state, op, now)                                                                     \
    {                                                                                              \
        .event = TASK_EV_DESIRED, .arg = (state), .want_op = TASK_OP_##op, .want_state = (now)     \
    }
#define OK(f, op, now)                                                                             \
    {                                                                                              \
        .event = TASK_EV_DONE, .arg = TASK_RESULT_OK, .facts = (f), .want_op = TASK_OP_##op,       \
        .want_state = (now)                                                                        \
    }
#define FATAL(f, op, now, error)                                                                   \
    {                                                                                              \
        .event = TASK_EV_DONE, .arg = TASK_RESULT_FATAL, .facts = (f), .want_op = TASK_OP_##op,    \
        .want_state = (now), .want_error = (error)                                                 \
    }
#define RETRY(op, now)                                                                             \
    {                                                                                              \
        .event = TASK_EV_DONE, .arg = TASK_RESULT_RETRY, .want_op = TASK_OP_##op,                  \
        .want_state = (now)                                                                        \
    }
#define WAIT(op, now)                                                                              \
    {                                                                                              \
        .event = TASK_EV_DONE, .arg = TASK_RESULT_RETRY, .facts = &running, .for_networks = true,  \
        .want_op = TASK_OP_##op, .want_state = (now), .want_error = "network has not arrived"      \
    }
#define NETWORKS(op, now)                                                                          \
    {                                                                                              \
        .event = TASK_EV_NETWORKS, .want_op = TASK_OP_##op, .want_state = (now)                    \
    }
#define OPENED(now)                                                                                \
    {                                                                                              \
        .event = TASK_EV_OPENED, .want_op = TASK_OP_NONE, .want_state = (now)                      \
    }
#define HINT(op, now)                                                                              \
    {                                                                                              \
        .event = TASK_EV_HINT, .want_op = TASK_OP_##op, .want_state = (now)                        \
    }
#define AFTER(ms, op, now)                                                                         \
    {                                                                                              \
        .event = TASK_EV_TIMER, .after_ms = (ms), .want_op = TASK_OP_##op, .want_state = (now)     \
    }
#define UNASSIGN(op, now)                                                                          \
    {                                                                                              \
        .event = TASK_EV_UNASSIGNED, .want_op = TASK_OP_##op, .want_state = (now)                  \
    }
#define END(f, now, error)                                                                         \
    {                                                                                              \
        .event = TASK_EV_DONE, .arg = TASK_RESULT_OK, .facts = (f), .want_op = TASK_OP_NONE,       \
        .want_state = (now), .want_error = (error)                                                 \
    }
#define UP_TO_CREATED                                                                              \
    DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING), OK(&created, START, STARTING)
#define UP_TO_RUNNING UP_TO_CREATED, OK(&running, NONE, RUNNING)
#define UP_TO_GATE UP_TO_CREATED, OK(&running, ATTACH, STARTING)

static const struct story {
    const char *why;
    int reported; /* what the managers know at first; 0 = ASSIGNED */
    enum container_phase phase;
    struct line lines[12];
} stories[] = {
    { "the whole life of a job's task",
      0,
      CONTAINER_ABSENT,
      { DESIRE(COMPLETE, PULL, PREPARING), OK(NULL, CREATE, PREPARING),
        OK(&created, START, STARTING), OK(&running, NONE, RUNNING), HINT(INSPECT, RUNNING),
        END(&exited0, COMPLETE, "") } },
    { "desired READY: created but not started until RUNNING is wanted",
      0,
      CONTAINER_ABSENT,
      { DESIRE(READY, PULL, PREPARING), OK(NULL, CREATE, PREPARING), OK(&created, NONE, READY),
        DESIRE(RUNNING, START, STARTING), OK(&running, NONE, RUNNING) } },
    { "non-zero exit",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, HINT(INSPECT, RUNNING), END(&exited3, FAILED, "task: non-zero exit (3)") } },
    { "non-zero exit with the engine's reason",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, HINT(INSPECT, RUNNING),
        END(&exited3_why, FAILED, "task: non-zero exit (3): boom") } },
    { "out of memory",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, HINT(INSPECT, RUNNING),
        END(&killed_oom, FAILED, "task: non-zero exit (137): out of memory") } },
    { "so short a life that the inspect after start sees the end",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, END(&exited0, COMPLETE, "") } },
    { "no image: rejected",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), FATAL(NULL, NONE, REJECTED, "No such image: x") } },
    { "create refused: rejected",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING),
        FATAL(NULL, NONE, REJECTED, "no space left on device") } },
    { "start refused: failed, and never tried again",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, FATAL(&created, NONE, FAILED, "starting container failed: x"),
        HINT(INSPECT, FAILED), END(&created, FAILED, NULL) } },
    { "a start that was given up but happens after all is stopped",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, FATAL(NULL, INSPECT, FAILED, "no answer"), OK(&created, NONE, FAILED),
        HINT(INSPECT, FAILED), OK(&running, STOP, FAILED), END(&exited137, FAILED, "no answer") } },
    { "healthy only after the health check",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, OK(&health_starting, NONE, STARTING), HINT(INSPECT, STARTING),
        OK(&healthy, NONE, RUNNING) } },
    { "unhealthy before it was ever healthy",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, OK(&health_starting, NONE, STARTING), HINT(INSPECT, STARTING),
        OK(&unhealthy, STOP, STARTING),
        END(&exited137, FAILED, "task: non-zero exit (137): dockerexec: unhealthy container") } },
    { "unhealthy later, and it exits with 0 when stopped",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, HINT(INSPECT, RUNNING), OK(&unhealthy, STOP, RUNNING),
        END(&exited0, FAILED, "dockerexec: unhealthy container") } },
    { "shutdown during the pull: nothing may ever start",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING),
        { .event = TASK_EV_DESIRED, .arg = SHUTDOWN, .want_state = SHUTDOWN, .want_cancel = true },
        DESIRE(RUNNING, NONE, SHUTDOWN) } },
    { "shutdown during create: the answer is awaited, the container never started",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING),
        DESIRE(SHUTDOWN, NONE, PREPARING), OK(&created, NONE, SHUTDOWN) } },
    { "shutdown during start: stopped as soon as it runs",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, DESIRE(SHUTDOWN, NONE, STARTING), OK(&running, STOP, STARTING),
        END(&exited0, SHUTDOWN, "") } },
    { "graceful stop",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, DESIRE(SHUTDOWN, STOP, RUNNING), END(&exited3, SHUTDOWN, "") } },
    { "a stop that fails is followed by kills, for ever",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, DESIRE(SHUTDOWN, STOP, RUNNING), RETRY(NONE, RUNNING),
        AFTER(999, NONE, RUNNING), AFTER(1, INSPECT, RUNNING), OK(&running, KILL, RUNNING),
        OK(&running, NONE, RUNNING), AFTER(2000, INSPECT, RUNNING),
        OK(&exited137, NONE, SHUTDOWN) } },
    { "a lost answer to create: looked for by name and found",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING), RETRY(NONE, PREPARING),
        AFTER(1000, INSPECT, PREPARING), OK(&created, START, STARTING),
        OK(&running, NONE, RUNNING) } },
    { "a lost answer to create: not there, created again",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING), RETRY(NONE, PREPARING),
        AFTER(1000, INSPECT, PREPARING), OK(&absent, CREATE, PREPARING) } },
    { "a cut start that did happen is not repeated",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, RETRY(NONE, STARTING), AFTER(1000, INSPECT, STARTING),
        OK(&running, NONE, RUNNING) } },
    { "a cut start that did not happen is repeated",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, RETRY(NONE, STARTING), AFTER(1000, INSPECT, STARTING),
        OK(&created, START, STARTING) } },
    { "the engine is back: no waiting for the timer",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED,
        RETRY(NONE, STARTING),
        { .event = TASK_EV_ENGINE_BACK, .want_op = TASK_OP_INSPECT, .want_state = STARTING } } },
    { "a hint during an operation is not lost",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, HINT(NONE, STARTING), OK(&running, INSPECT, STARTING),
        OK(&exited0, NONE, COMPLETE) } },
    { "removed behind our back: failed, never created again",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, HINT(INSPECT, RUNNING),
        END(&absent, FAILED, "container was removed behind the agent's back") } },
    { "adopted while running: left alone",
      RUNNING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, RUNNING), OK(&running, NONE, RUNNING) } },
    { "adopted: it ended while the agent was away",
      RUNNING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, RUNNING), END(&exited3, FAILED, "task: non-zero exit (3)") } },
    { "adopted: it started before the agent could say so",
      READY,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, READY), OK(&running, NONE, RUNNING) } },
    { "adopted: the managers know nothing but the assignment",
      0,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, PREPARING), END(&exited3, FAILED, "task: non-zero exit (3)") } },
    { "adopted: STARTING was reported, the start never happened",
      STARTING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, STARTING), OK(&created, START, STARTING) } },
    { "adopted: RUNNING was reported, so it must not be started again",
      RUNNING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, RUNNING),
        END(&created, FAILED, "container is not running although it was started") } },
    { "adopted without its container: failed, not created anew",
      RUNNING,
      CONTAINER_ABSENT,
      { { .event = TASK_EV_DESIRED,
          .arg = RUNNING,
          .want_state = FAILED,
          .want_error = "container was removed behind the agent's back" } } },
    { "given up by the managers while it ran here: stopped",
      ORPHANED,
      CONTAINER_UNKNOWN,
      { DESIRE(SHUTDOWN, INSPECT, ORPHANED), OK(&running, STOP, ORPHANED),
        OK(&exited0, NONE, ORPHANED) } },
    { "history without a container needs nothing",
      FAILED,
      CONTAINER_ABSENT,
      { DESIRE(SHUTDOWN, NONE, FAILED),
        { .event = TASK_EV_UNASSIGNED, .want_op = TASK_OP_REMOVE, .want_state = FAILED },
        { .event = TASK_EV_DONE, .want_state = FAILED, .want_gone = true } } },
    { "unassigned while running: stop, remove, gone",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING,
        UNASSIGN(STOP, RUNNING),
        OK(&exited0, REMOVE, RUNNING),
        { .event = TASK_EV_DONE, .facts = &absent, .want_state = RUNNING, .want_gone = true } } },
    { "unassigned during the pull",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING),
        { .event = TASK_EV_UNASSIGNED,
          .want_op = TASK_OP_REMOVE,
          .want_state = PREPARING,
          .want_cancel = true } } },
    { "unassigned during create: removed once the answer is there",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), OK(NULL, CREATE, PREPARING), UNASSIGN(NONE, PREPARING),
        OK(&created, REMOVE, PREPARING) } },
    { "a removal that fails is repeated",
      0,
      CONTAINER_ABSENT,
      { DESIRE(RUNNING, PULL, PREPARING), FATAL(NULL, NONE, REJECTED, "x"),
        UNASSIGN(REMOVE, REJECTED), RETRY(NONE, REJECTED), AFTER(1000, INSPECT, REJECTED),
        OK(&exited0, REMOVE, REJECTED) } },
    { "desired REMOVE stops as SHUTDOWN does",
      0,
      CONTAINER_ABSENT,
      { UP_TO_RUNNING, DESIRE(REMOVE, STOP, RUNNING), END(&exited0, SHUTDOWN, "") } },
};

/* Of tasks with overlay networks. */
static const struct story at_gate[] = {
    { "networks before the process: attached, opened, running",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, OPENED(STARTING), OK(&running, NONE, RUNNING), HINT(INSPECT, RUNNING),
        OK(&running, NONE, RUNNING), DESIRE(SHUTDOWN, STOP, RUNNING),
        END(&exited0, SHUTDOWN, "") } },
    { "healthy only after the gate and the check; what the check finds at the gate does not count",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, OK(&unhealthy, ATTACH, STARTING), OPENED(STARTING),
        OK(&health_starting, NONE, STARTING), HINT(INSPECT, STARTING),
        OK(&healthy, NONE, RUNNING) } },
    { "a network that has not arrived: waited for, seen, and woken by",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, WAIT(NONE, STARTING), AFTER(1, NONE, STARTING), NETWORKS(ATTACH, STARTING),
        WAIT(NONE, STARTING), AFTER(1999, NONE, STARTING), AFTER(1, ATTACH, STARTING),
        OPENED(STARTING), OK(&running, NONE, RUNNING) } },
    { "networks wake nobody who waits for something else",
      0,
      CONTAINER_ABSENT,
      { UP_TO_CREATED, RETRY(NONE, STARTING), NETWORKS(NONE, STARTING),
        AFTER(1000, INSPECT, STARTING), OK(&created, START, STARTING) } },
    { "a network that cannot be had: killed at the gate, failed with the reason",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, FATAL(&running, KILL, FAILED, "network blue: no key"),
        END(&exited137, FAILED, "network blue: no key") } },
    { "the program cannot be run",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, OPENED(STARTING),
        FATAL(&exited3, NONE, FAILED, "exec: \"foo\": executable file not found in $PATH") } },
    { "revoked while it is being attached: the gate stays shut, killed",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE,
        { .event = TASK_EV_DESIRED,
          .arg = SHUTDOWN,
          .want_op = TASK_OP_KILL,
          .want_state = STARTING,
          .want_cancel = true },
        END(&exited137, SHUTDOWN, "") } },
    { "revoked while it waits for networks: killed",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, WAIT(NONE, STARTING), DESIRE(SHUTDOWN, KILL, STARTING),
        END(&exited137, SHUTDOWN, "") } },
    { "revoked just after the gate opened: stopped gracefully",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, OPENED(STARTING), DESIRE(SHUTDOWN, NONE, STARTING),
        OK(&running, STOP, STARTING), END(&exited0, SHUTDOWN, "") } },
    { "unassigned while it is being attached",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE,
        { .event = TASK_EV_UNASSIGNED,
          .want_op = TASK_OP_KILL,
          .want_state = STARTING,
          .want_cancel = true },
        OK(&exited137, REMOVE, STARTING) } },
    { "restarted by somebody: at the gate again, let through again",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, OPENED(STARTING), OK(&running, NONE, RUNNING), HINT(INSPECT, RUNNING),
        OK(&running_again, ATTACH, RUNNING), OPENED(RUNNING), OK(&running_again, NONE, RUNNING) } },
    { "it ended at the gate",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, WAIT(NONE, STARTING), HINT(INSPECT, STARTING),
        END(&exited3, FAILED, "task: non-zero exit (3)") } },
    { "attaching finds it ended",
      0,
      CONTAINER_ABSENT,
      { UP_TO_GATE, END(&exited3, FAILED, "task: non-zero exit (3)") } },
    { "adopted at the gate: finished",
      STARTING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, STARTING), OK(&running, ATTACH, STARTING), OPENED(STARTING),
        OK(&running, NONE, RUNNING) } },
    { "adopted behind the gate: ATTACH finds it open",
      STARTING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, STARTING), OK(&running, ATTACH, STARTING),
        OK(&running, NONE, RUNNING), DESIRE(SHUTDOWN, STOP, RUNNING) } },
    { "adopted while running with networks: left alone, stopped gracefully",
      RUNNING,
      CONTAINER_UNKNOWN,
      { DESIRE(RUNNING, INSPECT, RUNNING), OK(&running, NONE, RUNNING),
        DESIRE(SHUTDOWN, STOP, RUNNING) } },
};

static void step(struct task *t, const struct line *l, uint64_t *now_ms, const char *why, size_t n)
{
    struct task_event ev = { .type = l->event, .facts = l->facts, .for_networks = l->for_networks };
    struct task_effects fx;
    int before = t->state;
    char error_before[TASK_ERROR_BYTES_MAX];

    *now_ms += l->after_ms;
    ev.now_ms = *now_ms;
    if (l->event == TASK_EV_DESIRED)
        ev.desired = (Skep__TaskState)l->arg;
    if (l->event == TASK_EV_DONE)
        ev.result = (enum task_result)l->arg;
    ev.error = l->want_error == NULL ? "failed" : l->want_error;
    memcpy(error_before, t->error, sizeof(error_before));
    task_step(t, &ev, &fx);
    ck_assert_msg(fx.op == l->want_op, "%s: line %zu wants %s, not %s", why, n, task_op_str(fx.op),
                  task_op_str(l->want_op));
    ck_assert_msg((int)t->state == l->want_state, "%s: line %zu: state %d, not %d", why, n,
                  (int)t->state, l->want_state);
    if (l->want_error != NULL)
        ck_assert_msg(strcmp(t->error, l->want_error) == 0, "%s: line %zu: '%s'", why, n, t->error);
    ck_assert_msg(fx.gone == l->want_gone, "%s: line %zu: gone", why, n);
    ck_assert_msg(fx.cancel == l->want_cancel, "%s: line %zu: cancel", why, n);
    ck_assert_msg(fx.report == (!t->unassigned &&
                                ((int)t->state != before || strcmp(t->error, error_before) != 0)),
                  "%s: line %zu: a change of status is reported, nothing else is", why, n);
}

static void tell(const struct story *s, bool networks)
{
    Skep__TaskStatus reported = SKEP__TASK_STATUS__INIT;
    struct task t;
    uint64_t now_ms = 1000;

    reported.state = (Skep__TaskState)(s->reported == 0 ? ASSIGNED : s->reported);
    task_init(&t, &reported, s->phase, s->phase == CONTAINER_UNKNOWN ? "c1" : "");
    t.networks = networks;
    for (size_t i = 0; i < ARRAY_LEN(s->lines); i++) {
        const struct line *l = &s->lines[i];

        if (l->want_state == 0)
            break;
        step(&t, l, &now_ms, s->why, i);
    }
    task_deinit(&t);
}

/* swarmkit task_model.md, docker_api.md §5.4, reliability.md F3, F22-F26, G7. */
START_TEST(task_tells_the_story)
{
    tell(&stories[_i], false);
}
END_TEST

/* docker_api.md appendix D 5-10. */
START_TEST(task_waits_at_the_gate)
{
    tell(&at_gate[_i], true);
}
END_TEST

/* Temporary errors back off from one second to TASK_RETRY_MS_MAX and are visible meanwhile. */
START_TEST(task_backs_off)
{
    static const uint32_t waits_ms[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000 };
    Skep__TaskStatus reported = SKEP__TASK_STATUS__INIT;
    struct task_event ev = { .type = TASK_EV_DESIRED, .desired = (Skep__TaskState)RUNNING };
    struct task_effects fx;
    struct task t;

    task_init(&t, &reported, CONTAINER_ABSENT, "");
    task_step(&t, &ev, &fx);
    for (size_t i = 0; i < ARRAY_LEN(waits_ms); i++) {
        struct task_event fails = { .type = TASK_EV_DONE,
                                    .now_ms = ev.now_ms,
                                    .result = TASK_RESULT_RETRY,
                                    .error = "engine is not reachable" };

        ck_assert_int_eq(fx.op, TASK_OP_PULL);
        task_step(&t, &fails, &fx);
        ck_assert_int_eq(fx.op, TASK_OP_NONE);
        ck_assert_str_eq(t.error, "engine is not reachable");
        ck_assert_uint_eq(t.retry_at_ms, ev.now_ms + waits_ms[i]);
        ev = (struct task_event){ .type = TASK_EV_TIMER, .now_ms = t.retry_at_ms };
        task_step(&t, &ev, &fx);
    }
    task_deinit(&t);
}
END_TEST

/* Random events never make the machine go back, start twice, or act on a task that is gone. */
START_TEST(task_survives_any_order)
{
    static const struct container_facts *const facts[] = {
        NULL, &created, &running, &exited0, &exited3, &absent, &unhealthy, &healthy,
    };
    static const int desires[] = { READY, RUNNING, RUNNING, COMPLETE, SHUTDOWN, REMOVE };
    struct prng p;

    prng_init(&p, (uint64_t)_i + 1);
    for (unsigned round = 0; round < 400; round++) {
        Skep__TaskStatus reported = SKEP__TASK_STATUS__INIT;
        struct task_effects fx = { .op = TASK_OP_NONE };
        struct task t;
        uint64_t now_ms = 0;
        bool opened = false;
        int state = 0;

        reported.state = (Skep__TaskState)ASSIGNED;
        task_init(&t, &reported, prng_chance_ppm(&p, 500000) ? CONTAINER_UNKNOWN : CONTAINER_ABSENT,
                  "");
        t.networks = prng_chance_ppm(&p, 500000);
        for (unsigned i = 0; i < 60 && !fx.gone; i++) {
            struct task_event ev = { .type = (enum task_event_type)prng_below(&p, 8),
                                     .error = "x",
                                     .for_networks = prng_chance_ppm(&p, 300000) };

            now_ms += prng_below(&p, 3000);
            ev.now_ms = now_ms;
            ev.desired = (Skep__TaskState)desires[prng_below(&p, ARRAY_LEN(desires))];
            ev.result = (enum task_result)prng_below(&p, 3);
            ev.facts = facts[prng_below(&p, ARRAY_LEN(facts))];
            if (ev.type == TASK_EV_UNASSIGNED && prng_chance_ppm(&p, 900000))
                continue;
            if (ev.type == TASK_EV_DONE && t.op == TASK_OP_NONE)
                continue;
            if (ev.type == TASK_EV_OPENED && (t.op != TASK_OP_ATTACH || t.attached))
                continue;
            opened = opened || ev.type == TASK_EV_OPENED;
            task_step(&t, &ev, &fx);
            ck_assert_int_ge((int)t.state, state);
            ck_assert(fx.op == TASK_OP_NONE || fx.op == t.op);
            ck_assert(fx.op != TASK_OP_START || t.container.phase == CONTAINER_CREATED);
            ck_assert(fx.op != TASK_OP_START || t.desired >= (Skep__TaskState)RUNNING);
            ck_assert(fx.op != TASK_OP_CREATE || state < STARTING);
            ck_assert(fx.op != TASK_OP_ATTACH || (t.networks && !opened));
            ck_assert(fx.op != TASK_OP_ATTACH || t.desired >= (Skep__TaskState)RUNNING);
            ck_assert((int)t.state != RUNNING || t.attached || !t.networks);
            state = (int)t.state;
        }
        task_deinit(&t);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent task");
    TCase *tc = tcase_create("task");
    SRunner *sr;
    int failed;

    tcase_add_loop_test(tc, task_tells_the_story, 0, (int)ARRAY_LEN(stories));
    tcase_add_loop_test(tc, task_waits_at_the_gate, 0, (int)ARRAY_LEN(at_gate));
    tcase_add_test(tc, task_backs_off);
    tcase_add_loop_test(tc, task_survives_any_order, 0, 8);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The product's dispatcher looks on: connected agents keep sessions and poll NETWORKS; at rest each
 * has exactly what the store says (test/lib/net_mirror). It changes nothing in the store, so a seed
 * is the same life with and without it. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/cluster_internal.h"

enum { WAIT_MS = 5000, LAZY_PPM = 300000 };

static struct core_env env_of(struct world *w)
{
    struct core_env env = world_env(w);

    env.prng = &w->look_on; /* ids of sessions must not change anybody's luck */
    return env;
}

static void drop_calls(struct world *w)
{
    while (dispatcher_take_call(w->dispatcher) != NULL)
        ;
    for (size_t i = 0; i < w->agent_count; i++)
        w->agents[i].net_parked = false;
}

void world_use_dispatcher(struct world *w)
{
    prng_init(&w->look_on, 77);
    struct core_env env = env_of(w);

    w->dispatcher = dispatcher_new();
    w->dispatcher_tx = store_tx_new();
    dispatcher_ops.start(w->dispatcher, &env);
}

void world_networks_restart(struct world *w)
{
    struct core_env env = env_of(w);

    if (w->dispatcher == NULL)
        return;
    drop_calls(w);
    dispatcher_ops.stop(w->dispatcher);
    dispatcher_ops.start(w->dispatcher, &env);
}

void world_networks_deinit(struct world *w)
{
    for (size_t i = 0; i < w->agent_count; i++)
        net_mirror_deinit(&w->agents[i].mirror);
    if (w->dispatcher == NULL)
        return;
    drop_calls(w);
    dispatcher_free(w->dispatcher);
    store_tx_free(w->dispatcher_tx);
}

/* ---- agents ---- */

static struct dispatcher_call call_of(const struct core_env *env, struct world_agent *a,
                                      struct arena *arena)
{
    return (struct dispatcher_call){ .env = env,
                                     .node_id = a->node_id,
                                     .address = "10.1.1.1",
                                     .arena = arena,
                                     .call = a,
                                     .until_ms = env->now_ms + WAIT_MS };
}

/* May be refused: not more than three times in a while. */
static void open_session(struct world *w, struct world_agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env env = env_of(w);
    struct dispatcher_call c = call_of(&env, a, &arena);
    Skep__SessionRequest req = SKEP__SESSION_REQUEST__INIT;
    Skep__NodeDescription description = SKEP__NODE_DESCRIPTION__INIT;
    Skep__Resources resources = SKEP__RESOURCES__INIT;
    Skep__SessionResponse answer;

    description.resources = &resources;
    req.description = &description;
    if (dispatcher_open(w->dispatcher, &c, &req, &answer, NULL) < 0)
        return;
    memcpy(a->session, answer.session_id, sizeof(a->session));
    a->mirror.token = 0;
}

static bool beat(struct world *w, struct world_agent *a)
{
    struct core_env env = env_of(w);
    struct dispatcher_call c = call_of(&env, a, NULL);
    Skep__HeartbeatRequest req = SKEP__HEARTBEAT_REQUEST__INIT;
    uint32_t unused;

    req.session_id = a->session;
    return dispatcher_beat(w->dispatcher, &c, &req, &unused, NULL) == 0;
}

static void ask(struct world *w, struct world_agent *a)
{
    CLEANUP_ARENA struct arena arena = { 0 };
    struct core_env env = env_of(w);
    struct dispatcher_call c = call_of(&env, a, &arena);
    Skep__NetworksRequest req = SKEP__NETWORKS_REQUEST__INIT;
    Skep__NetworksResponse answer;

    req.session_id = a->session;
    req.since = a->mirror.token;
    int rc = dispatcher_networks(w->dispatcher, &c, &req, &answer, NULL);
    a->net_parked = rc == DISPATCHER_PARKED;
    if (rc == 0)
        net_mirror_apply(&a->mirror, &answer);
}

/* Those that are cut off lose their answers. */
static void hand_out(struct world *w)
{
    struct dispatcher_due due;

    for (int quiet = 0; quiet < 2;) {
        CLEANUP_ARENA struct arena arena = { 0 };
        struct core_env env = env_of(w);

        if (!dispatcher_next_call(w->dispatcher, &env, &arena, &due)) {
            quiet++;
            continue;
        }
        struct world_agent *a = due.call;

        quiet = 0;
        a->net_parked = false;
        if (due.rc == 0 && a->connected)
            net_mirror_apply(&a->mirror, &due.networks);
    }
}

void world_networks_tick(struct world *w)
{
    if (w->dispatcher == NULL)
        return;
    struct core_env env = env_of(w);

    (void)dispatcher_ops.run(w->dispatcher, &env, w->dispatcher_tx);
    if (store_tx_action_count(w->dispatcher_tx) > 0) {
        store_tx_clear(w->dispatcher_tx); /* the world keeps the nodes' states itself */
        dispatcher_ops.on_result(w->dispatcher, 0);
    }
    for (size_t i = 0; i < w->agent_count; i++) {
        struct world_agent *a = &w->agents[i];

        if (!a->connected)
            continue;
        if (!beat(w, a))
            open_session(w, a);
        else if (!a->net_parked && !prng_chance_ppm(&w->look_on, LAZY_PPM))
            ask(w, a);
    }
    hand_out(w);
}

int world_networks_converged(const struct world *w, struct err *e)
{
    for (size_t i = 0; w->dispatcher != NULL && i < w->agent_count; i++) {
        const struct world_agent *a = &w->agents[i];

        if (!a->connected || !dispatcher_session_valid(w->dispatcher, a->node_id, a->session))
            continue;
        int rc = net_mirror_check(&a->mirror, w->store, a->node_id, e);
        if (rc < 0)
            return err_wrap(e, rc, "networks at rest");
    }
    return 0;
}

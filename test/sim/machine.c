/* The default machine: a few registers, and a session table that makes repeated requests harmless
 * (Raft §8). Deterministic: the same entries give the same bytes. */
#include <string.h>

#include "common/assert.h"
#include "test/sim/sim.h"

static void *registers_create(void)
{
    return xcalloc(1, sizeof(struct sim_registers));
}

static void *registers_copy(const void *machine)
{
    return xmemdup(machine, sizeof(struct sim_registers));
}

static uint64_t registers_hash(const void *machine)
{
    const struct sim_registers *m = machine;
    uint64_t hash = 0;

    for (int i = 0; i < SIM_KEYS; i++)
        hash = sim_mix(hash, m->values[i]);
    for (int i = 0; i < SIM_CLIENTS_MAX; i++)
        hash = sim_mix(sim_mix(hash, m->sequence[i]), m->result[i]);
    return hash;
}

static void registers_apply(void *machine, const struct raft_entry *e,
                            struct sim_result *ret_result)
{
    struct sim_registers *m = machine;
    struct sim_command c;

    ASSERT(e->data != NULL);
    ASSERT(e->data->size == sizeof(c));
    memcpy(&c, e->data->bytes, sizeof(c));
    ASSERT(c.client < SIM_CLIENTS_MAX);
    ASSERT(c.key < SIM_KEYS);
    if (c.sequence > m->sequence[c.client]) {
        m->sequence[c.client] = c.sequence;
        m->values[c.key] = c.op == SIM_OP_ADD ? m->values[c.key] + c.value : c.value;
        m->result[c.client] = m->values[c.key];
        ret_result->fresh = true;
    }
    ret_result->client = c.client;
    ret_result->sequence = c.sequence;
    ret_result->value = m->result[c.client];
}

static void registers_lose_sessions(void *machine)
{
    struct sim_registers *m = machine;

    memset(m->sequence, 0, sizeof(m->sequence));
}

/* With filling, so that a snapshot has several pieces. */
enum { FILLING_BYTES = 900 };

static uint8_t *registers_pack(const void *machine, size_t *ret_size)
{
    size_t size = sizeof(struct sim_registers);
    uint8_t *bytes = xcalloc(1, size + FILLING_BYTES);

    memcpy(bytes, machine, size);
    if (RAFT_MUTANT(RAFT_MUTANT_STORE_NO_SESSIONS))
        registers_lose_sessions(bytes);
    for (size_t i = 0; i < FILLING_BYTES; i++)
        bytes[size + i] = (uint8_t)i;
    *ret_size = size + FILLING_BYTES;
    return bytes;
}

static bool registers_load(void *machine, const uint8_t *bytes, size_t size, uint64_t index)
{
    size_t own = sizeof(struct sim_registers);

    (void)index;
    if (size != own + FILLING_BYTES)
        return false;
    for (size_t i = 0; i < FILLING_BYTES; i++) {
        if (bytes[own + i] != (uint8_t)i)
            return false;
    }
    memcpy(machine, bytes, own);
    return true;
}

const struct sim_machine_ops sim_registers = {
    .create = registers_create,
    .destroy = free,
    .copy = registers_copy,
    .hash = registers_hash,
    .apply = registers_apply,
    .lose_sessions = registers_lose_sessions,
    .pack = registers_pack,
    .load = registers_load,
};

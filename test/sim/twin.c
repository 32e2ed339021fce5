/* Cloned disks: a member exists twice, and now the one is reached, now the other.
 *
 * The copy is what a cloned virtual machine is: same member, same promises up to the moment of the
 * copy, another place on earth. The two take turns in the node's slot, each with its own disk;
 * whichever is away was cut off or switched off, and what it said is still on its way. The copy has
 * to fence itself when it first starts. Once it has been readmitted the original is the stranger:
 * it comes back unfenced, believes to be a voter, and must not be counted. */
#include "test/sim/link/link.h"
#include "test/sim/sim.h"

/* Speaks with the incarnation that a configuration has recorded. */
static bool counts(const struct sim_disk *d, uint64_t incarnation)
{
    return !d->fence_due && d->hard.incarnation == incarnation;
}

static void change_places(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];
    struct sim_disk disk = n->disk;
    bool replaced = n->replaced;

    n->disk = n->twin;
    n->twin = disk;
    n->replaced = n->twin_replaced;
    n->twin_replaced = replaced;
    if (s->full)
        sim_full_swap_twin(s, node);
}

void sim_twin_make(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    sim_node_crash(s, node);
    sim_disk_copy(&n->disk, &n->twin);
    n->twin.lost = n->twin.fence_due = n->twin_replaced = true;
    n->twin.lost_last = sim_disk_last(&n->disk);
    n->has_twin = true;
    if (s->full)
        sim_full_copy_twin(s, node);
    SIM_TRACE(s, "%u> its disk was copied, and the copy is in its place", node);
    change_places(s, node);
    sim_nemesis_restart_later(s, node);
}

void sim_twin_swap(struct sim *s, uint32_t node)
{
    if (s->nodes[node].up)
        sim_node_crash(s, node);
    change_places(s, node);
    SIM_TRACE(s, "%u> the other of the two disks is in its place", node);
    sim_nemesis_restart_later(s, node);
}

void sim_twin_forget(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    if (!n->has_twin)
        return;
    n->has_twin = false;
    sim_disk_clear(s, &n->twin);
    if (s->full)
        sim_full_remove_twin(s, node);
}

void sim_twin_settle(struct sim *s, uint32_t node)
{
    struct sim_node *n = &s->nodes[node];

    if (n->has_twin && !counts(&n->disk, s->oracle.incarnation[node]) &&
        counts(&n->twin, s->oracle.incarnation[node]))
        sim_twin_swap(s, node);
}

const struct sim_disk *sim_twin_counted(const struct sim_node *n, uint64_t incarnation)
{
    if (!n->has_twin || counts(&n->disk, incarnation))
        return &n->disk;
    return counts(&n->twin, incarnation) ? &n->twin : NULL;
}

/* TCP throughput from a container on one host to one on another, through the service's virtual
 * address and without it, in turns: medians of the same run. Goal: at least 95 %. Hosts are
 * namespaces; iperf3 as the load. Needs root. The balancer is nftables, or IPVS where this kernel
 * has it. */
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "common/assert.h"
#include "test/lib/netrig.h"

enum { ROUNDS = 21 };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double run(const char *to, const char *file)
{
    json_error_t problem;
    json_t *root;
    double bits;

    netrig_shell("ip netns exec t11 iperf3 -J -n 256M -c %s >%s", to, file);
    root = json_load_file(file, 0, &problem);
    ASSERT(root != NULL);
    bits = json_number_value(json_object_get(
        json_object_get(json_object_get(root, "end"), "sum_received"), "bits_per_second"));
    json_decref(root);
    ASSERT(bits > 0);
    return bits;
}

static void measure(const struct balancer_ops *ops)
{
    char file[] = "/tmp/skep-bench-vip-XXXXXX";
    CLEANUP_CLOSE int fd = mkstemp(file);
    struct netrig *r = netrig_new(2, ops);
    double direct[ROUNDS], vip[ROUNDS];

    ASSERT(fd >= 0);
    netrig_task(r, 1, 11, PLAN_STARTING);
    netrig_task(r, 2, 12, PLAN_UP);
    netrig_apply(r);
    netrig_shell("ip netns exec t12 iperf3 -s -D -I %s.pid; sleep 0.3", file);
    (void)run("10.77.0.12", file); /* warm */
    for (int i = 0; i < ROUNDS; i++) {
        if ((i & 1) == 0) /* who is first changes */
            direct[i] = run("10.77.0.12", file);
        vip[i] = run(NETRIG_VIP, file);
        if ((i & 1) != 0)
            direct[i] = run("10.77.0.12", file);
    }
    qsort(direct, ROUNDS, sizeof(direct[0]), compare);
    qsort(vip, ROUNDS, sizeof(vip[0]), compare);
    (void)printf(
        "%-9s container to container across hosts: direct %.2f Gbit/s, by the virtual address "
        "%.2f Gbit/s: %.0f %% (goal 95)\n",
        ops->name, direct[ROUNDS / 2] / 1e9, vip[ROUNDS / 2] / 1e9,
        100 * vip[ROUNDS / 2] / direct[ROUNDS / 2]);
    netrig_shell("kill $(tr -d '\\0' <%s.pid) 2>/dev/null || true; rm -f %s %s.pid", file, file,
                 file);
    netrig_free(r);
}

int main(void)
{
    struct err e = { 0 };

    measure(&balancer_nft);
    if (balancer_ipvs.probe(&e) == 0)
        measure(&balancer_ipvs);
    else
        (void)printf("%-9s not here: %s\n", balancer_ipvs.name, e.message);
    return EXIT_SUCCESS;
}

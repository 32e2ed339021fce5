/* What every balancer must do, whoever does it: run in namespaces with nftables (test/unit) and in
 * the VM with IPVS (test/vm). A case fails by ASSERT. */
#ifndef SKEP_TEST_LIB_BALANCER_CASES_H
#define SKEP_TEST_LIB_BALANCER_CASES_H

#include "test/lib/netrig.h"

struct balancer_case {
    const char *name;
    void (*run)(const struct balancer_ops *ops);
};

extern const struct balancer_case balancer_cases[];
extern const size_t balancer_case_count;

#endif

/* Published ports, with any balancer: as balancer_cases.h. */
#ifndef SKEP_TEST_LIB_INGRESS_CASES_H
#define SKEP_TEST_LIB_INGRESS_CASES_H

#include "test/lib/balancer_cases.h"

extern const struct balancer_case ingress_cases[];
extern const size_t ingress_case_count;

#endif

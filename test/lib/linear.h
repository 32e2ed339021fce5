/* Was a concurrent history of one register linearizable? Wing & Gong's search with Lowe's
 * memoisation ("Testing for linearizability", 2017): operations are taken in every order that real
 * time allows; a (set of operations taken, value) pair is never looked at twice. Keys are
 * independent, so histories of many keys are checked one key at a time (Herlihy & Wing, locality).
 *
 * An operation without an answer may have happened at any time after its call, or never. Values
 * should be unique per write: then the search hardly ever branches. Any thread; no I/O. */
#ifndef SKEP_TEST_LIB_LINEAR_H
#define SKEP_TEST_LIB_LINEAR_H

#include <stddef.h>
#include <stdint.h>

enum linear_type {
    LINEAR_READ,      /* returned value */
    LINEAR_WRITE,     /* set value */
    LINEAR_CAS,       /* found expect, set value */
    LINEAR_CAS_FAILED /* found something else than expect */
};

#define LINEAR_UNKNOWN UINT64_MAX

struct linear_op {
    enum linear_type type;
    uint64_t call_ns;
    uint64_t return_ns; /* LINEAR_UNKNOWN: no answer (writes and CAS; other types are ignored) */
    uint64_t expect;
    uint64_t value;
};

enum linear_verdict { LINEAR_LEGAL, LINEAR_ILLEGAL, LINEAR_TOO_LONG };

struct linear_result {
    enum linear_verdict verdict;
    size_t blocked;  /* illegal: the operation that the longest legal order cannot take in time */
    size_t taken;    /* operations in that order */
    uint64_t value;  /* the register's value after it */
    uint64_t states; /* looked at */
};

/* states_max: 0 = no bound. O(operations) where nothing is concurrent, exponential at worst. */
void linear_check(const struct linear_op *ops, size_t count, uint64_t initial, uint64_t states_max,
                  struct linear_result *ret);

#endif

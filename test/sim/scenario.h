/* Scripts that read as a protocol trace (test/data/raft/<name>.txt). A file is a sequence of
 * blocks: comment lines (#), command lines, "----", the output those commands gave, an empty line.
 * scenario_run() executes the commands and writes the file anew with the output it saw; a test
 * compares, a rewrite replaces. Commands: see the table in scenario.c. Messages wait until they are
 * delivered or dropped; disks finish at once unless held. */
#ifndef SKEP_TEST_SIM_SCENARIO_H
#define SKEP_TEST_SIM_SCENARIO_H

#include "common/buf.h"

/* 0, or -ERR_INVALID with e naming the line. */
int scenario_run(const char *text, struct buf *ret_text, struct err *e) MUST_CHECK;

#endif

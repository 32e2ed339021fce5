/* Operating errors: a code for programs, a sentence for people.
 *
 * A function that can fail returns 0 or -ERR_<NAME>; where a person will read the reason it takes a
 * `struct err *e` last and sets it on failure only. The origin names the object (path, id, name)
 * with err_set or err_errno; callers may prefix what they were doing with err_wrap; nobody repeats.
 * e may be NULL when the caller only wants the code. No allocation. */
#ifndef SKEP_COMMON_ERR_H
#define SKEP_COMMON_ERR_H

#include <stdint.h>

#include "common/mem.h"

/* clang-format off */
#define ERR_CODES(X) /* name, wire number (never reused), text; ctl exits with 1 for all */ \
    X(INVALID,        1, "invalid argument")        /* the request is wrong; names the field */   \
    X(NOT_FOUND,      2, "not found")                                                             \
    X(EXISTS,         3, "already exists")                                                        \
    X(CONFLICT,       4, "update out of sequence")  /* expected version differs; retry */         \
    X(PERMISSION,     5, "permission denied")                                                     \
    X(UNAUTHENTICATED,6, "not authenticated")                                                     \
    X(TOO_BIG,        7, "too big")                 /* a named limit was hit */                   \
    X(BUSY,           8, "busy")                    /* a queue is full or an object is in use */  \
    X(RATE,           9, "rate limited")                                                          \
    X(TIMEOUT,       10, "timed out")                                                             \
    X(UNAVAILABLE,   11, "unavailable")             /* no connection, no quorum, shutting down */ \
    X(NOT_LEADER,    12, "not the leader")                                                        \
    X(PROTO,         13, "protocol error")          /* a message that does not decode */          \
    X(CORRUPT,       14, "corrupt data")            /* stored bytes fail verification */          \
    X(IO,            15, "input/output error")                                                    \
    X(NO_SPACE,      16, "no space left")                                                         \
    X(PRECONDITION,  17, "precondition failed")     /* e.g. would lose quorum; node not down */   \
    X(UNSUPPORTED,   18, "not supported")                                                         \
    X(CANCELED,      19, "canceled")                                                              \
    X(STALE,         20, "stale session or term")                                                 \
    X(INTERNAL,      21, "internal error")
/* clang-format on */

enum err_code {
    ERR_OK = 0,
#define X(name, number, text) ERR_##name = (number),
    ERR_CODES(X)
#undef X
};

enum { ERR_MESSAGE_BYTES_MAX = 240 };

struct err {
    int code; /* ERR_*, positive; 0 when unset */
    char message[ERR_MESSAGE_BYTES_MAX];
};

/* Set e and return -code. The message is cut at ERR_MESSAGE_BYTES_MAX - 1. */
int err_set(struct err *e, enum err_code code, const char *format, ...) PRINTF(3, 4);
/* As err_set, with the code derived from errno_value and ": <strerror>" appended. */
int err_errno(struct err *e, int errno_value, const char *format, ...) PRINTF(3, 4);
/* Prefixes "<text>: " to e's message and returns rc unchanged. */
int err_wrap(struct err *e, int rc, const char *format, ...) PRINTF(3, 4);

/* Text of a code, positive or negative; "unknown error" for others. Never NULL. */
const char *err_str(int code);
/* e's message, or the text of rc when e carries none. */
const char *err_message(const struct err *e, int rc);
/* -ERR_* that fits an errno value. */
int err_from_errno(int errno_value);

#endif

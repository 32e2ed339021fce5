/* Named places where a test can make this process die, wait, fail or lie: at every step that makes
 * something durable, sends, receives or applies (etcd's gofail is the model). Only the variant
 * built with FAILPOINTS=1 has them; in any other the macros are constants and no symbol is left.
 *
 *   SKEP_FAILPOINTS="wal.sync.before=exit@3;apply.before=sleep:200"   arms points
 *   SKEP_FAILPOINTS=list                                              prints all names and exits
 *
 * ACTION is `exit` (status 137, nothing flushed, as after SIGKILL), `sleep:MS`, `errno:NAME`,
 * `short:BYTES` (a write stores that much and fails with ENOSPC), `torn:BYTES` (the same, and the
 * process dies) or `skip` (claims success and does nothing: the lie that tests of durability have
 * to find). `@N` is for the N-th time only, `@N+` from then on; without it, always. Where a point's
 * result has no meaning, only `exit` and `sleep` do anything.
 *
 * Any thread. */
#ifndef SKEP_COMMON_FAILPOINT_H
#define SKEP_COMMON_FAILPOINT_H

#include <stddef.h>
#include <stdint.h>

/* Steps of a file: CLASS.STEP.before and .after. The class comes from the file's name. */
/* clang-format off */
#define FAILPOINT_FILES(X) \
    X("wal", "write")     X("wal", "sync")         X("wal", "truncate")  X("wal", "remove")    \
    X("wal", "rename")    X("reserve", "create")   X("reserve", "write") X("reserve", "sync")  \
    X("reserve", "allocate")                       X("reserve", "remove")                      \
    X("snap", "create")   X("snap", "write")       X("snap", "sync")     X("snap", "rename")   \
    X("snap", "remove")   X("member", "create")    X("member", "write")  X("member", "sync")   \
    X("member", "rename") X("member", "remove")    X("keyring", "create")                      \
    X("keyring", "write") X("keyring", "sync")     X("keyring", "rename") X("keyring", "remove") \
    X("dir", "sync")

#define FAILPOINT_STEPS(X) /* name, when */ \
    X("apply.before",           "an entry is about to be applied")                              \
    X("apply.after",            "it was, nobody has been told")                                 \
    X("answer.before",          "a change was applied, its caller waits")                       \
    X("propose.before",         "proposals are about to be given to the core")                  \
    X("propose.after",          "they are in the log, not yet written")                         \
    X("persisted.before",       "a write is durable, the core does not know")                   \
    X("persisted.after",        "the core has acted on it")                                     \
    X("send.before",            "a message to another member")                                  \
    X("send.after",             "the same")                                                     \
    X("receive.before",         "a message of another member")                                  \
    X("receive.after",          "the same, with its effects under way")                         \
    X("read.before",            "a confirmed read is about to be answered")                     \
    X("leader.start",           "leadership was won, no core runs yet")                         \
    X("leader.stop",            "leadership was lost")                                          \
    X("conf.propose",           "a change of membership is about to be proposed")               \
    X("conf.applied",           "a configuration was applied")                                  \
    X("conf.told",              "the manager is about to hear of a configuration")              \
    X("conf.joined",            "a joiner became a member")                                     \
    X("conf.removed",           "this member was removed")                                      \
    X("snap.take.begin",        "a snapshot is about to be taken")                              \
    X("snap.take.piece",        "a piece of it is about to be written")                         \
    X("snap.take.done",         "it has its name, the log does not know")                       \
    X("snap.send.chunk",        "a piece is about to be sent")                                  \
    X("snap.receive.chunk",     "a piece has come")                                             \
    X("snap.receive.last",      "all pieces are durable, the core does not know")               \
    X("snap.install.before",    "a received snapshot is about to get its name")                 \
    X("snap.install.after",     "it has its name, the log does not know")                       \
    X("snap.load.begin",        "the store is about to be replaced by a snapshot")              \
    X("snap.load.done",         "it was")                                                       \
    X("compact.before",         "old snapshots and segments are about to be removed")           \
    X("compact.after",          "they were")                                                    \
    X("file.replace.before",    "a small file of the state folder is to be replaced")               \
    X("file.replace.written",   "its new content is durable under another name")                \
    X("file.replace.after",     "it was replaced")                                              \
    X("open.verified",          "the disk was verified, nothing was repaired yet")              \
    X("open.done",              "log and snapshot are open, the core does not run yet")
/* clang-format on */

enum { FAILPOINT_SKIP = -1 };

#ifdef FAILPOINTS

/* Returns 0, an errno value to fail with, or FAILPOINT_SKIP. */
int failpoint_hit(const char *name);
/* The same for a step of a file; when a write is to be cut, *write_size is how much to store. */
int failpoint_file(const char *file, const char *step, uint64_t *write_size);
/* After a torn write. */
void failpoint_torn(void);

#define FAILPOINT(name) failpoint_hit(name)
#define FAILPOINT_FILE(file, step, write_size) failpoint_file((file), (step), (write_size))
#define FAILPOINT_TORN() failpoint_torn()

#else

#define FAILPOINT(name) 0
#define FAILPOINT_FILE(file, step, write_size) ((void)(file), (void)(step), (void)(write_size), 0)
#define FAILPOINT_TORN() ((void)0)

#endif

#endif

/* Network namespaces that live without a process: pinned by a bind mount of /proc/…/ns/net on a
 * file below a directory that is a private mount of its own (so that other mount namespaces hold no
 * copies). And the settings of a namespace, which are files of whoever stands inside.
 *
 * To be inside, the calling thread moves there (setns) and back; when it cannot get back it aborts:
 * a thread in the wrong namespace must not go on. Loop thread. */
#ifndef SKEP_AGENTD_NET_NETNS_H
#define SKEP_AGENTD_NET_NETNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/* The caller's own; a new descriptor. */
int netns_open_own(int *ret_fd, struct err *e) MUST_CHECK;
/* Of a process. -ERR_NOT_FOUND when it is gone. */
int netns_open_process(pid_t pid, int *ret_fd, struct err *e) MUST_CHECK;
/* Both are the same namespace; false when in doubt. */
bool netns_same(int a, int b);
uint64_t netns_inode(int fd); /* 0 when it cannot be read */

/* Makes the directory and the mount, if they are not there. */
int netns_dir_open(const char *dir, struct err *e) MUST_CHECK;
/* Takes the mount away and the directory, if it is empty. */
void netns_dir_close(const char *dir);

/* A new namespace, pinned at path; it must not exist. */
int netns_create(const char *path, int *ret_fd, struct err *e) MUST_CHECK;
/* What is pinned at path: -ERR_NOT_FOUND when no file is there or it is no namespace any more. */
int netns_open_pin(const char *path, int *ret_fd, struct err *e) MUST_CHECK;
/* The namespace ends with its last user. */
void netns_unpin(const char *path);

/* Runs fn inside (fd -1: where the thread is) and returns what it returned. */
int netns_inside(int fd, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e) MUST_CHECK;
/* The same in a new, empty namespace that ends with its last user: for trying what the kernel can.
 */
int netns_scratch(int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e) MUST_CHECK;
int netns_enter(int fd, int *ret_previous, struct err *e) MUST_CHECK;
void netns_leave(int previous);

struct netns_setting {
    const char *path; /* below /proc/sys/net */
    const char *value;
    bool optional; /* kernels without it are fine */
};
/* Writes those that differ, counts them in *ret_changed (may be NULL); write = false only counts.
 */
int netns_settings(int fd, const struct netns_setting *s, size_t count, bool write,
                   size_t *ret_changed, struct err *e) MUST_CHECK;

#endif

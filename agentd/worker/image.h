/* Image references as people type them: [host[:port]/]path[:tag][@digest], or an image id. Pure. */
#ifndef SKEP_AGENTD_WORKER_IMAGE_H
#define SKEP_AGENTD_WORKER_IMAGE_H

#include <stdbool.h>

#include "common/err.h"

enum { IMAGE_REPO_BYTES_MAX = 256, IMAGE_TAG_BYTES_MAX = 160 };

struct image_ref {
    char repo[IMAGE_REPO_BYTES_MAX]; /* "busybox", "10.0.0.1:5000/a/b"; an id as it is */
    char tag[IMAGE_TAG_BYTES_MAX];   /* "latest", "sha256:…"; "" for an id */
    bool by_digest;                  /* the content cannot change: no pull when present */
    bool is_id;                      /* a local image: cannot be pulled */
};

/* -ERR_INVALID naming the reference when a part is empty, too long or has a character that no
 * reference has. A missing tag becomes "latest"; a tag beside a digest is dropped. */
int image_ref_parse(const char *text, struct image_ref *ret, struct err *e) MUST_CHECK;

/* The reference for the engine: text with ":latest" added when it names neither tag nor digest. */
void image_ref_full(const char *text, const struct image_ref *r, char *ret, size_t size);

#endif

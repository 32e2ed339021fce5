/* Image references: [domain[:port]/]path[:tag][@digest], the grammar of the distribution project
 * (opencontainers distribution spec; docker's rules for when the first part is a domain). Pure. */
#ifndef SKEP_MANAGERD_CONTROL_IMAGE_REF_H
#define SKEP_MANAGERD_CONTROL_IMAGE_REF_H

#include "common/err.h"

enum {
    IMAGE_REF_BYTES_MAX = 1024,
    IMAGE_REF_NAME_BYTES_MAX = 255, /* domain and path */
    IMAGE_REF_TAG_BYTES_MAX = 128,
};

/* -ERR_INVALID with e saying what is wrong with the text; it does not repeat the text. */
int image_ref_check(const char *text, struct err *e) MUST_CHECK;

#endif

#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void vset(struct err *e, int code, const char *format, va_list args)
{
    if (e == NULL)
        return;
    e->code = code;
    (void)vsnprintf(e->message, sizeof(e->message), format, args); /* cutting is documented */
}

int err_set(struct err *e, enum err_code code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vset(e, (int)code, format, args);
    va_end(args);
    return -(int)code;
}

int err_errno(struct err *e, int errno_value, const char *format, ...)
{
    int rc = err_from_errno(errno_value);
    char reason[96];
    va_list args;

    va_start(args, format);
    vset(e, -rc, format, args);
    va_end(args);
    if (e != NULL) {
        size_t used = strlen(e->message);

        (void)snprintf(e->message + used, sizeof(e->message) - used, ": %s",
                       strerror_r(errno_value, reason, sizeof(reason)));
    }
    return rc;
}

int err_wrap(struct err *e, int rc, const char *format, ...)
{
    char tail[ERR_MESSAGE_BYTES_MAX];
    va_list args;

    if (e == NULL)
        return rc;
    (void)snprintf(tail, sizeof(tail), "%s", err_message(e, rc));
    va_start(args, format);
    vset(e, rc < 0 ? -rc : rc, format, args);
    va_end(args);
    size_t used = strlen(e->message);
    (void)snprintf(e->message + used, sizeof(e->message) - used, ": %s", tail);
    return rc;
}

const char *err_str(int code)
{
    switch (code < 0 ? -code : code) {
    case ERR_OK:
        return "ok";
#define X(name, number, text)                                                                      \
    case number:                                                                                   \
        return text;
        ERR_CODES(X)
#undef X
    default:
        return "unknown error";
    }
}

const char *err_message(const struct err *e, int rc)
{
    return e != NULL && e->message[0] != '\0' ? e->message : err_str(rc);
}

int err_from_errno(int errno_value)
{
    switch (errno_value) {
    case 0:
        return 0;
    case ENOENT:
        return -ERR_NOT_FOUND;
    case EEXIST:
        return -ERR_EXISTS;
    case EACCES:
    case EPERM:
        return -ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT:
        return -ERR_NO_SPACE;
    case EINVAL:
        return -ERR_INVALID;
    case ETIMEDOUT:
        return -ERR_TIMEOUT;
    case EBUSY:
    case EAGAIN:
        return -ERR_BUSY;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return -ERR_UNAVAILABLE;
    case EMSGSIZE:
    case E2BIG:
    case EFBIG:
        return -ERR_TOO_BIG;
    default:
        return -ERR_IO;
    }
}

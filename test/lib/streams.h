/* Traffic of tests between network namespaces, and a capture that looks for it where it should not
 * be seen. Each is a child process; what it counts is in shared memory. Everything that is sent
 * holds STREAM_SECRET. */
#ifndef SKEP_TEST_LIB_STREAMS_H
#define SKEP_TEST_LIB_STREAMS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STREAM_SECRET "SKEP-SECRET-PAYLOAD"

struct stream {
    pid_t client, server;
    struct stream_counts { /* of the client */
        uint32_t sent, answered, resent;
        uint32_t taken; /* server: without being asked for an answer to it */
    } * counts;
};
/* The client sends a message every few milliseconds and counts the echoes. interval_ms 0: TCP, as
 * fast as the answers come; `resent` are TCP's retransmissions. */
struct stream_path {
    int from_ns, to_ns;
    const char *address;
    uint16_t port;
};
void stream_start(struct stream *s, const struct stream_path *p, uint32_t interval_ms);
/* Stops the client, waits for what is on the way (at most two seconds), then the server. */
struct stream_counts stream_stop(struct stream *s);

struct capture {
    pid_t pid;
    struct capture_counts {
        uint32_t frames, secret, vxlan, tunnel; /* tunnel: ESP, or UDP to a tunnel's port */
    } * counts;
};
/* On all devices of the namespace. vni: whose VXLAN counts; ports: first of two of the tunnels. */
void capture_start(struct capture *c, int ns, uint32_t vni, uint16_t ports);
struct capture_counts capture_stop(struct capture *c);

#endif

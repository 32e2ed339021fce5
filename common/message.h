/* Generic helpers on protobuf-c messages, driven by their descriptors: copies that are one block of
 * memory, comparison, and exact sizes. Messages nest as deep as the .proto files say, no deeper, so
 * recursion is bounded. proto3 only: no required fields, no defaults. Any thread. */
#ifndef SKEP_COMMON_MESSAGE_H
#define SKEP_COMMON_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "common/arena.h"

struct message_size {
    size_t structs; /* bytes of structs and arrays, each rounded up to 8 */
    size_t bytes;   /* bytes of strings and byte fields, not aligned */
    size_t packed;  /* = protobuf_c_message_get_packed_size() */
};

/* What a message and all it points to need. */
struct message_size message_measure(const ProtobufCMessage *m);
/* Copies m and all it points to into mem (aligned to 8, structs + bytes of message_measure(m)).
 * The copy must not be given to free_unpacked. Absent strings become "". */
ProtobufCMessage *message_clone_at(void *mem, const ProtobufCMessage *m,
                                   const struct message_size *size);
/* One malloc'ed block: free() releases everything. */
ProtobufCMessage *message_clone(const ProtobufCMessage *m);
ProtobufCMessage *message_clone_arena(struct arena *a, const ProtobufCMessage *m);

/* True when both are NULL, or both have the same type and would pack to the same bytes. */
bool message_equal(const ProtobufCMessage *a, const ProtobufCMessage *b);

/* memory for protobuf-c's unpack functions; what they return lives as long as the arena and is not
 * given to free_unpacked. */
ProtobufCAllocator message_arena_allocator(struct arena *a);

#endif

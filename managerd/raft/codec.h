/* Raft's C structs <-> bytes (proto/raft.proto). Packing trusts its input (asserted); unpacking
 * trusts nothing: unknown types, gaps, terms above RAFT_TERM_MAX, oversized counts and fields that
 * their type does not use are refused. Shared by the WAL, snapshots and the RPC layer. Pure. */
#ifndef SKEP_MANAGERD_RAFT_CODEC_H
#define SKEP_MANAGERD_RAFT_CODEC_H

#include "common/buf.h"
#include "managerd/raft/raft.h"

/* All packers append to b; -ERR_TOO_BIG when it is full. */
int raft_message_pack(const struct raft_message *m, struct buf *b) MUST_CHECK;
int raft_entry_pack(const struct raft_entry *e, struct buf *b) MUST_CHECK;
int raft_config_pack(const struct raft_config *c, struct buf *b) MUST_CHECK;
int raft_hard_state_pack(const struct raft_hard_state *h, struct buf *b) MUST_CHECK;
int raft_snapshot_meta_pack(const struct raft_snapshot_meta *s, struct buf *b) MUST_CHECK;

/* On success *ret_m is on the heap and holds references to its entries: raft_message_free.
 * -ERR_PROTO with e set otherwise. SNAPSHOT is refused: it never travels as a RaftMessage. */
int raft_message_unpack(const void *mem, size_t size, struct raft_message **ret_m,
                        struct err *e) MUST_CHECK;
void raft_message_free(struct raft_message *m);

/* The caller owns ret_entry->data. */
int raft_entry_unpack(const void *mem, size_t size, struct raft_entry *ret_entry,
                      struct err *e) MUST_CHECK;
int raft_config_unpack(const void *mem, size_t size, struct raft_config *ret_config,
                       struct err *e) MUST_CHECK;
int raft_hard_state_unpack(const void *mem, size_t size, struct raft_hard_state *ret_hard_state,
                           struct err *e) MUST_CHECK;
int raft_snapshot_meta_unpack(const void *mem, size_t size, struct raft_snapshot_meta *ret_meta,
                              struct err *e) MUST_CHECK;

/* What raft_config_unpack checks, for configurations that come from elsewhere: ids non-zero and
 * ascending, node ids and addresses well formed, at least one voter. */
int raft_config_check(const struct raft_config *c, struct err *e) MUST_CHECK;
/* What raft_message_unpack checks, for messages that reach the core without bytes. */
int raft_message_check(const struct raft_message *m, struct err *e) MUST_CHECK;

#endif

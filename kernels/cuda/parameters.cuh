// Constants of the proof of space and of a record (archival §2 and §3), and how a table lies in memory.
#pragma once
#include "platform.cuh"

// Size parameter. The network's is 20; 16 is for tests, where a table takes a sixteenth of the time.
#ifndef POS_K
#define POS_K 20
#endif
constexpr u32 K = POS_K;
static_assert(POS_K == 16 || POS_K == 20, "s-buckets need 16 bits, entries hold metadata of 4 * 20 bits, x of four go by 16 bits");

constexpr u32 Y_BITS = K + 6;
// Rows, columns and values of y of a bucket; targets of a left entry.
constexpr u32 B = 119u;
constexpr u32 C = 127u;
constexpr u32 BC = B * C;
constexpr u32 M = 64u;
constexpr u32 BUCKETS = ((1u << Y_BITS) + BC - 1) / BC;

// Entries that a bucket can hold, a power of two. At K=20 the mean is 236 and the standard deviation 15: one that holds
// more makes the record's status OVERFULL_BUCKET, and the host encodes that record on the CPU. Nothing is truncated.
constexpr u32 SLOT_BITS = 9u;
constexpr u32 BUCKET_CAPACITY = 1u << SLOT_BITS;
constexpr u32 TABLE_SLOTS = BUCKETS * BUCKET_CAPACITY;

// Entries of table 7 that answer an s-bucket: 2^16 on average.
constexpr u32 CANDIDATES = 1u << 17;

constexpr u32 S_BUCKETS = 1u << 16;
constexpr u32 S_BUCKET_WORDS = S_BUCKETS / 32;
constexpr u32 RECORD_CHUNKS = 1u << 15;

// 32-bit words of a proof.
constexpr u32 PROOF_WORDS = 2 * K;
// Entries of table 3 below one of table 7.
constexpr u32 PROOF_LEAVES = 16u;

constexpr u32 NONE = 0xffffffffu;

// Metadata bits of the entries of a table.
DEVICE constexpr u32 metadata_bits(u32 table) {
    return table == 1 ? K : table == 2 || table == 6 ? 2 * K : table == 3 || table == 4 ? 4 * K : table == 5 ? 3 * K : 0;
}

// Column shift of target m for left buckets of this parity.
DEVICE constexpr u32 column_shift(u32 parity, u32 m) { return (2 * m + parity) * (2 * m + parity) % C; }

// What kept a record from being encoded: bits of `Status::flags`. The host has the same list (`src/pipeline.rs`).
enum : u32 {
    OVERFULL_BUCKET = 1,
    OVERFULL_QUEUE = 2,
    TOO_MANY_DOUBLES = 4,
    TOO_MANY_CANDIDATES = 8,
    NOT_A_SCALAR = 16,
    ZERO_CHUNK = 32,
};

// What a record's kernels count; zero at first, except for `not_a_scalar`, which is NONE.
struct Status {
    u32 flags;
    // The first source chunk that is no scalar.
    u32 not_a_scalar;
    // Entries of table 7 that answer an s-bucket, and s-buckets whose first two are equal in y.
    u32 candidates;
    u32 ties;
    // s-buckets that have a proof.
    u32 proofs;
    u32 unused[3];
};

// An entry of tables 1 to 6, in slot `bucket * BUCKET_CAPACITY + place of arrival`. Metadata is left-aligned in `high`, `low`
// and the upper half of `rest`; the lower half of `rest` is its place in the bucket, row << 7 | column; `link` names its parents.
struct alignas(16) Entry {
    u32 high;
    u32 low;
    u32 rest;
    u32 link;
};

DEVICE u32 place_of(const Entry& entry) { return entry.rest & 0x3fff; }
DEVICE u32 row_of(u32 place) { return place >> 7; }
DEVICE u32 column_of(u32 place) { return place & 127; }
DEVICE u32 y_of(u32 bucket, u32 place) { return bucket * BC + place - row_of(place); }

// Parents: bucket of the left one, slots in their buckets of the left and the right one (in the next bucket).
DEVICE u32 link_of(u32 bucket, u32 left, u32 right) { return bucket << (2 * SLOT_BITS) | left << SLOT_BITS | right; }
static_assert((1u << (32 - 2 * SLOT_BITS)) > BUCKETS, "a link names every bucket");
// Slot in its table of the parent on this side: 0 left, 1 right.
DEVICE u32 parent_slot(u32 link, u32 side) {
    u32 bucket = (link >> (2 * SLOT_BITS)) + side;
    u32 slot = side ? link : link >> SLOT_BITS;
    return bucket * BUCKET_CAPACITY + slot % BUCKET_CAPACITY;
}

// An entry of table 7 that answers an s-bucket.
struct alignas(8) Candidate {
    u32 y;
    u32 link;
};

// The s-bucket that y of table 7 answers, if it answers one (archival §3.5).
DEVICE bool answers_s_bucket(u32 y) { return (y >> 6) % (1u << (K - 16)) == 0; }
DEVICE u32 s_bucket_of(u32 y) { return swap_bytes(y >> (Y_BITS - 16)) >> 16; }

// A table of its parent: matching (archival §3.2), fX and the way to the children's buckets in one kernel, so that matches
// never leave the chip.
//
// A right bucket is a map of rows and columns in shared memory. Rows 0 to 62 and all columns are there twice, so that the 64
// targets of a left entry are 64 fixed distances from its own place: a load each, without any arithmetic. A cell says which
// entries may stand there (`tag`); the few that share their y with a winner of that cell are kept beside the map.
#pragma once
#include "buckets.cuh"
#include "combine.cuh"

constexpr u32 MATCH_THREADS = 256u;
// 49,064 bytes of shared memory each fit four times into 228 KiB, so no thread may have more than 64 registers.
constexpr u32 MATCH_BLOCKS = 4u;
constexpr u32 MAP_ROWS = B + M - 1;
constexpr u32 MAP_WIDTH = 2 * C;
constexpr u32 MAP_CELLS = ((MAP_ROWS * MAP_WIDTH + 15) / 16 * 16);
// Matches of one pair of buckets: 236 on average at K=20, with a standard deviation of 27. More make OVERFULL_QUEUE.
constexpr u32 QUEUE = 672u;
// Right entries whose y another one has: 1.8 on average. More make TOO_MANY_DOUBLES.
constexpr u32 DOUBLES = 64u;

// What a cell holds of the entry in this slot: never zero, and the same for slots that are TAGS apart.
constexpr u32 TAGS = 255u;
DEVICE u8 tag(u32 slot) { return (u8)(1 + slot % TAGS); }
DEVICE u32 cell_of(u32 place) { return row_of(place) * MAP_WIDTH + column_of(place); }

// Writes a value to all cells of a place.
template <class Map> DEVICE void mark(Map& map, u32 place, u8 value) {
    const u32 cell = cell_of(place);
    STORE_ANY(map, cell, value);
    STORE_ANY(map, cell + C, value);
    if (row_of(place) < M - 1) {
        STORE_ANY(map, cell + B * MAP_WIDTH, value);
        STORE_ANY(map, cell + B * MAP_WIDTH + C, value);
    }
}

// Targets of a left entry at `cell` that are taken: target m is bit 8 (m % 4) + 7 - m / 4 % 8 of word m / 32.
template <u32 PARITY, class Map> DEVICE void look_up(Map& map, u32 cell, u32 (&hits)[2]) {
    UNROLL for (u32 half = 0; half < 2; ++half) {
        hits[half] = 0;
        UNROLL for (u32 four = 0; four < 8; ++four) {
            u32 packed = 0;
            UNROLL for (u32 byte = 0; byte < 4; ++byte) {
                const u32 m = 32 * half + 4 * four + byte;
                packed += (u32)map[cell + m * MAP_WIDTH + column_shift(PARITY, m)] << (8 * byte);
            }
            // The top bit of each byte that is not zero.
            const u32 taken = (((packed & 0x7f7f7f7f) + 0x7f7f7f7f) | packed) & 0x80808080;
            hits[half] |= taken >> four;
        }
    }
}

// Appends the matches of a left entry to the queue: its slot and the right one's.
template <class Map, class Doubles, class Queue, class Lengths>
DEVICE void match_left(Map& map, Doubles& doubles, Queue& queue, Lengths& lengths, const Entry* right_bucket, u32 right_length,
                       u32 parity, u32 left, u32 place) {
    u32 hits[2];
    if (parity) look_up<1>(map, cell_of(place), hits);
    else look_up<0>(map, cell_of(place), hits);
    const u32 doubles_length = lengths[1] < DOUBLES ? (u32)lengths[1] : DOUBLES;
    for (u32 half = 0; half < 2; ++half) {
        while (hits[half] != 0) {
            const u32 bit = 31 - __clz(hits[half]);
            hits[half] ^= 1u << bit;
            const u32 m = 32 * half + 4 * (7 - bit % 8) + bit / 8;
            const u32 row = (row_of(place) + m) % B, column = (column_of(place) + column_shift(parity, m)) % C;
            const u32 target = row << 7 | column;
            const u32 winner = map[cell_of(target)];
            u32 at = winner - 1, double_at = 0;
            while (at < right_length || double_at < doubles_length) {
                u32 right = at;
                if (at < right_length) at += TAGS;
                else right = doubles[double_at++];
                if (place_of(right_bucket[right]) != target) continue;
                const u32 length = atomicAdd(&lengths[0], 1u);
                if (length < QUEUE) queue[length] = left << SLOT_BITS | right;
            }
        }
    }
}

// Where the children of table 7 go: the first for each s-bucket is `first`, low bits of y << 32 | candidate.
struct Answers {
    Candidate* candidates;
    u64* first;
};

DEVICE void push_candidate(const Answers& answers, Status* status, u32 y, u32 link) {
    if (!answers_s_bucket(y)) return;
    const u32 index = atomicAdd(&status->candidates, 1u);
    if (index < CANDIDATES) {
        answers.candidates[index] = Candidate{y, link};
        atomicMin(&answers.first[s_bucket_of(y)], (u64)(y % 64) << 32 | index);
    } else {
        atomicOr(&status->flags, TOO_MANY_CANDIDATES);
    }
}

// All matches of `per_block` left buckets of one record with their right neighbours.
template <u32 TABLE>
DEVICE void match(const Entry* parents, const u32* parent_lengths, Entry* children, u32* lengths_of_children,
                  const Answers& answers, Status* status, u32 per_block) {
    SHARED(u8, map, MAP_CELLS);
    SHARED(u32, queue, QUEUE);
    SHARED(u16, doubles, DOUBLES);
    // Of the queue and of the doubles.
    SHARED(u32, lengths, 2);
    clear_shared(map);
    const u32 begin = blockIdx.x * per_block;
    const u32 end = begin + per_block < BUCKETS - 1 ? begin + per_block : BUCKETS - 1;
    for (u32 bucket = begin; bucket < end; ++bucket) {
        const Entry* left_bucket = parents + (u64)bucket * BUCKET_CAPACITY;
        const Entry* right_bucket = left_bucket + BUCKET_CAPACITY;
        const u32 left_length = bucket_length(parent_lengths, bucket);
        const u32 right_length = bucket_length(parent_lengths, bucket + 1);
        __syncthreads();
        if (threadIdx.x < 2) lengths[threadIdx.x] = 0;
        NO_UNROLL for (u32 slot = threadIdx.x; slot < right_length; slot += MATCH_THREADS) {
            mark(map, place_of(right_bucket[slot]), tag(slot));
        }
        __syncthreads();
        NO_UNROLL for (u32 slot = threadIdx.x; slot < right_length; slot += MATCH_THREADS) {
            if (map[cell_of(place_of(right_bucket[slot]))] == tag(slot)) continue;
            const u32 length = atomicAdd(&lengths[1], 1u);
            if (length < DOUBLES) doubles[length] = (u16)slot;
            else atomicOr(&status->flags, TOO_MANY_DOUBLES);
        }
        __syncthreads();
        NO_UNROLL for (u32 slot = threadIdx.x; slot < left_length; slot += MATCH_THREADS) {
            match_left(map, doubles, queue, lengths, right_bucket, right_length, bucket % 2, slot, place_of(left_bucket[slot]));
        }
        __syncthreads();
        const u32 found = lengths[0];
        if (found > QUEUE) atomicOr(&status->flags, OVERFULL_QUEUE);
        NO_UNROLL for (u32 at = threadIdx.x; at < found && at < QUEUE; at += MATCH_THREADS) {
            const u32 pair = queue[at];
            const u32 left = pair >> SLOT_BITS, right = pair % BUCKET_CAPACITY;
            const Entry left_entry = left_bucket[left];
            const Child child = combine<TABLE>(y_of(bucket, place_of(left_entry)), left_entry, right_bucket[right]);
            const u32 link = link_of(bucket, left, right);
            if (TABLE == 7) push_candidate(answers, status, y_of(child), link);
            else push_entry(children, lengths_of_children, status, y_of(child), child.high, child.low, child.rest, link);
        }
        NO_UNROLL for (u32 slot = threadIdx.x; slot < right_length; slot += MATCH_THREADS) {
            mark(map, place_of(right_bucket[slot]), 0);
        }
    }
}

// Grid: left buckets / per_block, rounded up, x records. Lengths of tables 1 to 6 follow one another, for all records each.
#define MATCH_KERNEL(table)                                                                                                   \
    KERNEL_RESIDENT(match_##table, MATCH_THREADS, MATCH_BLOCKS)(const Entry* parents, const u32* parent_lengths, Entry* children, u32* lengths,      \
                                         Status* status, u32 per_block) {                                                     \
        const u32 record = blockIdx.y;                                                                                        \
        match<table>(parents + (u64)record * TABLE_SLOTS, parent_lengths + record * BUCKETS,                                  \
                     children + (u64)record * TABLE_SLOTS, lengths + record * BUCKETS, Answers{}, status + record, per_block); \
    }
MATCH_KERNEL(2)
MATCH_KERNEL(3)
MATCH_KERNEL(4)
MATCH_KERNEL(5)
MATCH_KERNEL(6)

KERNEL_RESIDENT(match_7, MATCH_THREADS, MATCH_BLOCKS)(const Entry* parents, const u32* parent_lengths, Candidate* candidates, u64* first,
                               Status* status, u32 per_block) {
    const u32 record = blockIdx.y;
    const Answers answers{candidates + record * CANDIDATES, first + record * S_BUCKETS};
    match<7>(parents + (u64)record * TABLE_SLOTS, parent_lengths + record * BUCKETS, nullptr, nullptr, answers, status + record,
             per_block);
}

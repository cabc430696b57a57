// Bucketing: an entry goes to the next free slot of its bucket. The order of arrival is arbitrary and never shows.
#pragma once
#include "parameters.cuh"

// Puts an entry with this y and metadata (`high`, `low`, and `rest` without its place) into a table.
DEVICE void push_entry(Entry* table, u32* lengths, Status* status, u32 y, u32 high, u32 low, u32 rest, u32 link) {
    u32 bucket = y / BC;
    u32 r = y - bucket * BC;
    u32 slot = atomicAdd(&lengths[bucket], 1u);
    if (slot < BUCKET_CAPACITY) {
        table[bucket * BUCKET_CAPACITY + slot] = Entry{high, low, rest | (r + r / C), link};
    } else {
        atomicOr(&status->flags, OVERFULL_BUCKET);
    }
}

// Entries of a bucket that are there; more than that were counted when it is overfull.
DEVICE u32 bucket_length(const u32* lengths, u32 bucket) {
    u32 length = lengths[bucket];
    return length < BUCKET_CAPACITY ? length : BUCKET_CAPACITY;
}

// Which s-buckets have a proof, and the place of each among them: the order in which a record's chunks are stored.
#pragma once
#include "parameters.cuh"

constexpr u32 RANK_THREADS = 1024u;
constexpr u32 RANK_WARPS = RANK_THREADS / 32;
constexpr u32 WORDS_PER_WARP = S_BUCKET_WORDS / RANK_WARPS;
static_assert(S_BUCKET_WORDS == 2 * RANK_THREADS, "a thread adds up two words");

// Sum of the values of the lanes in front of this one.
DEVICE u32 sum_before(u32 value, u32 lane) {
    u32 sum = value;
    for (u32 distance = 1; distance < 32; distance *= 2) {
        const u32 below = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += below;
    }
    return sum - value;
}

// `contents` gets the bits of the first 32,768 s-buckets that have a proof, `ranks` how many bits are in front of each of its
// words, `order` the links of the proofs of those s-buckets in ascending order. Grid: 1 x records.
KERNEL(rank_proofs, RANK_THREADS)(const Candidate* candidates, const u64* first, u32* contents, u32* ranks, u32* order,
                                  Status* status) {
    SHARED(u32, bits, S_BUCKET_WORDS);
    SHARED(u32, before, S_BUCKET_WORDS);
    SHARED(u32, sums, RANK_WARPS);
    const u32 record = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    candidates += record * CANDIDATES;
    first += record * S_BUCKETS;
    for (u32 word = warp * WORDS_PER_WARP; word < (warp + 1) * WORDS_PER_WARP; ++word) {
        const u32 found = __ballot_sync(ALL_LANES, (u32)first[word * 32 + lane] != NONE);
        if (lane == 0) bits[word] = found;
    }
    __syncthreads();
    const u32 head = __popc(bits[2 * threadIdx.x]), tail = __popc(bits[2 * threadIdx.x + 1]);
    const u32 in_warp = sum_before(head + tail, lane);
    if (lane == 31) sums[warp] = in_warp + head + tail;
    __syncthreads();
    u32 in_front = sum_before(sums[lane], lane);
    in_front = __shfl_sync(ALL_LANES, in_front, warp) + in_warp;
    before[2 * threadIdx.x] = in_front;
    before[2 * threadIdx.x + 1] = in_front + head;
    if (threadIdx.x == RANK_THREADS - 1) status[record].proofs = in_front + head + tail;
    __syncthreads();
    for (u32 word = warp * WORDS_PER_WARP; word < (warp + 1) * WORDS_PER_WARP; ++word) {
        const u32 rank = before[word] + __popc(bits[word] & ((1u << lane) - 1));
        const bool stored = (bits[word] >> lane & 1) != 0 && rank < RECORD_CHUNKS;
        if (stored) order[record * RECORD_CHUNKS + rank] = candidates[(u32)first[word * 32 + lane]].link;
        const u32 kept = __ballot_sync(ALL_LANES, stored);
        if (lane == 0) {
            contents[record * S_BUCKET_WORDS + word] = kept;
            ranks[record * S_BUCKET_WORDS + word] = before[word] < RECORD_CHUNKS ? (u32)before[word] : RECORD_CHUNKS;
        }
    }
}

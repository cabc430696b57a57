// Table 1: f1 by ChaCha8 (archival §3.1), and its entries to their buckets.
#pragma once
#include "buckets.cuh"
#include "chacha8.cuh"

// Values of x of a block of threads, and the keystream blocks they are in: one a thread.
constexpr u32 FIRST_TABLE_XS = 4096u;
constexpr u32 FIRST_TABLE_THREADS = FIRST_TABLE_XS * POS_K / 512;

// Grid: 2^K / 4096 x records.
KERNEL(first_table, FIRST_TABLE_THREADS)(const u32* seeds, Entry* table, u32* lengths, Status* status) {
    const u32 record = blockIdx.y;
    table += (u64)record * TABLE_SLOTS;
    lengths += record * BUCKETS;
    SHARED(u32, keystream, FIRST_TABLE_THREADS * 16);
    u32 bits[16];
    chacha8_block(seeds + 8 * record, blockIdx.x * FIRST_TABLE_THREADS + threadIdx.x, bits);
    UNROLL for (u32 word = 0; word < 16; ++word) keystream[threadIdx.x * 16 + word] = bits[word];
    __syncthreads();
    NO_UNROLL for (u32 index = threadIdx.x; index < FIRST_TABLE_XS; index += FIRST_TABLE_THREADS) {
        const u32 x = blockIdx.x * FIRST_TABLE_XS + index;
        const u32 word = index * K / 32, offset = index * K % 32;
        u64 window = (u64)keystream[word] << 32;
        if (offset + K > 32) window |= keystream[word + 1];
        const u32 partial = (u32)(window << offset >> (64 - K));
        push_entry(table, lengths, status + record, partial << 6 | x >> (K - 6), x << (32 - K), 0, 0, 0);
    }
}

// y of one x alone, for the few that the canonical order asks for.
DEVICE u32 first_table_y(const u32* seed, u32 x) {
    const u32 bit = x * K;
    u32 bits[16];
    chacha8_block(seed, bit / 512, bits);
    u32 head = 0, tail = 0;
    UNROLL for (u32 word = 0; word < 16; ++word) {
        head = word == bit / 32 % 16 ? bits[word] : head;
        tail = word == bit / 32 % 16 + 1 ? bits[word] : tail;
    }
    if (bit / 32 % 16 == 15 && bit % 32 + K > 32) {
        chacha8_block(seed, bit / 512 + 1, bits);
        tail = bits[0];
    }
    const u64 window = (u64)head << 32 | tail;
    return (u32)(window << (bit % 32) >> (64 - K)) << 6 | x >> (K - 6);
}

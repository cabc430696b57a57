// Proofs: from an entry of table 7 down to 64 values of x (archival §3.6), and their hashes.
#pragma once
#include "blake3.cuh"
#include "search.cu"

constexpr u32 WALK_THREADS = 256u;

// Proof `rank` of the record: 64 x of K bits, most significant bit first. 16 lanes a proof, one entry of table 3 each.
// Grid: RECORD_CHUNKS * 16 / 256 x records.
KERNEL(walk_proofs, WALK_THREADS)(const Entry* third, const Entry* fourth, const Entry* fifth, const Entry* sixth,
                                  const u32* order, u16* proofs, const Status* status) {
    const u32 record = blockIdx.y;
    const u32 index = blockIdx.x * WALK_THREADS + threadIdx.x;
    const u32 rank = index / PROOF_LEAVES, leaf = index % PROOF_LEAVES;
    if (rank >= RECORD_CHUNKS || rank >= status[record].proofs) return;
    const u64 table = (u64)record * TABLE_SLOTS;
    const Tables tables{third + table, fourth + table, fifth + table, sixth + table};
    const Entry entry = leaf_of(tables, order[record * RECORD_CHUNKS + rank], leaf);
    // 4 K bits are K / 4 big-endian halves of words.
    const u32 words[3] = {entry.high, entry.low, entry.rest};
    u16* proof = proofs + ((u64)record * RECORD_CHUNKS + rank) * (2 * PROOF_WORDS) + leaf * (K / 4);
    UNROLL for (u32 half = 0; half < K / 4; ++half) {
        const u32 word = swap_bytes(words[half / 2]);
        proof[half] = (u16)(half % 2 == 0 ? word : word >> 16);
    }
}

constexpr u32 PROOF_HASH_THREADS = 128u;

// BLAKE3 of the proofs. Grid: RECORD_CHUNKS / 128 x records.
KERNEL(hash_proofs, PROOF_HASH_THREADS)(const u32* proofs, u32* hashes, const Status* status) {
    const u32 record = blockIdx.y;
    const u32 rank = blockIdx.x * PROOF_HASH_THREADS + threadIdx.x;
    if (rank >= RECORD_CHUNKS || rank >= status[record].proofs) return;
    const u32* proof = proofs + ((u64)record * RECORD_CHUNKS + rank) * PROOF_WORDS;
    constexpr u32 BLOCKS = (PROOF_WORDS + 15) / 16;
    Hash hash = blake3_initial();
    UNROLL for (u32 block = 0; block < BLOCKS; ++block) {
        u32 message[16];
        UNROLL for (u32 word = 0; word < 16; ++word) {
            const u32 at = 16 * block + word;
            message[word] = at < PROOF_WORDS ? proof[at] : 0;
        }
        const u32 words = block + 1 < BLOCKS ? 16 : PROOF_WORDS - 16 * (BLOCKS - 1);
        const u32 flags = (block == 0 ? BLAKE3_CHUNK_START : 0) | (block + 1 == BLOCKS ? BLAKE3_CHUNK_END | BLAKE3_ROOT : 0);
        hash = blake3_compress(hash, message, 4 * words, flags);
    }
    u32* out = hashes + ((u64)record * RECORD_CHUNKS + rank) * 8;
    UNROLL for (u32 word = 0; word < 8; ++word) out[word] = hash.words[word];
}

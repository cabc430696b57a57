// Chunks by s-bucket (farming §4.4 and §4.5): masked where there is a proof, and the first unmasked ones where there are not enough.
#pragma once
#include "parameters.cuh"
#include "scalar.cuh"

constexpr u32 ENCODE_THREADS = 256u;

// Chunk s of the erasure-coded record is `even[s / 2 * stride]` or `odd[s / 2 * stride]`. Grid: S_BUCKETS / 256 x records.
KERNEL(encode_chunks, ENCODE_THREADS)(const Scalar* even, const Scalar* odd, u32 stride, u32 even_per_record, u32 odd_per_record,
                                      const Scalar* hashes, const u32* contents, const u32* ranks, Scalar* stored,
                                      Status* status) {
    const u32 record = blockIdx.y;
    const u32 s_bucket = blockIdx.x * ENCODE_THREADS + threadIdx.x;
    if (s_bucket >= S_BUCKETS) return;
    const u32 word = s_bucket / 32, bit = s_bucket % 32;
    const u32 bits = contents[record * S_BUCKET_WORDS + word];
    const u32 proofs = status[record].proofs;
    const u32 masked = proofs < RECORD_CHUNKS ? proofs : RECORD_CHUNKS;
    // Masked and unmasked chunks in front of this one.
    const u32 rank = ranks[record * S_BUCKET_WORDS + word] + __popc(bits & ((1u << bit) - 1));
    const u32 gap = s_bucket - rank, gaps = RECORD_CHUNKS - masked;
    const bool is_masked = (bits >> bit & 1) != 0;
    if (!is_masked && gap >= gaps) return;
    const Scalar* half = s_bucket % 2 == 0 ? even + (u64)record * even_per_record : odd + (u64)record * odd_per_record;
    Scalar chunk = half[s_bucket / 2 * stride];
    if (is_masked) {
        const Scalar hash = hashes[(u64)record * RECORD_CHUNKS + rank];
        u32 any = 0;
        UNROLL for (u32 limb = 0; limb < SCALAR_LIMBS; ++limb) any |= chunk.limbs[limb] ^= hash.limbs[limb];
        // Counts as no proof (farming §4.4): the host encodes such a record on the CPU.
        if (any == 0) atomicOr(&status[record].flags, ZERO_CHUNK);
    }
    stored[(u64)record * RECORD_CHUNKS + rank + (gap < gaps ? gap : gaps)] = chunk;
}

// BLAKE3 of at most one chunk (1,024 bytes).
#pragma once
#include "platform.cuh"

constexpr u32 BLAKE3_CHUNK_START = 1u;
constexpr u32 BLAKE3_CHUNK_END = 2u;
constexpr u32 BLAKE3_ROOT = 8u;

struct Hash {
    u32 words[8];
};

DEVICE Hash blake3_initial() {
    return {{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

DEVICE void blake3_mix(u32 (&v)[16], u32 a, u32 b, u32 c, u32 d, u32 first, u32 second) {
    v[a] += v[b] + first;
    v[d] = rotate_right(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 12);
    v[a] += v[b] + second;
    v[d] = rotate_right(v[d] ^ v[a], 8);
    v[c] += v[d];
    v[b] = rotate_right(v[b] ^ v[c], 7);
}

DEVICE void blake3_round(u32 (&v)[16], const u32 (&m)[16]) {
    blake3_mix(v, 0, 4, 8, 12, m[0], m[1]);
    blake3_mix(v, 1, 5, 9, 13, m[2], m[3]);
    blake3_mix(v, 2, 6, 10, 14, m[4], m[5]);
    blake3_mix(v, 3, 7, 11, 15, m[6], m[7]);
    blake3_mix(v, 0, 5, 10, 15, m[8], m[9]);
    blake3_mix(v, 1, 6, 11, 12, m[10], m[11]);
    blake3_mix(v, 2, 7, 8, 13, m[12], m[13]);
    blake3_mix(v, 3, 4, 9, 14, m[14], m[15]);
}

// One compression. The words of the message are little-endian; those known to be zero cost nothing once inlined.
DEVICE Hash blake3_compress(const Hash& chaining, const u32 (&message)[16], u32 bytes, u32 flags) {
    const u32* h = chaining.words;
    const Hash initial = blake3_initial();
    const u32* i = initial.words;
    u32 v[16] = {h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], i[0], i[1], i[2], i[3], 0, 0, bytes, flags};
    u32 m[16];
    UNROLL for (u32 word = 0; word < 16; ++word) m[word] = message[word];
    UNROLL for (u32 round = 0; round < 7; ++round) {
        blake3_round(v, m);
        u32 next[16] = {m[2], m[6], m[3],  m[10], m[7], m[0],  m[4],  m[13],
                        m[1], m[11], m[12], m[5],  m[9], m[14], m[15], m[8]};
        UNROLL for (u32 word = 0; word < 16; ++word) m[word] = next[word];
    }
    Hash hash;
    UNROLL for (u32 word = 0; word < 8; ++word) hash.words[word] = v[word] ^ v[word + 8];
    return hash;
}

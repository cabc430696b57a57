// ChaCha with 8 rounds, zero nonce.
#pragma once
#include "platform.cuh"

DEVICE u32 rotate_left(u32 value, u32 bits) { return rotate_right(value, 32 - bits); }

DEVICE void chacha_quarter(u32& a, u32& b, u32& c, u32& d) {
    a += b;
    d = rotate_left(d ^ a, 16);
    c += d;
    b = rotate_left(b ^ c, 12);
    a += b;
    d = rotate_left(d ^ a, 8);
    c += d;
    b = rotate_left(b ^ c, 7);
}

// Keystream block `counter` as 16 big-endian words: as a bit string, most significant bit first.
DEVICE void chacha8_block(const u32* key, u32 counter, u32 (&bits)[16]) {
    u32 initial[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0], key[1], key[2], key[3],
                       key[4],     key[5],     key[6],     key[7],     counter, 0,     0,      0};
    u32 v[16];
    UNROLL for (u32 word = 0; word < 16; ++word) v[word] = initial[word];
    UNROLL for (u32 round = 0; round < 4; ++round) {
        UNROLL for (u32 i = 0; i < 4; ++i) chacha_quarter(v[i], v[4 + i], v[8 + i], v[12 + i]);
        UNROLL for (u32 i = 0; i < 4; ++i) chacha_quarter(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4]);
    }
    UNROLL for (u32 word = 0; word < 16; ++word) bits[word] = swap_bytes(v[word] + initial[word]);
}

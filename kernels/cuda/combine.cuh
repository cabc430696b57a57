// fX: y and metadata of an entry from its parents, one BLAKE3 block (archival §3.3).
#pragma once
#include "blake3.cuh"
#include "parameters.cuh"

// The bits of a child: y in the top Y_BITS of `head`, metadata as in an entry.
struct Child {
    u32 head;
    u32 high;
    u32 low;
    u32 rest;
};

DEVICE u32 y_of(const Child& child) { return child.head >> (32 - Y_BITS); }

// Appends left-aligned bits at bit OFFSET of a string of big-endian words.
template <u32 OFFSET, u32 WORDS> DEVICE void append(u32 (&bits)[WORDS], u32 high, u32 low, u32 rest, u32 width) {
    const u32 source[3] = {high, low, rest};
    UNROLL for (u32 word = 0; word < 3; ++word) {
        if (word * 32 < width) {
            const u32 at = OFFSET / 32 + word;
            if (at < WORDS) bits[at] |= source[word] >> (OFFSET % 32);
            if (OFFSET % 32 != 0 && at + 1 < WORDS) bits[at + 1] |= source[word] << (32 - OFFSET % 32);
        }
    }
}

// Of a word that holds bits FROM to FROM + 31 of a bit string, those of the first WIDTH.
template <u32 WIDTH, u32 FROM> DEVICE u32 keep(u32 word) {
    if constexpr (WIDTH <= FROM) return 0;
    else if constexpr (WIDTH >= FROM + 32) return word;
    else return word & ~(0xffffffffu >> (WIDTH - FROM));
}

// The entry of table TABLE, 2 to 7, of a match: y of the left parent, metadata of both, `rest` without places.
template <u32 TABLE> DEVICE Child combine(u32 y, const Entry& left, const Entry& right) {
    constexpr u32 PARENT = metadata_bits(TABLE - 1), BITS = metadata_bits(TABLE);
    constexpr u32 BYTES = (Y_BITS + 2 * PARENT + 7) / 8;
    u32 bits[6] = {y << (32 - Y_BITS), 0, 0, 0, 0, 0};
    append<Y_BITS>(bits, left.high, left.low, left.rest & 0xffff0000, PARENT);
    append<Y_BITS + PARENT>(bits, right.high, right.low, right.rest & 0xffff0000, PARENT);
    u32 message[16] = {0};
    UNROLL for (u32 word = 0; word < (BYTES + 3) / 4; ++word) message[word] = swap_bytes(bits[word]);
    const Hash hash = blake3_compress(blake3_initial(), message, BYTES, BLAKE3_CHUNK_START | BLAKE3_CHUNK_END | BLAKE3_ROOT);
    u32 h[4];
    UNROLL for (u32 word = 0; word < 4; ++word) h[word] = swap_bytes(hash.words[word]);
    if constexpr (TABLE <= 3) {
        u32 both[3] = {left.high, left.low, left.rest & 0xffff0000};
        append<PARENT>(both, right.high, right.low, right.rest & 0xffff0000, PARENT);
        return Child{h[0], both[0], both[1], both[2]};
    } else {
        u32 behind[3];
        UNROLL for (u32 word = 0; word < 3; ++word) behind[word] = h[word] << Y_BITS | h[word + 1] >> (32 - Y_BITS);
        return Child{h[0], keep<BITS, 0>(behind[0]), keep<BITS, 32>(behind[1]), keep<BITS, 64>(behind[2])};
    }
}

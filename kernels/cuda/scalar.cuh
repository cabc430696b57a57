// The scalar field of BLS12-381 (archival §4), eight limbs of 32 bits, least significant first.
#pragma once
#include "platform.cuh"

constexpr u32 SCALAR_LIMBS = 8u;

struct alignas(16) Scalar {
    u32 limbs[SCALAR_LIMBS];
};

// Limb of the field's order.
DEVICE constexpr u32 order_limb(u32 limb) {
    return limb == 0   ? 0x00000001
           : limb == 1 ? 0xffffffff
           : limb == 2 ? 0xfffe5bfe
           : limb == 3 ? 0x53bda402
           : limb == 4 ? 0x09a1d805
           : limb == 5 ? 0x3339d808
           : limb == 6 ? 0x299d7d48
                       : 0x73eda753;
}

// The number less the order; `below` says whether it was below it.
DEVICE Scalar less_order(const Scalar& a, bool& below) {
    Scalar out;
    u64 borrow = 0;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) {
        const u64 difference = (u64)a.limbs[i] - order_limb(i) - borrow;
        out.limbs[i] = (u32)difference;
        borrow = difference >> 63;
    }
    below = borrow != 0;
    return out;
}

DEVICE Scalar reduced(const Scalar& a) {
    bool below;
    const Scalar less = less_order(a, below);
    Scalar out;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) out.limbs[i] = below ? a.limbs[i] : less.limbs[i];
    return out;
}

DEVICE bool is_scalar(const Scalar& a) {
    bool below;
    less_order(a, below);
    return below;
}

// Twice the order is below 2^256: a sum cannot overflow.
DEVICE Scalar add(const Scalar& a, const Scalar& b) {
    Scalar sum;
    u64 carry = 0;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) {
        carry += (u64)a.limbs[i] + b.limbs[i];
        sum.limbs[i] = (u32)carry;
        carry >>= 32;
    }
    return reduced(sum);
}

DEVICE Scalar subtract(const Scalar& a, const Scalar& b) {
    Scalar out;
    u64 borrow = 0;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) {
        const u64 difference = (u64)a.limbs[i] - b.limbs[i] - borrow;
        out.limbs[i] = (u32)difference;
        borrow = difference >> 63;
    }
    const u32 mask = borrow != 0 ? 0xffffffff : 0;
    u64 carry = 0;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) {
        carry += (u64)out.limbs[i] + (order_limb(i) & mask);
        out.limbs[i] = (u32)carry;
        carry >>= 32;
    }
    return out;
}

// a b / 2^256. With b in Montgomery form, b 2^256, this is the product of plain numbers: values stay plain, factors are tables.
DEVICE Scalar multiply(const Scalar& a, const Scalar& factor) {
    u32 t[SCALAR_LIMBS + 1] = {0};
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) {
        u64 carry = 0;
        UNROLL for (u32 j = 0; j < SCALAR_LIMBS; ++j) {
            carry += (u64)a.limbs[j] * factor.limbs[i] + t[j];
            t[j] = (u32)carry;
            carry >>= 32;
        }
        // The order is 1 mod 2^32, so what makes the lowest limb zero is its negative. The order's top bit is zero: no
        // carry leaves the ninth limb.
        const u32 top = t[SCALAR_LIMBS] + (u32)carry;
        const u32 m = 0 - t[0];
        carry = ((u64)m + t[0]) >> 32;
        UNROLL for (u32 j = 1; j < SCALAR_LIMBS; ++j) {
            carry += (u64)m * order_limb(j) + t[j];
            t[j - 1] = (u32)carry;
            carry >>= 32;
        }
        carry += top;
        t[SCALAR_LIMBS - 1] = (u32)carry;
        t[SCALAR_LIMBS] = (u32)(carry >> 32);
    }
    Scalar out;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) out.limbs[i] = t[i];
    return reduced(out);
}

// 32 bytes big-endian, and back: the same permutation.
DEVICE Scalar swap_order(const Scalar& a) {
    Scalar out;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) out.limbs[i] = swap_bytes(a.limbs[SCALAR_LIMBS - 1 - i]);
    return out;
}

// What differs between NVRTC and the shim that runs the same sources on a CPU (../shim): types, and how a kernel, a
// device function, shared memory and the few hardware instructions are written. Everything else is common.
#pragma once

#ifdef CUDA_SHIM_HOST
#include "cuda_shim.h"
#else
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// A kernel that a host launches by this name, with so many threads a block.
#define KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads) name
// The same with registers few enough for so many blocks on a multiprocessor.
#define KERNEL_RESIDENT(name, threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks) name
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
// Long loop bodies: copies of them only fill the instruction cache.
#define NO_UNROLL _Pragma("unroll 1")
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
// A store to a cell that other threads may store to at the same time: which of them wins does not matter.
#define STORE_ANY(array, index, value) (array[index] = (value))

DEVICE u32 rotate_right(u32 value, u32 bits) { return __funnelshift_r(value, value, bits); }
DEVICE u32 swap_bytes(u32 value) { return __byte_perm(value, 0, 0x0123); }

// Zeroes shared memory, all threads of the block together; without a barrier.
template <u32 BYTES> DEVICE void clear_shared(u8 (&array)[BYTES]) {
    static_assert(BYTES % 16 == 0, "cleared 16 bytes at a time");
    for (u32 at = threadIdx.x; at < BYTES / 16; at += blockDim.x) {
        reinterpret_cast<uint4*>(array)[at] = make_uint4(0, 0, 0, 0);
    }
}
#endif

constexpr u32 ALL_LANES = 0xffffffffu;

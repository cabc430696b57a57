// Kernels with faults that the shim has to find, and their sound twins.
#include "cuda_shim.h"

namespace {
// Every thread reads its neighbour's cell.
KERNEL(neighbours, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = cells[(threadIdx.x + 1) % 64];
}

KERNEL(missing_barrier, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = cells[(threadIdx.x + 1) % 64];
}

// The barrier behind the loop's reads is missing: the next round writes what others still read.
KERNEL(missing_barrier_in_loop, 64)(u32* out) {
    SHARED(u32, cells, 64);
    for (u32 round = 0; round < 4; ++round) {
        cells[threadIdx.x] = round;
        __syncthreads();
        out[threadIdx.x] = cells[(threadIdx.x + 32) % 64];
    }
}

// Lanes of one warp are ordered by __syncwarp alone.
KERNEL(warp_neighbours, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x] = threadIdx.x;
    __syncwarp();
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

KERNEL(unordered_lanes, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

// A ballot brings lanes together and orders no memory.
KERNEL(ballot_for_barrier, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x] = threadIdx.x;
    const u32 all = __ballot_sync(0xffffffff, true);
    out[threadIdx.x] = cells[threadIdx.x ^ 1] + all;
}

KERNEL(divergent_barrier, 64)(u32* out) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
    out[threadIdx.x] = 0;
}

KERNEL(early_exit, 64)(u32* out) {
    if (threadIdx.x == 7) return;
    __syncthreads();
    out[threadIdx.x] = 0;
}

KERNEL(stuck_lane, 64)(u32* out) {
    if (threadIdx.x == 7) __syncthreads();
    else out[threadIdx.x] = __ballot_sync(0xffffffff, true);
}

KERNEL(unwritten_shared, 64)(u32* out) {
    SHARED(u32, cells, 64);
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL(outside_shared, 64)(u32* out) {
    SHARED(u32, cells, 64);
    cells[threadIdx.x + 1] = 0;
    out[threadIdx.x] = 0;
}

SHIM_REGISTER(neighbours, 0)
SHIM_REGISTER(missing_barrier, 0)
SHIM_REGISTER(missing_barrier_in_loop, 0)
SHIM_REGISTER(warp_neighbours, 0)
SHIM_REGISTER(unordered_lanes, 0)
SHIM_REGISTER(ballot_for_barrier, 0)
SHIM_REGISTER(divergent_barrier, 0)
SHIM_REGISTER(early_exit, 0)
SHIM_REGISTER(stuck_lane, 0)
SHIM_REGISTER(unwritten_shared, 0)
SHIM_REGISTER(outside_shared, 0)
}  // namespace

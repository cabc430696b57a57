// Erasure extension of a record (archival §6): 32,768 source chunks to as many parity chunks, by an inverse transform, a factor
// for each coefficient, and a transform. Coefficients stay in bit-reversed order.
//
// The scalars are a matrix of 256 rows and 128 columns. Steps between distant scalars are within columns, the others within
// rows: `extend_columns_inverse`, `extend_rows`, `extend_columns_forward`, a tile of 1,024 scalars in shared memory each.
#pragma once
#include "parameters.cuh"
#include "scalar.cuh"

constexpr u32 EXTENSION_LOG = 15u;
constexpr u32 ROW_LOG = 7u;
constexpr u32 COLUMN_LOG = EXTENSION_LOG - ROW_LOG;
constexpr u32 TILE_LOG = 10u;
constexpr u32 TILE = 1u << TILE_LOG;
constexpr u32 EXTENSION_THREADS = 256u;
// Columns of a tile.
constexpr u32 TILE_COLUMNS_LOG = TILE_LOG - COLUMN_LOG;
static_assert(RECORD_CHUNKS == 1u << EXTENSION_LOG, "a record is one transform");

// A tile has its limbs apart, so that neighbouring threads are in different banks.
template <class Tile> DEVICE Scalar load(Tile& tile, u32 at) {
    Scalar out;
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) out.limbs[i] = tile[i * TILE + at];
    return out;
}

template <class Tile> DEVICE void store(Tile& tile, u32 at, const Scalar& value) {
    UNROLL for (u32 i = 0; i < SCALAR_LIMBS; ++i) tile[i * TILE + at] = value.limbs[i];
}

enum Direction { INVERSE, FORWARD };

// One level of butterflies in a tile: pairs at distance 2^distance_log in the tile, 2^(distance_log + scale_log) in the record.
// `first` is the record's index, mod 2^scale_log, of the tile's first scalar, of which 2^columns_log are neighbours in the record.
template <Direction DIRECTION, class Tile>
DEVICE void butterflies(Tile& tile, const Scalar* twiddles, u32 distance_log, u32 columns_log, u32 scale_log, u32 first) {
    NO_UNROLL for (u32 pair = threadIdx.x; pair < TILE / 2; pair += EXTENSION_THREADS) {
        const u32 within = pair & ((1u << distance_log) - 1);
        const u32 low = (pair >> distance_log << (distance_log + 1)) + within, high = low + (1u << distance_log);
        const u32 index = (within >> columns_log << scale_log) + first + (within & ((1u << columns_log) - 1));
        const u32 half_log = distance_log - columns_log + scale_log;
        const Scalar twiddle = twiddles[index << (EXTENSION_LOG - 1 - half_log)];
        const Scalar a = load(tile, low), b = load(tile, high);
        if (DIRECTION == INVERSE) {
            store(tile, low, add(a, b));
            store(tile, high, multiply(subtract(a, b), twiddle));
        } else {
            const Scalar product = multiply(b, twiddle);
            store(tile, low, add(a, product));
            store(tile, high, subtract(a, product));
        }
    }
    __syncthreads();
}

// Index in the record of scalar `at` of tile `tile` of columns.
DEVICE u32 column_index(u32 tile, u32 at) {
    return (at >> TILE_COLUMNS_LOG << ROW_LOG) + (tile << TILE_COLUMNS_LOG) + (at & ((1u << TILE_COLUMNS_LOG) - 1));
}

// Source chunks, 32 bytes big-endian, `stride` chunks from each other, to scalars. Grid: 32 x records.
KERNEL(extend_columns_inverse, EXTENSION_THREADS)(const Scalar* chunks, u32 stride, u32 chunks_per_record, Scalar* scalars,
                                                  const Scalar* twiddles, Status* status) {
    SHARED(u32, tile, TILE * SCALAR_LIMBS);
    const u32 record = blockIdx.y;
    chunks += (u64)record * chunks_per_record;
    scalars += (u64)record * RECORD_CHUNKS;
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) {
        const u32 index = column_index(blockIdx.x, at);
        const Scalar value = swap_order(chunks[index * stride]);
        if (!is_scalar(value)) {
            atomicOr(&status[record].flags, NOT_A_SCALAR);
            atomicMin(&status[record].not_a_scalar, index);
        }
        store(tile, at, value);
    }
    __syncthreads();
    NO_UNROLL for (u32 level = TILE_LOG; level-- > TILE_COLUMNS_LOG;) {
        butterflies<INVERSE>(tile, twiddles, level, TILE_COLUMNS_LOG, ROW_LOG, blockIdx.x << TILE_COLUMNS_LOG);
    }
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) scalars[column_index(blockIdx.x, at)] = load(tile, at);
}

// Rows of scalars, in place; `factors` are those of the coefficients, in bit-reversed order. Grid: 32 x records.
KERNEL(extend_rows, EXTENSION_THREADS)(Scalar* scalars, const Scalar* inverse, const Scalar* forward, const Scalar* factors) {
    SHARED(u32, tile, TILE * SCALAR_LIMBS);
    scalars += (u64)blockIdx.y * RECORD_CHUNKS + blockIdx.x * TILE;
    factors += blockIdx.x * TILE;
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) store(tile, at, scalars[at]);
    __syncthreads();
    NO_UNROLL for (u32 level = ROW_LOG; level-- > 0;) butterflies<INVERSE>(tile, inverse, level, 0, 0, 0);
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) store(tile, at, multiply(load(tile, at), factors[at]));
    __syncthreads();
    NO_UNROLL for (u32 level = 0; level < ROW_LOG; ++level) butterflies<FORWARD>(tile, forward, level, 0, 0, 0);
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) scalars[at] = load(tile, at);
}

// Scalars to parity chunks, 32 bytes big-endian, in place. Grid: 32 x records.
KERNEL(extend_columns_forward, EXTENSION_THREADS)(Scalar* scalars, const Scalar* twiddles) {
    SHARED(u32, tile, TILE * SCALAR_LIMBS);
    scalars += (u64)blockIdx.y * RECORD_CHUNKS;
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) store(tile, at, scalars[column_index(blockIdx.x, at)]);
    __syncthreads();
    NO_UNROLL for (u32 level = TILE_COLUMNS_LOG; level < TILE_LOG; ++level) {
        butterflies<FORWARD>(tile, twiddles, level, TILE_COLUMNS_LOG, ROW_LOG, blockIdx.x << TILE_COLUMNS_LOG);
    }
    NO_UNROLL for (u32 at = threadIdx.x; at < TILE; at += EXTENSION_THREADS) {
        scalars[column_index(blockIdx.x, at)] = swap_order(load(tile, at));
    }
}

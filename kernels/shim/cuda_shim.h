// CUDA as far as ../cuda uses it, on a CPU: one fibre per thread of a block, a block at a time on an OS thread. Barriers, warp
// collectives and atomics are where another thread may go on; a seed decides which. Stands in for NVRTC's built-ins when
// CUDA_SHIM_HOST is defined.
//
// What is found, and named with file and line: shared memory that two threads use without a barrier between them or that is
// read before it is written (SHIM_CHECKED), a barrier or collective that threads reach at different places, and threads that
// wait for ever. Not modelled: weak memory order, races on global memory (they show in results under some seed, or not), bank
// conflicts, speed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

namespace shim {

struct Index3 {
    u32 x, y, z;
};

struct Site {
    const char* file;
    int line;
};

// Where something is used, as a default argument.
#define SHIM_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

struct Fibre {
    Index3 thread;
    u32 warp, lane;
    // What it waits for; null when it can go on.
    const char* waits_for;
    Site site;
    bool done;
};

// The block that this OS thread runs, and the thread of it that is running. `__thread` and not `thread_local`: no wrapper.
struct Block;
extern __thread Fibre* current;
extern __thread Index3 block_index, block_size, grid_size;

void barrier(Site site);
// Waits for all lanes of `mask`; each gives a value and sees those of all. Returns them by lane.
const u64* gather(u32 mask, u64 value, const char* what, Site site);
// Lets another thread go on, now and then.
void maybe_yield();
// Room for a shared array, the same for all threads of the block, poisoned.
void* shared_array(Site declaration, size_t bytes, size_t cells);
enum class Access : u8 { READ, WRITE, ATOMIC, ANY };
// Notes an access to a cell of a shared array and fails on a race or on poison.
void note(void* array, size_t cell, Access access, const char* name, Site site);
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Of both kinds there are translation units in one program: their names are to differ.
#ifdef SHIM_CHECKED
inline namespace checked {

struct At {
    size_t index;
    Site site;
    template <class I, class = std::enable_if_t<std::is_integral_v<I>>>
    At(I index, SHIM_HERE) : index((size_t)index), site{file, line} {}
};

template <class T> struct SharedPointer {
    T* pointer;
};

// One cell of a shared array, seen from one place of the source.
template <class T, size_t N> struct Cell {
    T* array;
    const char* name;
    At at;

    T* use(Access access) const {
        if (at.index >= N) fail("%s:%d: index %zu of %s, which has %zu cells", at.site.file, at.site.line, at.index, name, N);
        note(array, at.index, access, name, at.site);
        return array + at.index;
    }
    operator T() const { return *use(Access::READ); }
    const Cell& operator=(const T& value) const {
        *use(Access::WRITE) = value;
        return *this;
    }
    const Cell& operator=(const Cell& other) const { return *this = (T)other; }
    SharedPointer<T> operator&() const { return {use(Access::ATOMIC)}; }
    void store_any(const T& value) const { *use(Access::ANY) = value; }
};

template <class T, size_t N> struct Shared {
    T* array;
    const char* name;
    Cell<T, N> operator[](At at) const { return {array, name, at}; }
};
#define SHARED(type, name, count)                                                                                      \
    shim::Shared<type, (count)> name{                                                                                  \
        (type*)shim::shared_array({__FILE__, __LINE__}, sizeof(type) * (count), (count)), #name}
#define STORE_ANY(array, index, value) (array)[index].store_any(value)
template <class T> T* pointer(SharedPointer<T> shared) { return shared.pointer; }
}  // namespace checked
#else
inline namespace plain {
template <class T, size_t N> struct Shared {
    T* array;
    T& operator[](size_t index) const { return array[index]; }
};
#define SHARED(type, name, count)                                                                                      \
    shim::Shared<type, (count)> name{                                                                                  \
        (type*)shim::shared_array({__FILE__, __LINE__}, sizeof(type) * (count), (count))}
#define STORE_ANY(array, index, value) ((array)[index] = (value))
}  // namespace plain
#endif
template <class T> T* pointer(T* global) { return global; }

// A kernel as cuLaunchKernel calls it: pointers to the arguments.
template <auto FUNCTION> struct Invoke;
template <class... Arguments, void (*FUNCTION)(Arguments...)> struct Invoke<FUNCTION> {
    static void call(void** arguments) { call(arguments, std::index_sequence_for<Arguments...>{}); }
    template <size_t... I> static void call(void** arguments, std::index_sequence<I...>) {
        FUNCTION(*(Arguments*)arguments[I]...);
    }
    static constexpr u32 COUNT = sizeof...(Arguments);
};

struct Kernel {
    const char* name;
    u32 k;
    u32 arguments;
    u32 threads;
    void (*invoke)(void**);
};

// Enters a kernel into the list that the host looks names up in.
struct Register {
    Register(const Kernel& kernel);
};

}  // namespace shim

#define threadIdx (shim::current->thread)
#define blockIdx (shim::block_index)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)

#define DEVICE inline
#define UNROLL _Pragma("GCC unroll 64")
#define NO_UNROLL
#define KERNEL(name, threads)                                                                                          \
    constexpr u32 name##_threads = threads;                                                                            \
    static void name
#define KERNEL_RESIDENT(name, threads, blocks) KERNEL(name, threads)
#define SHIM_REGISTER(name, k)                                                                                         \
    static const shim::Register name##_registered(                                                                     \
        shim::Kernel{#name, k, shim::Invoke<&name>::COUNT, name##_threads, &shim::Invoke<&name>::call});

inline u32 rotate_right(u32 value, u32 bits) { return bits % 32 == 0 ? value : value >> (bits % 32) | value << (32 - bits % 32); }
inline u32 swap_bytes(u32 value) { return __builtin_bswap32(value); }
inline u32 __popc(u32 value) { return (u32)__builtin_popcount(value); }
inline u32 __clz(u32 value) { return value == 0 ? 32 : (u32)__builtin_clz(value); }

template <class T, size_t N> void clear_shared(const shim::Shared<T, N>& array, SHIM_HERE) {
    // As the device does it: 16 bytes a thread.
    for (size_t at = (size_t)threadIdx.x * 16; at < N; at += (size_t)blockDim.x * 16) {
        for (size_t byte = 0; byte < 16; ++byte) {
#ifdef SHIM_CHECKED
            array[shim::At(at + byte, file, line)] = T(0);
#else
            (void)file, (void)line;
            array[at + byte] = T(0);
#endif
        }
    }
}

inline void __syncthreads(SHIM_HERE) { shim::barrier({file, line}); }
inline void __syncwarp(u32 mask = 0xffffffff, SHIM_HERE) { shim::gather(mask, 0, "__syncwarp", {file, line}); }
inline u32 __ballot_sync(u32 mask, bool vote, SHIM_HERE) {
    const u64* votes = shim::gather(mask, vote, "__ballot_sync", {file, line});
    u32 ballot = 0;
    for (u32 lane = 0; lane < 32; ++lane) ballot |= (mask >> lane & 1) != 0 && votes[lane] != 0 ? 1u << lane : 0;
    return ballot;
}
inline u32 shim_shuffle(u32 mask, u32 value, u32 from, const char* what, shim::Site site) {
    const u64* values = shim::gather(mask, value, what, site);
    if (from < 32 && (mask >> from & 1) == 0) shim::fail("%s:%d: %s from lane %u, which takes no part", site.file, site.line, what, from);
    return from < 32 ? (u32)values[from] : value;
}
inline u32 __shfl_sync(u32 mask, u32 value, u32 from, SHIM_HERE) {
    return shim_shuffle(mask, value, from % 32, "__shfl_sync", {file, line});
}
inline u32 __shfl_up_sync(u32 mask, u32 value, u32 distance, SHIM_HERE) {
    const u32 lane = shim::current->lane;
    return shim_shuffle(mask, value, distance <= lane ? lane - distance : 32, "__shfl_up_sync", {file, line});
}
inline u32 __shfl_xor_sync(u32 mask, u32 value, u32 bits, SHIM_HERE) {
    return shim_shuffle(mask, value, shim::current->lane ^ bits, "__shfl_xor_sync", {file, line});
}

template <class P> auto shim_atomic(P place) {
    shim::maybe_yield();
    return shim::pointer(place);
}
template <class P> u32 atomicAdd(P place, u32 value) { return __atomic_fetch_add(shim_atomic(place), value, __ATOMIC_RELAXED); }
template <class P> u32 atomicOr(P place, u32 value) { return __atomic_fetch_or(shim_atomic(place), value, __ATOMIC_RELAXED); }
template <class P> u32 atomicExch(P place, u32 value) { return __atomic_exchange_n(shim_atomic(place), value, __ATOMIC_RELAXED); }
template <class P, class T> T atomicMin(P place, T value) {
    T* at = shim_atomic(place);
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (value < old && !__atomic_compare_exchange_n(at, &old, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

// The shim's scheduler: fibres, barriers, warp collectives, shared memory and what is found wrong with their use.
#include "cuda_shim.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "context.h"

namespace shim {

__thread Fibre* current;
__thread Index3 block_index, block_size, grid_size;

namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr u64 CANARY = 0x5a17c0de5a17c0de;
// What a block may declare on every device.
constexpr size_t SHARED_BYTES = 48 << 10;
constexpr int POISON = 0xa5;
constexpr u32 WARP = 32;

// An access to a cell of shared memory.
struct Mark {
    Site site;
    u32 thread, block_epoch, warp_epoch;
    Access access;
    bool set;
};

struct Shadow {
    Mark write;
    // The last reader, and the last before it that was another thread.
    Mark reads[2];
};

struct Array {
    Site declaration;
    void* at;
    std::vector<Shadow> shadows;
};

struct Warp {
    u32 lanes;
    u32 arrived, mask;
    const char* what;
    Site site;
    u32 epoch;
    // By turns, since lanes still read the values of one while others bring those of the next.
    u64 values[2][WARP];
    u32 turn;
};

// What all blocks of a launch share.
struct Launch {
    const Kernel* kernel;
    void** arguments;
    u64 seed;
    std::atomic<u64> next{0};
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::string message;

    void fail(const std::string& text) {
        const std::lock_guard<std::mutex> guard(mutex);
        if (!failed.exchange(true)) message = text;
    }
};

struct Thread : Fibre {
    Context context;
};

u64 mix(u64 state) {
    state ^= state >> 30;
    state *= 0xbf58476d1ce4e5b9;
    state ^= state >> 27;
    state *= 0x94d049bb133111eb;
    return state ^ state >> 31;
}

std::string describe(Site site) { return std::string(site.file) + ":" + std::to_string(site.line); }

}  // namespace

struct Block {
    u32 size = 0;
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    u8* stacks = nullptr;
    size_t stacks_bytes = 0;
    Context scheduler;
    // Threads that can go on, first in first out; each at most once.
    std::vector<u32> ready;
    size_t ready_first = 0, ready_count = 0;
    u32 waiting = 0, finished = 0, epoch = 1;
    Site barrier_site{};
    std::vector<Array> arrays;
    std::unique_ptr<u8[]> arena{new u8[SHARED_BYTES + 16]};
    size_t arena_used = 0;
    Launch* launch = nullptr;
    u64 random = 0;

    ~Block() {
        if (stacks != nullptr) munmap(stacks, stacks_bytes);
    }

    u64 draw() {
        random += 0x9e3779b97f4a7c15;
        return mix(random);
    }

    void make_ready(u32 thread) { ready[(ready_first + ready_count++) % size] = thread; }

    // Makes all threads for which `which` is true ready, in an order of the seed's.
    template <class F> void make_ready_all(F which) {
        const size_t before = ready_count;
        for (u32 thread = 0; thread < size; ++thread) {
            if (which(thread)) make_ready(thread);
        }
        if (launch->seed == 0) return;
        for (size_t left = ready_count - before; left > 1; --left) {
            u32& last = ready[(ready_first + before + left - 1) % size];
            std::swap(last, ready[(ready_first + before + draw() % left) % size]);
        }
    }

    // The next thread's context, or the scheduler's.
    Context& next() {
        if (ready_count == 0) {
            current = nullptr;
            return scheduler;
        }
        Thread& thread = threads[ready[ready_first]];
        ready_first = (ready_first + 1) % size;
        --ready_count;
        current = &thread;
        return thread.context;
    }

    // Leaves the running thread until it is ready again.
    void switch_away() {
        Thread& self = *static_cast<Thread*>(current);
        Context& to = next();
        if (&to != &self.context) switch_context(self.context, to);
    }

    void run();
    void prepare();
    std::string stuck() const;
};

namespace {

__thread Block* block;

u32 index_of(const Fibre* fibre) { return fibre->thread.x; }

void thread_main() {
    block->launch->kernel->invoke(block->launch->arguments);
    current->done = true;
    ++block->finished;
    Context& self = static_cast<Thread*>(current)->context;
    switch_context(self, block->next());
}

// Threads as ranges: 0-6, 8-31.
std::string ranges(const std::vector<u32>& threads) {
    std::string text;
    for (size_t at = 0; at < threads.size();) {
        size_t end = at;
        while (end + 1 < threads.size() && threads[end + 1] == threads[end] + 1) ++end;
        text += (text.empty() ? "" : ", ") + std::to_string(threads[at]);
        if (end > at) text += "-" + std::to_string(threads[end]);
        at = end + 1;
    }
    return text;
}

// Blocks with their stacks, for the next launch.
std::mutex pool_mutex;
std::vector<std::unique_ptr<Block>> pool;

std::unique_ptr<Block> take_block(u32 size) {
    std::unique_ptr<Block> taken;
    {
        const std::lock_guard<std::mutex> guard(pool_mutex);
        for (auto& candidate : pool) {
            if (candidate->size == size) {
                std::swap(candidate, pool.back());
                taken = std::move(pool.back());
                pool.pop_back();
                return taken;
            }
        }
    }
    taken.reset(new Block);
    taken->size = size;
    taken->threads.resize(size);
    taken->warps.resize((size + WARP - 1) / WARP);
    taken->ready.resize(size);
    taken->stacks_bytes = size * STACK_BYTES;
    void* stacks = mmap(nullptr, taken->stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) return nullptr;
    taken->stacks = static_cast<u8*>(stacks);
    return taken;
}

std::vector<Kernel>& registry() {
    static std::vector<Kernel> kernels;
    return kernels;
}

}  // namespace

void Block::prepare() {
    ready_first = ready_count = 0;
    waiting = finished = 0;
    epoch = 1;
    arrays.clear();
    arena_used = 0;
    memset(arena.get(), POISON, SHARED_BYTES);
    for (u32 at = 0; at < warps.size(); ++at) {
        const u32 lanes = size - at * WARP < WARP ? size - at * WARP : WARP;
        warps[at] = Warp{};
        warps[at].lanes = lanes == WARP ? 0xffffffff : (1u << lanes) - 1;
        warps[at].epoch = 1;
    }
    for (u32 at = 0; at < size; ++at) {
        Thread& thread = threads[at];
        thread.thread = Index3{at, 0, 0};
        thread.warp = at / WARP;
        thread.lane = at % WARP;
        thread.waits_for = nullptr;
        thread.done = false;
        u8* stack = stacks + at * STACK_BYTES;
        memcpy(stack, &CANARY, sizeof CANARY);
        make_context(thread.context, stack, STACK_BYTES, &thread_main);
    }
    make_ready_all([](u32) { return true; });
}

std::string Block::stuck() const {
    std::string text = std::string("kernel ") + launch->kernel->name + ", block (" + std::to_string(block_index.x) + ", " +
                       std::to_string(block_index.y) + "): threads wait for ever:";
    std::vector<bool> told(size, false);
    for (u32 at = 0; at < size; ++at) {
        const Thread& first = threads[at];
        if (told[at] || first.waits_for == nullptr) continue;
        std::vector<u32> same;
        for (u32 other = at; other < size; ++other) {
            const Thread& thread = threads[other];
            if (thread.waits_for != first.waits_for || thread.site.line != first.site.line || thread.site.file != first.site.file) continue;
            told[other] = true;
            same.push_back(other);
        }
        text += " " + describe(first.site) + ": " + first.waits_for + " by threads " + ranges(same) + ";";
    }
    return text + " " + std::to_string(finished) + " of " + std::to_string(size) + " threads have ended";
}

void Block::run() {
    prepare();
    switch_context(scheduler, next());
    if (launch->failed) return;
    if (finished < size) launch->fail(stuck());
    for (u32 at = 0; at < size; ++at) {
        if (memcmp(stacks + at * STACK_BYTES, &CANARY, sizeof CANARY) != 0) {
            launch->fail(std::string("kernel ") + launch->kernel->name + ": the stack of a fibre overflowed");
        }
    }
}

void fail(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    block->launch->fail(std::string("kernel ") + block->launch->kernel->name + ", block (" + std::to_string(block_index.x) + ", " +
                        std::to_string(block_index.y) + "), thread " + std::to_string(index_of(current)) + ": " + text);
    // This block is not gone on with; its stacks hold nothing that has to be released.
    Context& self = static_cast<Thread*>(current)->context;
    current = nullptr;
    switch_context(self, block->scheduler);
    __builtin_unreachable();
}

void barrier(Site site) {
    if (block->waiting == 0) {
        block->barrier_site = site;
    } else if (block->barrier_site.line != site.line || strcmp(block->barrier_site.file, site.file) != 0) {
        fail("%s:%d and %s:%d: threads of one block wait at different barriers", block->barrier_site.file,
             block->barrier_site.line, site.file, site.line);
    }
    current->waits_for = "__syncthreads";
    current->site = site;
    if (++block->waiting == block->size) {
        block->waiting = 0;
        ++block->epoch;
        for (Thread& thread : block->threads) thread.waits_for = nullptr;
        block->make_ready_all([](u32) { return true; });
    }
    block->switch_away();
}

const u64* gather(u32 mask, u64 value, const char* what, Site site) {
    Warp& warp = block->warps[current->warp];
    const u32 bit = 1u << current->lane;
    mask &= warp.lanes;
    if ((mask & bit) == 0) fail("%s:%d: %s by a lane that is not in its mask %08x", site.file, site.line, what, mask);
    if (warp.arrived == 0) {
        warp.mask = mask;
        warp.what = what;
        warp.site = site;
    } else if (warp.mask != mask || warp.site.line != site.line || strcmp(warp.site.file, site.file) != 0) {
        fail("%s:%d (%s, mask %08x) and %s:%d (%s, mask %08x): lanes of one warp wait at different places", warp.site.file,
             warp.site.line, warp.what, warp.mask, site.file, site.line, what, mask);
    }
    u64* values = warp.values[warp.turn % 2];
    values[current->lane] = value;
    warp.arrived |= bit;
    if (warp.arrived == mask) {
        warp.arrived = 0;
        ++warp.turn;
        // Shuffles and ballots do not order memory.
        if (mask == warp.lanes && strcmp(what, "__syncwarp") == 0) ++warp.epoch;
        const u32 first = current->warp * WARP, self = index_of(current);
        block->make_ready_all([=](u32 thread) {
            return thread / WARP == first / WARP && thread != self && (mask >> thread % WARP & 1) != 0;
        });
        for (u32 lane = 0; lane < WARP; ++lane) {
            if ((mask >> lane & 1) != 0) block->threads[first + lane].waits_for = nullptr;
        }
    } else {
        current->waits_for = what;
        current->site = site;
        block->switch_away();
    }
    return values;
}

void maybe_yield() {
    if (block->launch->seed == 0 || block->draw() % 16 != 0) return;
    block->make_ready(index_of(current));
    block->switch_away();
}

void* shared_array(Site declaration, size_t bytes, size_t cells) {
    for (Array& array : block->arrays) {
        if (array.declaration.line == declaration.line && array.declaration.file == declaration.file) return array.at;
    }
    const size_t start = (block->arena_used + 15) / 16 * 16;
    if (start + bytes > SHARED_BYTES) {
        fail("%s:%d: %zu bytes of shared memory, a block has %zu", declaration.file, declaration.line, start + bytes, SHARED_BYTES);
    }
    block->arena_used = start + bytes;
    u8* base = reinterpret_cast<u8*>((reinterpret_cast<uintptr_t>(block->arena.get()) + 15) / 16 * 16);
    block->arrays.push_back(Array{declaration, base + start, {}});
    (void)cells;
    return base + start;
}

// Whether an access before this one, by another thread, is not ordered with it.
static bool races(const Mark& mark) {
    if (!mark.set || mark.thread == index_of(current) || mark.block_epoch != block->epoch) return false;
    return mark.thread / WARP != current->warp || mark.warp_epoch == block->warps[current->warp].epoch;
}

static void report(const char* name, size_t cell, const Mark& before, const Mark& now) {
    static const char* const NAMES[] = {"read", "written", "used atomically", "written"};
    fail("%s:%d and %s:%d: %s[%zu] is %s by thread %u and %s by thread %u without a barrier between them", before.site.file,
         before.site.line, now.site.file, now.site.line, name, cell, NAMES[(int)before.access], before.thread, NAMES[(int)now.access],
         now.thread);
}

void note(void* at, size_t cell, Access access, const char* name, Site site) {
    Array* array = nullptr;
    for (Array& candidate : block->arrays) {
        if (candidate.at == at) array = &candidate;
    }
    if (array == nullptr) fail("%s:%d: %s is no shared array of this block", site.file, site.line, name);
    if (array->shadows.size() <= cell) array->shadows.resize(cell + 1024);
    Shadow& shadow = array->shadows[cell];
    const Mark now{site, index_of(current), block->epoch, block->warps[current->warp].epoch, access, true};
    const bool both_at_once = access == shadow.write.access && (access == Access::ATOMIC || access == Access::ANY);
    if (!both_at_once && races(shadow.write)) report(name, cell, shadow.write, now);
    if (access == Access::READ) {
        if (!shadow.write.set) fail("%s:%d: %s[%zu] is read before anything is written to it", site.file, site.line, name, cell);
        if (shadow.reads[0].thread != now.thread) shadow.reads[1] = shadow.reads[0];
        shadow.reads[0] = now;
        return;
    }
    if (access == Access::ATOMIC && !shadow.write.set) {
        fail("%s:%d: %s[%zu] is used atomically before anything is written to it", site.file, site.line, name, cell);
    }
    for (const Mark& read : shadow.reads) {
        if (races(read)) report(name, cell, read, now);
    }
    shadow.write = now;
}

Register::Register(const Kernel& kernel) { registry().push_back(kernel); }

// Runs blocks of a launch until there are none left.
static void work(Launch& launch, Index3 grid) {
    const u64 blocks = (u64)grid.x * grid.y;
    // Another first block and another step for each seed: any order will do.
    u64 step = launch.seed == 0 ? 1 : mix(launch.seed) % blocks | 1;
    while (std::gcd(step, blocks) != 1) step += 2;
    std::unique_ptr<Block> own = take_block(launch.kernel->threads);
    if (own == nullptr) {
        launch.fail("no memory for the fibres' stacks");
        return;
    }
    own->launch = &launch;
    block = own.get();
    block_size = Index3{launch.kernel->threads, 1, 1};
    grid_size = grid;
    while (!launch.failed) {
        const u64 turn = launch.next.fetch_add(1);
        if (turn >= blocks) break;
        const u64 at = (u64)((unsigned __int128)turn * step % blocks);
        block_index = Index3{(u32)(at % grid.x), (u32)(at / grid.x), 0};
        own->random = mix(launch.seed ^ mix(at + 1));
        own->run();
    }
    block = nullptr;
    const std::lock_guard<std::mutex> guard(pool_mutex);
    pool.push_back(std::move(own));
}

}  // namespace shim

// The kernel of this name for this K; null if there is none.
extern "C" const shim::Kernel* shim_kernel(const char* name, u32 k) {
    for (const shim::Kernel& kernel : shim::registry()) {
        if (kernel.k == k && strcmp(kernel.name, name) == 0) return &kernel;
    }
    return nullptr;
}

extern "C" u32 shim_kernel_arguments(const shim::Kernel* kernel) { return kernel->arguments; }
extern "C" u32 shim_kernel_threads(const shim::Kernel* kernel) { return kernel->threads; }

// Runs a kernel on `workers` OS threads. Returns 0, or 1 with what was wrong in `message`, cut to `room` bytes with its zero.
extern "C" int shim_launch(const shim::Kernel* kernel, u32 grid_x, u32 grid_y, void** arguments, u64 seed, u32 workers,
                           char* message, size_t room) {
    shim::Launch launch;
    launch.kernel = kernel;
    launch.arguments = arguments;
    launch.seed = seed;
    const shim::Index3 grid{grid_x, grid_y, 1};
    if (grid_x == 0 || grid_y == 0) launch.fail(std::string("kernel ") + kernel->name + ": an empty grid");
    std::vector<std::thread> others;
    for (u32 worker = 1; worker < workers && !launch.failed; ++worker) others.emplace_back([&] { shim::work(launch, grid); });
    if (!launch.failed) shim::work(launch, grid);
    for (std::thread& other : others) other.join();
    if (launch.failed) snprintf(message, room, "%s", launch.message.c_str());
    return launch.failed ? 1 : 0;
}

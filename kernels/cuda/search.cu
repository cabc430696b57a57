// The first entry of table 7 in the canonical order for each s-bucket (archival §3.4 and §3.5).
//
// Entries lie in order of arrival, so positions in the canonical order are not known. They decide only between entries
// whose y are equal, some 500 of a table, and those are compared by their whole trees: an entry's key is
// (y, key of the left parent, key of the right parent), that of table 1 (y, x), and written out it is the y of the tree's
// nodes from the root, left before right. One warp a comparison.
#pragma once
#include "combine.cuh"
#include "first_table.cu"

constexpr u32 TIE_WARPS = 4u;
constexpr u32 TIE_THREADS = 32 * TIE_WARPS;
// Nodes of a tree: 64 of table 1, then 32 of table 2, … 1 of table 7.
constexpr u32 TREE_NODES = 127u;
constexpr u32 TREE_LEAVES = 64u;

// Collects the candidates that are equal in y with the first of their s-bucket: a list for each such s-bucket.
// Grid: CANDIDATES / 256 x records.
KERNEL(find_ties, 256)(const Candidate* candidates, const u64* first, u32* heads, u32* nexts, u32* ties, Status* status) {
    const u32 record = blockIdx.y;
    candidates += record * CANDIDATES;
    nexts += record * CANDIDATES;
    status += record;
    const u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= CANDIDATES || index >= status->candidates) return;
    const u32 y = candidates[index].y;
    const u32 s_bucket = s_bucket_of(y);
    const u64 winner = first[record * S_BUCKETS + s_bucket];
    if ((u32)(winner >> 32) != y % 64 || (u32)winner == index) return;
    const u32 next = atomicExch(&heads[record * S_BUCKETS + s_bucket], index);
    nexts[index] = next;
    if (next == NONE) ties[record * S_BUCKETS + atomicAdd(&status->ties, 1u)] = s_bucket;
}

// The 64 x below an entry of table 7; x of table 3's entries are all in their metadata.
struct Tables {
    const Entry* third;
    const Entry* fourth;
    const Entry* fifth;
    const Entry* sixth;
};

// The entry of table 3 that is leaf 0 to 15 of an entry of table 7.
DEVICE Entry leaf_of(const Tables& tables, u32 link, u32 leaf) {
    link = tables.sixth[parent_slot(link, leaf >> 3)].link;
    link = tables.fifth[parent_slot(link, leaf >> 2 & 1)].link;
    link = tables.fourth[parent_slot(link, leaf >> 1 & 1)].link;
    return tables.third[parent_slot(link, leaf & 1)];
}

// x number 0 to 3 of an entry of table 3.
DEVICE u32 x_of(const Entry& leaf, u32 index) {
    const u32 bit = index * K;
    const u32 head = bit < 32 ? leaf.high : bit < 64 ? leaf.low : leaf.rest;
    const u32 tail = bit < 32 ? leaf.low : leaf.rest & 0xffff0000;
    const u64 window = (u64)head << 32 | tail;
    return (u32)(window << (bit % 32) >> (64 - K));
}

// Writes y of all nodes, and x of all leaves, of the tree of a table-7 link. `nodes` of this warp are scratch.
template <u32 TABLE, class Ys, class Nodes>
DEVICE void grow(Ys& ys, u32 y_base, Nodes& nodes, u32 node_base, u32 lane) {
    constexpr u32 COUNT = TREE_LEAVES >> (TABLE - 1);
    // Nodes of the tables below.
    constexpr u32 PARENTS = 2 * TREE_LEAVES - 4 * COUNT, CHILDREN = 2 * TREE_LEAVES - 2 * COUNT;
    Child child{};
    if (lane < COUNT) {
        const Entry left = nodes[node_base + 2 * lane], right = nodes[node_base + 2 * lane + 1];
        child = combine<TABLE>(ys[y_base + PARENTS + 2 * lane], left, right);
    }
    __syncwarp();
    if (lane < COUNT) {
        nodes[node_base + lane] = Entry{child.high, child.low, child.rest, 0};
        ys[y_base + CHILDREN + lane] = y_of(child);
    }
    __syncwarp();
}

template <class Ys, class Xs, class Nodes>
DEVICE void grow_tree(const Tables& tables, const u32* seed, u32 link, Ys& ys, u32 y_base, Xs& xs, u32 x_base, Nodes& nodes,
                      u32 node_base, u32 lane) {
    NO_UNROLL for (u32 index = lane; index < TREE_LEAVES; index += 32) {
        const u32 x = x_of(leaf_of(tables, link, index / 4), index % 4);
        xs[x_base + index] = x;
        ys[y_base + index] = first_table_y(seed, x);
        nodes[node_base + index] = Entry{x << (32 - K), 0, 0, 0};
    }
    __syncwarp();
    grow<2>(ys, y_base, nodes, node_base, lane);
    grow<3>(ys, y_base, nodes, node_base, lane);
    grow<4>(ys, y_base, nodes, node_base, lane);
    grow<5>(ys, y_base, nodes, node_base, lane);
    grow<6>(ys, y_base, nodes, node_base, lane);
    grow<7>(ys, y_base, nodes, node_base, lane);
}

// Place in the written-out key of a node: `index` of the nodes of `table`. A subtree of table t has 2^t - 1 nodes.
DEVICE u32 key_place(u32 table, u32 index) {
    u32 place = 7 - table;
    for (u32 above = table; above < 7; ++above) place += (index >> (above - table) & 1) * ((1u << above) - 1);
    return place;
}

// Whether the tree at the second bases comes before the one at the first. All lanes get the same answer.
template <class Ys, class Xs> DEVICE bool comes_before(Ys& ys, Xs& xs, u32 y_base, u32 x_base, u32 other_y, u32 other_x, u32 lane) {
    // Place of the first difference << 1 | whether it is in favour of the other.
    u32 difference = NONE;
    u32 table = 1, first = 0;
    for (u32 node = lane; node < TREE_NODES; node += 32) {
        while (node >= first + (TREE_LEAVES >> (table - 1))) first += TREE_LEAVES >> (table++ - 1);
        u64 own = ys[y_base + node], other = ys[other_y + node];
        if (table == 1) {
            own = own << 32 | xs[x_base + node];
            other = other << 32 | xs[other_x + node];
        }
        if (own == other) continue;
        const u32 found = key_place(table, node - first) << 1 | (other < own);
        difference = found < difference ? found : difference;
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        const u32 found = __shfl_xor_sync(ALL_LANES, difference, distance);
        difference = found < difference ? found : difference;
    }
    return difference != NONE && (difference & 1) != 0;
}

// One block on a multiprocessor is enough: fewer registers would spill.
// Puts the first in canonical order of each tie into `first`. Grid: any x records.
KERNEL_RESIDENT(resolve_ties, TIE_THREADS, 1)(const u32* seeds, const Entry* third, const Entry* fourth, const Entry* fifth,
                                  const Entry* sixth, const Candidate* candidates, u64* first, const u32* heads,
                                  const u32* nexts, const u32* ties, const Status* status) {
    SHARED(u32, ys, TIE_WARPS * 2 * TREE_NODES);
    SHARED(u32, xs, TIE_WARPS * 2 * TREE_LEAVES);
    SHARED(Entry, nodes, TIE_WARPS * TREE_LEAVES);
    const u32 record = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u64 table = (u64)record * TABLE_SLOTS;
    const Tables tables{third + table, fourth + table, fifth + table, sixth + table};
    const u32* seed = seeds + 8 * record;
    candidates += record * CANDIDATES;
    nexts += record * CANDIDATES;
    const u32 node_base = warp * TREE_LEAVES;
    const u32 count = status[record].ties;
    for (u32 tie = blockIdx.x * TIE_WARPS + warp; tie < count; tie += gridDim.x * TIE_WARPS) {
        const u32 s_bucket = ties[record * S_BUCKETS + tie];
        u64* winner = &first[record * S_BUCKETS + s_bucket];
        const u32 first_candidate = (u32)*winner;
        u32 best = NONE;
        // Which of the warp's two trees is that of `best`.
        u32 side = 2 * warp;
        u32 next = first_candidate;
        while (next != NONE) {
            const u32 other = side ^ 1;
            grow_tree(tables, seed, candidates[next].link, ys, other * TREE_NODES, xs, other * TREE_LEAVES, nodes, node_base, lane);
            if (best == NONE ||
                comes_before(ys, xs, side * TREE_NODES, side * TREE_LEAVES, other * TREE_NODES, other * TREE_LEAVES, lane)) {
                best = next;
                side = other;
            }
            __syncwarp();
            next = next == first_candidate ? heads[record * S_BUCKETS + s_bucket] : nexts[next];
        }
        if (lane == 0) *winner = (*winner & ~(u64)NONE) | best;
        __syncwarp();
    }
}

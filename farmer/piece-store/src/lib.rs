//! Flat-file piece stores (full and sharded), memory-mapped

//! What both caches share: stores behind the TCP transfer, announced to the cluster.

pub mod store;

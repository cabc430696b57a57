//! What both caches share: stores behind the TCP transfer, announced to the cluster, filled by the leading controller.

pub mod contents;
pub mod serve;
pub mod store;
pub mod surplus;
pub mod upkeep;

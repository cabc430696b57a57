//! Where plotting gets its pieces: caches in the order of the design, reconstruction, at last a controller.

pub mod collect;

pub use collect::{Collection, Source, collect};

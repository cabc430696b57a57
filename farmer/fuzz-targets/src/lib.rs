//! What every decoder of bytes from a wire or a file has to withstand: one function a decoder, which must return, must not
//! panic, and must not allocate without bound, whatever it is given; it also checks that what was accepted is encoded again
//! as the same thing and lies within the stated bounds.
//!
//! The same functions are called by the fuzzer (`fuzz/`), by the replay of the corpora in the tests, and by the example
//! `seeds`, which writes the corpora's first files with the crates' own encoders.
//!
//! Architecture invariant: nothing depends on this crate.

mod files;
mod packing;
mod texts;
mod wire;

pub use packing::{HOLE, MENDED};
pub use wire::{ENTRIES, MESSAGES};

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name: of the fuzzer's binary, and of the directory with the corpus.
    pub name: &'static str,
    /// Gives bytes to a decoder; says whether they were taken.
    pub run: fn(&[u8]) -> bool,
    /// How many mutations of each file of the corpus the tests try.
    pub mutations: u32,
}

/// Cheap decoders: some microseconds.
const MANY: u32 = 4000;
/// Decoders that read files or take sockets: some hundred microseconds.
const SOME: u32 = 1000;
/// What takes a millisecond or more.
const FEW: u32 = 200;

const fn target(name: &'static str, run: fn(&[u8]) -> bool, mutations: u32) -> Target {
    Target { name, run, mutations }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("transfer_frame", wire::transfer_frame, MANY),
    target("transfer_hello", wire::transfer_hello, MANY),
    target("transfer_server", wire::transfer_server, FEW),
    target("nats_message", wire::nats_message, MANY),
    target("kv_entry", wire::kv_entry, MANY),
    target("proof_input", wire::proof_input, FEW),
    target("segment_headers", wire::segment_headers, MANY),
    target("segment_items", wire::segment_items, MANY),
    target("piece_store", files::piece_store, SOME),
    target("spool_header", files::spool_header, SOME),
    target("farm", files::farm, SOME),
    target("farm_identity", files::farm_identity, SOME),
    target("sector_metadata", files::sector_metadata, FEW),
    target("contents_map", files::contents_map, SOME),
    target("reference_string", files::reference_string, FEW),
    target("export_journal", files::export_journal, SOME),
    target("node_db_value", files::node_db_value, MANY),
    target("node_db_metadata", files::node_db_metadata, FEW),
    target("node_db_log", files::node_db_log, FEW),
    target("node_rpc", texts::node_rpc, MANY),
    target("inventory", texts::inventory, SOME),
    target("supervisor_answer", texts::supervisor_answer, MANY),
    target("topology", texts::topology, SOME),
    target("provision_frame", wire::provision_frame, MANY),
    target("written_values", texts::written_values, MANY),
];

/// Runs a target by its name.
///
/// # Panics
/// When there is none, and with what the target finds.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the target is in the table");
    (target.run)(bytes);
}

//! `autonomys-export-piece`: all pieces of the history, archived from a node's blocks into a store.

fn main() -> std::process::ExitCode {
    farmer::program::exporter()
}

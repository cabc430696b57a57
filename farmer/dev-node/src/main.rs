//! `autonomys-dev-node`: a development chain in one process.

fn main() -> std::process::ExitCode {
    dev_node::cli::main()
}

//! `provision`: see the library.

fn main() -> std::process::ExitCode {
    provision::cli::main()
}

//! `autonomys-farmer`: the roles of an Autonomys farming cluster.

fn main() -> std::process::ExitCode {
    farmer::program::farmer()
}

//! autonomys-dev-node
fn main() {}

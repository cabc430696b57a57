//! autonomys-farmer
fn main() {}

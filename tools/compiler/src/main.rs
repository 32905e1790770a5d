//! `cliptext`: the compiler's command line.
fn main() {}

//! Load generator, floor programs and benches.
fn main() {}

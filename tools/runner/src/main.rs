//! `cliptext-run`: the program for the board.
fn main() {}

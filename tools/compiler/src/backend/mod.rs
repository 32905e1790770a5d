//! From the intermediate representation to a plan's bytes: steps with their places in the arena (`lower`, `arena`),
//! weights in the target's panels (`pack`, `target`), the file (`emit`).

pub mod arena;
pub mod emit;
pub mod lower;
pub mod pack;
pub mod target;

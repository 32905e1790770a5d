//! Links only if no panic path is left in the runtime: the panic handler calls a function that nobody defines.
//!
//! `.ci/panic-free` links it for `aarch64-unknown-none`, optimized, and then once more with a panic path of its own, which
//! must not link. It is not run. Everything that the calls below read comes from outside, so that the optimizer can't know it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod outside;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("link me with --target aarch64-unknown-none");
}

//! A device that answers: `docs/bare-metal.md`.
//!
//! Built for `aarch64-unknown-none`; for other targets it is an empty program, so that the workspace builds.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board;
#[cfg(target_os = "none")]
mod constants;
#[cfg(target_os = "none")]
mod cores;
#[cfg(target_os = "none")]
mod device;
#[cfg(target_os = "none")]
mod disk;
#[cfg(target_os = "none")]
mod fault;
#[cfg(target_os = "none")]
mod once;
#[cfg(target_os = "none")]
mod serial;
#[cfg(target_os = "none")]
#[cfg_attr(not(feature = "self-test"), expect(dead_code, reason = "told in the self-test"))]
mod stack;

// Sixteen pages: more than twice what is used, so that painting shows how much that is.
#[cfg(target_os = "none")]
aarch64_rt::entry!(start, 16);
#[cfg(target_os = "none")]
fn start(_: u64, _: u64, _: u64, _: u64) -> ! {
    device::run()
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("build me with --target aarch64-unknown-none");
}

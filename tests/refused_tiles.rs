//! Where Linux refuses a process AMX's tile registers, the next kernels do the work. A program of its own: it asks once in its life.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use cliptext::{AlignedBytes, Encoder, KernelError, Kernels, Plan};
use common::{PROMPTS, one_tower};

/// Large enough for every signal frame but one with tiles, which takes some 11 KB.
const SMALL_STACK: usize = 8 << 10;

#[test]
fn refused_tile_registers_fall_back() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    if !cpu.contains(" amx_int8") {
        eprintln!("not tested: this CPU has no AMX");
        return;
    }
    let mut stack = vec![0u8; SMALL_STACK];
    let small = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: SMALL_STACK };
    let mut before = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: the stack outlives its use: the one before is set again below.
    assert_eq!(unsafe { libc::sigaltstack(&small, &mut before) }, 0);

    assert_eq!(Kernels::named("amx").unwrap_err(), KernelError::Refused);
    assert_eq!(Kernels::available().next().unwrap().name(), "avx512vnni");
    let file = one_tower();
    let plan = Plan::load(file.bytes()).unwrap();
    assert_eq!(plan.kernels().unwrap().name(), "avx512vnni");
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = Encoder::new(&plan, &mut arena).unwrap();
    assert!(encoder.encode(PROMPTS[0]).hidden().iter().all(|value| value.is_finite()));

    // SAFETY: what was there.
    assert_eq!(unsafe { libc::sigaltstack(&before, std::ptr::null_mut()) }, 0);
    // What was refused is not asked for again: kernels stay the same for a process.
    assert_eq!(Kernels::named("amx").unwrap_err(), KernelError::Refused);
}

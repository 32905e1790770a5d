//! How deep the stacks are used: they are painted, and what was painted over counts.

use core::arch::asm;
use core::fmt::{self, Write};
use core::ops::Range;

use crate::cores;

/// What the stacks are painted with.
const PAINT: u64 = 0x5a5a_a5a5_c3c3_3c3c;
/// Bytes below the stack pointer that are left alone: the function that paints uses some.
const OWN: usize = 512;

unsafe extern "C" {
    static boot_stack_begin: u8;
    static boot_stack_end: u8;
}

fn boot_stack() -> Range<usize> {
    // The linker script's symbols have addresses only.
    (&raw const boot_stack_begin) as usize..(&raw const boot_stack_end) as usize
}

/// Paints what is free of the first core's stack, and those of the others, which are not started yet.
pub(crate) fn paint() {
    let pointer: usize;
    // SAFETY: the stack pointer is read.
    unsafe { asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack)) };
    let boot = boot_stack();
    let free = boot.start..pointer.saturating_sub(OWN);
    for range in cores::stacks().chain([free]) {
        for address in range.step_by(8) {
            // SAFETY: the bytes are a stack's, and below everything that is in use.
            unsafe { (address as *mut u64).write_volatile(PAINT) };
        }
    }
}

/// Bytes that were used, of a stack.
fn used(stack: Range<usize>) -> usize {
    // SAFETY: the bytes are a stack's, which is mapped.
    let painted = |address: &usize| unsafe { (*address as *const u64).read_volatile() } == PAINT;
    // The place of the closure that a core is started with is at its lowest address: a few words.
    let lowest = stack.start + 64;
    stack.end - (lowest..stack.end).step_by(8).find(|address| !painted(address)).unwrap_or(stack.end)
}

/// Tells how many bytes of each core's stack were used.
pub(crate) fn tell(out: &mut impl Write) -> fmt::Result {
    write!(out, "stack used: {}", used(boot_stack()))?;
    for stack in cores::stacks() {
        write!(out, ", {}", used(stack))?;
    }
    writeln!(out, " bytes")
}

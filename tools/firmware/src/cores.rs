//! The other cores.

use core::arch::asm;

use aarch64_rt::{Stack, start_core};
use cliptext::threads::Crew;
use smccc::Hvc;

use crate::board::CORES;

/// Pages of another core's stack.
const PAGES: usize = 8;

/// Waits for an event, and sends one.
pub(crate) static CREW: Crew = Crew::new(
    CORES,
    // SAFETY: it waits, and changes nothing.
    || unsafe { asm!("wfe", options(nomem, nostack)) },
    // SAFETY: the barrier lets the others see what was written before the event.
    || unsafe { asm!("dsb ishst", "sev", options(nostack)) },
);

static mut STACKS: [Stack<PAGES>; CORES - 1] = [const { Stack::new() }; CORES - 1];

/// Has the cores that there are join the crew. To be called once.
pub(crate) fn start() {
    let stacks = (&raw mut STACKS).cast::<Stack<PAGES>>();
    for core in 1..CORES {
        // SAFETY: each core has a stack of its own, which nobody else uses; memory is mapped alike for all.
        let _ = unsafe { start_core::<Hvc, _, PAGES>(core as u64, stacks.add(core - 1), || CREW.join()) };
        // Without such a core the call says so, and there is nothing to do.
    }
}

/// The stacks' bytes, from their lowest address.
pub(crate) fn stacks() -> impl Iterator<Item = core::ops::Range<usize>> {
    let first = (&raw const STACKS) as usize;
    let bytes = size_of::<Stack<PAGES>>();
    (0..CORES - 1).map(move |core| first + core * bytes..first + (core + 1) * bytes)
}

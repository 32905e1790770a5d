//! QEMU's `virt` machine: what is where, start-up, clock, reset. A port to another board changes this file.

use core::arch::asm;
use core::ops::Range;

use aarch64_rt::{InitialPagetable, initial_pagetable};
use smccc::{Hvc, psci};

/// The first PL011.
pub(crate) const UART: usize = 0x0900_0000;
/// Places of virtio devices, `VIRTIO_STEP` bytes each.
pub(crate) const VIRTIO: Range<usize> = 0x0a00_0000..0x0a00_4000;
/// From one virtio device to the next.
pub(crate) const VIRTIO_STEP: usize = 0x200;
/// Where a plan may stand that was loaded beside the image, up to the end of the memory that is mapped.
pub(crate) const PLAN: Range<usize> = 0x5000_0000..0x8000_0000;
/// Cores that are started, at the most.
pub(crate) const CORES: usize = 4;

// Descriptors of 1 GiB: valid, accessed; the memory's attributes are those of aarch64-rt's MAIR.
const ACCESSED: usize = 1 | 1 << 10;
const DEVICE: usize = ACCESSED | 1 << 54;
const MEMORY: usize = ACCESSED | 1 << 2 | 3 << 8;

initial_pagetable!({
    let mut map = [0; 512];
    map[0] = DEVICE;
    map[1] = MEMORY | 0x4000_0000;
    InitialPagetable(map)
});

/// Microseconds since the machine was switched on.
pub(crate) fn clock() -> u64 {
    let (count, per_second): (u64, u64);
    // SAFETY: both registers may be read at every level.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", "mrs {}, cntfrq_el0", out(reg) count, out(reg) per_second) };
    (u128::from(count) * 1_000_000 / u128::from(per_second.max(1))) as u64
}

/// Starts anew.
pub(crate) fn reset() -> ! {
    let _ = psci::system_reset::<Hvc>();
    loop {
        core::hint::spin_loop();
    }
}

/// The kernels whose instructions the core has by its identification registers, the fastest first.
pub(crate) fn kernels() -> impl Iterator<Item = &'static str> {
    let (isar0, isar1): (u64, u64);
    // SAFETY: both registers may be read at EL1.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", "mrs {}, id_aa64isar1_el1", out(reg) isar0, out(reg) isar1) };
    let has = |register: u64, bit: u32| register >> bit & 0xf != 0;
    let all = [("i8mm", has(isar1, 52)), ("dotprod", has(isar0, 44)), ("neon", true)];
    all.into_iter().filter_map(|(name, is_there)| is_there.then_some(name))
}

//! What must not happen: told with its place, then the board starts anew.

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;

use aarch64_rt::{ExceptionHandlers, RegisterStateRef, exception_handlers};

use crate::board::reset;
use crate::serial::Serial;

/// A port that whoever uses it will not use any more.
fn port() -> Serial {
    // SAFETY: the program goes no further.
    unsafe { Serial::new() }
}

/// Tells an exception by its registers.
fn tell(what: &str, state: &RegisterStateRef<'_>) -> ! {
    let (syndrome, address): (u64, u64);
    // SAFETY: both registers may be read at EL1.
    unsafe { asm!("mrs {}, esr_el1", "mrs {}, far_el1", out(reg) syndrome, out(reg) address) };
    let _ = writeln!(
        port(),
        "\nfault: {what} at {:#x}: syndrome {syndrome:#x} (class {:#x}), address {address:#x}, link {:#x}",
        state.elr,
        syndrome >> 26,
        state.sp
    );
    reset()
}

struct Faults;

impl ExceptionHandlers for Faults {
    extern "C" fn sync_current(state: RegisterStateRef<'_>) {
        tell("exception", &state)
    }

    extern "C" fn irq_current(state: RegisterStateRef<'_>) {
        tell("interrupt", &state)
    }

    extern "C" fn fiq_current(state: RegisterStateRef<'_>) {
        tell("fast interrupt", &state)
    }

    extern "C" fn serror_current(state: RegisterStateRef<'_>) {
        tell("system error", &state)
    }

    extern "C" fn sync_lower(state: RegisterStateRef<'_>) {
        tell("exception below", &state)
    }

    extern "C" fn irq_lower(state: RegisterStateRef<'_>) {
        tell("interrupt below", &state)
    }

    extern "C" fn fiq_lower(state: RegisterStateRef<'_>) {
        tell("fast interrupt below", &state)
    }

    extern "C" fn serror_lower(state: RegisterStateRef<'_>) {
        tell("system error below", &state)
    }
}

exception_handlers!(Faults);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(port(), "\npanic: {info}");
    reset()
}

/// Reads memory that is not there.
#[cfg(feature = "self-test")]
pub(crate) fn provoke() {
    // SAFETY: nothing is mapped there: it ends in `tell`.
    unsafe { asm!("ldr xzr, [{}]", in(reg) 0x80_0000_0000_u64 - 8) };
}

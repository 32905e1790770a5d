//! What a library without std does should it panic.

use core::panic::PanicInfo;

unsafe extern "C" {
    /// The program's own: it must not return.
    safe fn cliptext_panic() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cliptext_panic()
}

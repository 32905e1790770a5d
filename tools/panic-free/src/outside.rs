//! What comes from outside: memory, a line, a card.

use core::convert::Infallible;
use core::panic::PanicInfo;

use cliptext::stream::Storage;
use embedded_io::{ErrorType, Read, Write};

unsafe extern "C" {
    /// Defined nowhere.
    fn a_panic_path_is_left() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: a program in which this call is left does not link.
    unsafe { a_panic_path_is_left() }
}

/// A port whose bytes nobody knows beforehand.
#[derive(Clone, Copy)]
pub(crate) struct Port(pub(crate) *mut u8);

impl Port {
    fn take(self) -> u8 {
        // SAFETY: whoever called `_start` gave the port.
        unsafe { self.0.read_volatile() }
    }

    fn give(self, byte: u8) {
        // SAFETY: as above.
        unsafe { self.0.write_volatile(byte) }
    }
}

impl ErrorType for Port {
    type Error = Infallible;
}

impl Read for Port {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let count = self.take();
        let mut read = 0;
        for byte in bytes.iter_mut().take(count.into()) {
            *byte = self.take();
            read += 1;
        }
        Ok(read)
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            self.give(*byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl core::fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            self.give(byte);
        }
        Ok(())
    }
}

/// A card that may fail.
pub(crate) struct Card(pub(crate) Port);

impl Storage for Card {
    type Error = u8;

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), u8> {
        offset.to_le_bytes().into_iter().for_each(|byte| self.0.give(byte));
        into.iter_mut().for_each(|byte| *byte = self.0.take());
        match self.0.take() {
            0 => Ok(()),
            error => Err(error),
        }
    }
}

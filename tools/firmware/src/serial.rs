//! The serial port, as the serve loop and as messages want it.

use core::convert::Infallible;
use core::fmt;
use core::ptr::NonNull;

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use embedded_io::{ErrorType, Read, Write};

use crate::board;

/// What is done in silence.
#[cfg(feature = "self-test")]
pub(crate) type Work = fn(&mut Serial);

/// The serial port.
pub(crate) struct Serial {
    uart: Uart<'static>,
    /// When the last byte came, and what is done when none came for two seconds.
    #[cfg(feature = "self-test")]
    silence: Option<(u64, Work)>,
}

impl Serial {
    /// The first port.
    ///
    /// # Safety
    /// Nobody else uses the port, or nobody that goes on with it.
    pub(crate) unsafe fn new() -> Self {
        let registers = NonNull::new(board::UART as *mut PL011Registers).unwrap_or(NonNull::dangling());
        // SAFETY: the registers are there, mapped as a device; that nobody else uses them is the caller's promise.
        let uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        Self {
            uart,
            #[cfg(feature = "self-test")]
            silence: None,
        }
    }

    fn put(&mut self, byte: u8) {
        while self.uart.is_tx_fifo_full() {}
        self.uart.write_word(byte);
    }

    /// Has `work` done when no byte comes for two seconds after another.
    #[cfg(feature = "self-test")]
    pub(crate) fn in_silence(&mut self, work: Work) {
        self.silence = Some((u64::MAX - 2_000_000, work));
    }

    /// A byte came, or none.
    #[cfg(feature = "self-test")]
    fn listen(&mut self, is_byte: bool) {
        match &mut self.silence {
            Some((last, _)) if is_byte => *last = board::clock(),
            Some((last, work)) if board::clock() > *last + 2_000_000 => {
                let work = *work;
                work(self);
            }
            _ => {}
        }
    }
}

impl ErrorType for Serial {
    type Error = Infallible;
}

impl Read for Serial {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = into.first_mut() else { return Ok(0) };
        loop {
            match self.uart.read_word() {
                Ok(Some(byte)) => {
                    *first = byte;
                    #[cfg(feature = "self-test")]
                    self.listen(true);
                    return Ok(1);
                }
                #[cfg(feature = "self-test")]
                Ok(None) => self.listen(false),
                #[cfg(not(feature = "self-test"))]
                Ok(None) => {}
                // A byte that was lost or broken on the line: its frame's checksum will tell.
                Err(_) => {}
            }
        }
    }
}

impl Write for Serial {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|&byte| self.put(byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while self.uart.is_busy() {}
        Ok(())
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}

//! Serial ports.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::termios::{self, ControlModes, OptionalActions, SpecialCodeIndex};

use crate::failure::{Outcome, work};

/// Opens the serial port at `path`: bytes as they are, 8 bits, no parity, one stop bit, no flow control.
///
/// With `timeout`, reading gives nothing after so long; it is rounded up to tenths of a second, of which there are up to 255.
pub(crate) fn open(path: &Path, baud: u32, timeout: Option<std::time::Duration>) -> Outcome<File> {
    let failed = |error: &dyn std::fmt::Display| work(path.display(), error);
    // A port whose carrier line is down would not open, and one that is opened must not become the program's terminal.
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = flags | rustix::fs::OFlags::CLOEXEC;
    let port = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|error| failed(&error))?;
    if !termios::isatty(&port) {
        return Err(failed(&"not a serial port"));
    }
    let set = || -> io::Result<()> {
        let mut mode = termios::tcgetattr(&port)?;
        mode.make_raw();
        mode.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        mode.control_modes &= !(ControlModes::CSTOPB | ControlModes::CRTSCTS);
        let tenths = timeout.map_or(0, |time| time.as_millis().div_ceil(100).clamp(1, 255));
        mode.special_codes[SpecialCodeIndex::VMIN] = u8::from(timeout.is_none());
        mode.special_codes[SpecialCodeIndex::VTIME] = tenths as u8;
        mode.set_speed(baud)?;
        termios::tcsetattr(&port, OptionalActions::Flush, &mode)?;
        // Now waiting is meant.
        let flags = rustix::fs::fcntl_getfl(&port)? - rustix::fs::OFlags::NONBLOCK;
        Ok(rustix::fs::fcntl_setfl(&port, flags)?)
    };
    set().map_err(|error| failed(&format_args!("{baud} baud: {error}")))?;
    Ok(File::from(port))
}

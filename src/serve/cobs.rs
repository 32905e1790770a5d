//! Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): bytes without a zero among them, so that a zero ends a frame.
//!
//! Bytes go in groups: a code, one more than the bytes that follow it, and those bytes. Behind a group stands a zero that was
//! left out, but for a group of 254 bytes, code 255, and the last. Both directions take a byte at a time: what is written needs no more memory than
//! a group, and of what is read nothing has to be kept twice.

/// Bytes of a group without its code, at the most.
const GROUP: u8 = 254;

/// Bytes of a group that is being made.
const ROOM: usize = 1 + GROUP as usize;

/// Makes groups of bytes.
pub(super) struct Stuffer {
    /// The place of the code, then the group's bytes.
    group: [u8; ROOM],
    /// Bytes in the group, its code among them.
    used: u8,
    /// Whether the group before was full, so that one without bytes may be left out at the end.
    behind_full: bool,
}

impl Stuffer {
    pub(super) const fn new() -> Self {
        Self { group: [0; ROOM], used: 1, behind_full: false }
    }

    /// Takes a byte; where a group is done with it, it is given to `write`.
    pub(super) fn push<E>(&mut self, byte: u8, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if byte == 0 {
            return self.close(false, write);
        }
        if let Some(place) = self.group.get_mut(usize::from(self.used)) {
            *place = byte;
            self.used += 1;
        }
        if self.used > GROUP { self.close(true, write) } else { Ok(()) }
    }

    /// Ends the frame: the last group, and the zero.
    pub(super) fn finish<E>(&mut self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.used > 1 || !self.behind_full {
            self.close(false, &mut write)?;
        }
        self.behind_full = false;
        write(&[0])
    }

    fn close<E>(&mut self, full: bool, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let [code, ..] = &mut self.group;
        *code = self.used;
        let used = usize::from(core::mem::replace(&mut self.used, 1));
        self.behind_full = full;
        write(self.group.get(..used).unwrap_or(&[]))
    }
}

/// Takes groups apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unstuffer {
    /// Bytes of the group that are still to come.
    left: u8,
    /// A zero stands behind the group, if another follows.
    zero: bool,
}

impl Unstuffer {
    /// Takes a byte that is not zero and gives what it means, if anything.
    pub(super) fn push(&mut self, byte: u8) -> Option<u8> {
        if self.left > 0 {
            self.left -= 1;
            return Some(byte);
        }
        let zero = core::mem::replace(&mut self.zero, byte <= GROUP);
        self.left = byte.saturating_sub(1);
        zero.then_some(0)
    }

    /// Ends the frame. False where its last group is cut.
    pub(super) fn finish(&mut self) -> bool {
        core::mem::take(self).left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn stuffed(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stuffer = Stuffer::new();
        let mut write = |group: &[u8]| {
            out.extend_from_slice(group);
            Ok::<(), ()>(())
        };
        bytes.iter().for_each(|&byte| stuffer.push(byte, &mut write).unwrap());
        stuffer.finish(&mut write).unwrap();
        out
    }

    #[test]
    fn groups_are_those_of_the_cobs_crate_and_come_apart_again() {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        let mut cases = vec![vec![0], vec![0, 0], vec![1; 253], vec![1; 254], vec![1; 255], vec![1; 508]];
        cases.extend([vec![1; 254], vec![1; 508]].map(|mut bytes| {
            bytes.push(0);
            bytes
        }));
        cases.extend((1..300).map(|length| (0..length * 3).map(|_| next() >> (length % 8)).collect()));
        for bytes in cases {
            let ours = stuffed(&bytes);
            let (frame, [0]) = ours.split_at(ours.len() - 1) else { panic!("no zero at the end") };
            assert_eq!(frame, cobs::encode_vec(&bytes));
            let mut unstuffer = Unstuffer::default();
            let back: Vec<u8> = frame.iter().filter_map(|&byte| unstuffer.push(byte)).collect();
            assert!(unstuffer.finish() && back == bytes);
        }
    }

    #[test]
    fn a_group_that_is_cut_is_found() {
        let mut unstuffer = Unstuffer::default();
        assert_eq!([3, 7].map(|byte| unstuffer.push(byte)), [None, Some(7)]);
        assert!(!unstuffer.finish());
        assert!(unstuffer.finish(), "the next frame begins anew");
    }
}

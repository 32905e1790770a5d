//! What the unit tests share.

extern crate std;

/// A small generator of random numbers (xorshift), the same on every machine.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// The standard vocabulary's table.
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);
static TABLE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/clip.vocab"));

pub(super) fn table() -> &'static [u8] {
    &TABLE.0
}

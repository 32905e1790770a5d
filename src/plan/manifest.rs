//! What a plan says of itself.

use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::kernels::layout::Packing;

/// Bytes that the manifest section has at the most.
pub const MANIFEST: usize = 256;

/// Bytes that a text of the manifest takes at the most.
pub const TEXT: usize = 64;

/// What a plan says of itself: a postcard value, read once, in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest<'a> {
    /// The program that made it; at most [`TEXT`] bytes, as `source`.
    pub producer: &'a str,
    /// The model that it was made from.
    pub source: &'a str,
    /// Tokens of a text, start and end token and padding included.
    pub context: u16,
    /// How the linear steps' weights are packed.
    pub packing: Packing,
    /// Bytes of arena for one sequence.
    pub arena_bytes: u32,
    /// The hidden states, one row per token.
    pub hidden: Place,
    /// The pooled output, one row per sequence.
    pub pooled: Option<Place>,
    /// What CLIP multiplies cosines between texts and images with before the softmax: `exp` of the trained parameter,
    /// 100 in the published models. `None` where the model's files do not say.
    pub logit_scale: Option<f32>,
}

impl<'a> Manifest<'a> {
    /// Its section; `None` where a text is longer than [`TEXT`].
    pub fn section(&self) -> Option<heapless::Vec<u8, MANIFEST>> {
        if self.producer.len().max(self.source.len()) > TEXT {
            return None;
        }
        let mut buffer = [0; MANIFEST];
        let section = postcard::to_slice(self, &mut buffer).ok()?;
        heapless::Vec::from_slice(section).ok()
    }

    /// Reads its section; `None` where it is none. Each manifest has one section: numbers are as short as they can be.
    pub(super) fn of_section(section: &'a [u8]) -> Option<Self> {
        let manifest: Self = postcard::from_bytes(section).ok()?;
        (manifest.section()?[..] == *section).then_some(manifest)
    }
}
